"""The paper's variant "position as indicator": where the two garments stand decides which one is asked for."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch

from multistep_bench.generators.base import Split
from multistep_bench.generators.sampling import integers
from multistep_bench.generators.tiles.canvas import WHITE, Tile, noisy_tint
from multistep_bench.generators.tiles.tile_task import TEN, Labels
from multistep_bench.generators.tiles.two_step import Scene, TwoStep, TwoStepParameters
from multistep_bench.registry import register_generator


class PositionParameters(TwoStepParameters):
    """target_source: name of an image source.
    target_classes: its classes in the tiles, relabelled 0, 1, … in this order.
    """

    target_source: str = "fashion_mnist"
    target_classes: Labels = TEN


@register_generator("position")
class Position(TwoStep):
    """One garment above the other: the class of the upper one (A), otherwise that of the lower one (B).

        +------+------+      +------+------+
        |      | bag  |      | bag  |      |
        +------+------+      +------+------+
        |      | coat |      |      | coat |
        +------+------+      +------+------+
         same = 1: bag       same = 0: coat

    "same": both stand in one column. Both columns are equally frequent, and so are both diagonals.
    """

    Parameters = PositionParameters
    meaning = (
        "the two stand in a diagonal: the lower one is asked for",
        "one stands above the other: the upper one is asked for",
    )
    roles: ClassVar[tuple[str, ...]] = ("target_a", "target_b")

    def __init__(self, parameters: Mapping[str, Any], **settings: Any) -> None:
        super().__init__(parameters, **settings)
        self.targets = self.open(self.parameters.target_source, self.parameters.target_classes)

    @property
    def num_classes(self) -> int:
        return len(self.parameters.target_classes)

    def compose(self, same: torch.Tensor, split: Split, rng: torch.Generator) -> Scene:
        targets = self.targets[split]
        labels = integers(self.num_classes, len(same), 2, rng=rng)  # B, (A, B)
        rows = targets.draw(labels, rng)
        white = noisy_tint(WHITE, torch.zeros_like(labels), rng)
        column = integers(2, len(same), rng=rng)
        return Scene(
            tiles=[Tile(targets, rows[:, i], white[:, i]) for i in range(2)],
            places=torch.stack((column, 2 + torch.where(same, column, 1 - column)), 1),
            answers=labels.flip(1),
            asked=("target_b", "target_a"),
            colours=torch.full_like(labels, -1),
        )
