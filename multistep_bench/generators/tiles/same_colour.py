"""The paper's variant "same colour": the indicators' colours decide, and their digits are distractors."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch

from multistep_bench.generators.base import Split
from multistep_bench.generators.sampling import integers
from multistep_bench.generators.tiles.canvas import RED_BLUE, Tile, noisy_tint
from multistep_bench.generators.tiles.tile_task import TEN, Labels
from multistep_bench.generators.tiles.two_step import FourTileParameters, FourTiles, Scene
from multistep_bench.registry import register_generator


class SameColourParameters(FourTileParameters):
    """source: name of an image source. classes: its classes in all four tiles, relabelled 0, 1, … in this order."""

    source: str = "mnist"
    classes: Labels = TEN


@register_generator("same_colour")
class SameColour(FourTiles):
    """Both indicators of one colour: the class of target A, otherwise the class of target B.

        +--------+--------+      +--------+--------+
        | red 7  | blue 4 |      | red 7  | blue 4 |
        +--------+--------+      +--------+--------+
        | red 9  | red 0  |      | red 9  | blue 0 |
        +--------+--------+      +--------+--------+
           same = 1: 4              same = 0: 9

    All four tiles are digits of any class, red (colour 0) or blue (1).
    """

    Parameters = SameColourParameters
    sources: ClassVar[Mapping[str, str]] = {"": "source"}
    answers: ClassVar[Sequence[tuple[str, str]]] = (("source", "classes"),)
    meaning = (
        "the indicators differ in colour: target B is asked for",
        "the indicators have one colour: target A is asked for",
    )

    def __init__(self, parameters: Mapping[str, Any], **settings: Any) -> None:
        super().__init__(parameters, **settings)
        self.digits = self.open(self.parameters.source, self.parameters.classes)

    @property
    def num_classes(self) -> int:
        return len(self.parameters.classes)

    def compose(self, same: torch.Tensor, split: Split, rng: torch.Generator) -> Scene:
        digits = self.digits[split]
        labels = integers(self.num_classes, len(same), 4, rng=rng)  # B, roles
        rows = digits.draw(labels, rng)
        colours = integers(2, len(same), 4, rng=rng)
        colours[:, 3] = torch.where(same, colours[:, 0], 1 - colours[:, 0])
        tint = noisy_tint(RED_BLUE, colours, rng)
        return Scene(
            tiles=[Tile(digits, rows[:, i], tint[:, i]) for i in range(4)],
            places=self.arrange(len(same), rng),
            answers=labels[:, [2, 1]],
            asked=("target_b", "target_a"),
            colours=colours,
        )
