"""The paper's variant "CIFAR indicators": photographs decide between a digit and a garment, all in random places."""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, ClassVar, Literal

import torch

from multistep_bench.errors import CardError
from multistep_bench.generators.base import Split
from multistep_bench.generators.sampling import integers
from multistep_bench.generators.tiles.canvas import RED_BLUE, Tile, noisy_tint
from multistep_bench.generators.tiles.tile_task import TEN, Groups, Labels
from multistep_bench.generators.tiles.two_step import FourTileParameters, FourTiles, Scene, indicator_labels
from multistep_bench.registry import register_generator


class TwoSourcesParameters(FourTileParameters):
    """indicator_source, a_source, b_source: names of image sources.
    indicator_groups: groups of source classes, all of one size; two indicators of one group count as the same.
    a_classes, b_classes: the source classes of either target, equally many, relabelled 0, 1, … in this order.
    """

    arrangement: Literal["fixed", "rows", "any"] = "any"
    indicator_source: str = "cifar10"
    indicator_groups: Groups = ((1,), (2,))
    a_source: str = "mnist"
    a_classes: Labels = TEN
    b_source: str = "fashion_mnist"
    b_classes: Labels = TEN


@register_generator("two_sources")
class TwoSources(FourTiles):
    """Both indicators of one group: the class of target A (a digit), otherwise that of target B (a garment).

        +------+------+      +------+------+
        | car  |  7   |      | bag  | car  |
        +------+------+      +------+------+
        | bag  | car  |      | bird |  7   |
        +------+------+      +------+------+
         same = 1: 7         same = 0: 8 (bag)

    Indicators keep their own colours, without noise (-1); both targets are red (0) or blue (1) at random.
    """

    Parameters = TwoSourcesParameters
    sources: ClassVar[Mapping[str, str]] = {
        "indicator": "indicator_source",
        "target_a": "a_source",
        "target_b": "b_source",
    }
    answers: ClassVar[Sequence[tuple[str, str]]] = (("a_source", "a_classes"), ("b_source", "b_classes"))

    def __init__(self, parameters: Mapping[str, Any], **settings: Any) -> None:
        super().__init__(parameters, **settings)
        p = self.parameters
        if len(p.a_classes) != len(p.b_classes):
            raise CardError(
                f"{len(p.a_classes)} a_classes and {len(p.b_classes)} b_classes of {self.id}: both answers share one"
                " set of labels, so give equally many"
            )
        self.indicators = self.open(p.indicator_source, tuple(chain(*p.indicator_groups)))
        self.a_targets = self.open(p.a_source, p.a_classes)
        self.b_targets = self.open(p.b_source, p.b_classes)

    @property
    def num_classes(self) -> int:
        return len(self.parameters.a_classes)

    def answer_name(self, token: int, steps: Mapping[str, int]) -> str:
        return self._answer(token, *self.answers[1 - steps["same"]])

    def compose(self, same: torch.Tensor, split: Split, rng: torch.Generator) -> Scene:
        indicators, a_targets, b_targets = self.indicators[split], self.a_targets[split], self.b_targets[split]
        photographs = indicators.draw(indicator_labels(self.parameters.indicator_groups, same, rng), rng)
        labels = integers(self.num_classes, len(same), 2, rng=rng)  # B, (A, B)
        a_rows = a_targets.draw(labels[:, 0], rng)
        b_rows = b_targets.draw(labels[:, 1], rng)
        colours = torch.full((len(same), 4), -1, dtype=torch.int64, device=rng.device)
        colours[:, 1:3] = integers(2, len(same), 2, rng=rng)
        tint = noisy_tint(RED_BLUE, colours[:, 1:3], rng)
        untinted = torch.ones(len(same), 3, dtype=torch.float32, device=rng.device)
        return Scene(
            tiles=(
                Tile(indicators, photographs[:, 0], untinted),
                Tile(a_targets, a_rows, tint[:, 0]),
                Tile(b_targets, b_rows, tint[:, 1]),
                Tile(indicators, photographs[:, 1], untinted),
            ),
            places=self.arrange(len(same), rng),
            answers=labels.flip(1),
            asked=("target_b", "target_a"),
            colours=colours,
        )
