"""The paper's main task: two digits say which of two garments is to be classified."""

from collections.abc import Mapping
from itertools import chain
from typing import Any

import torch

from multistep_bench.generators.base import Split
from multistep_bench.generators.sampling import integers
from multistep_bench.generators.tiles.canvas import RED_BLUE, WHITE, Tile, noisy_tint
from multistep_bench.generators.tiles.tile_task import TEN, Groups, Labels
from multistep_bench.generators.tiles.two_step import FourTileParameters, FourTiles, Scene, indicator_labels
from multistep_bench.registry import register_generator


class IndicatorParameters(FourTileParameters):
    """indicator_source, target_source: names of image sources.
    indicator_groups: groups of source classes, all of one size; two indicators of one group count as the same.
    target_classes: source classes that targets come from, relabelled 0, 1, … in this order.
    coloured: whether indicators are red or blue; if not, they are white like the targets.
    """

    indicator_source: str = "mnist"
    target_source: str = "fashion_mnist"
    indicator_groups: Groups = ((1,), (2,))
    target_classes: Labels = TEN
    coloured: bool = True


@register_generator("indicator")
class Indicator(FourTiles):
    """Both indicators of one group: the class of target A, otherwise the class of target B.

        +------+------+      +------+------+
        |  1   | bag  |      |  1   | bag  |
        +------+------+      +------+------+
        | coat |  1   |      | coat |  2   |
        +------+------+      +------+------+
         same = 1: bag       same = 0: coat

    Indicators are red (colour 0) or blue (1) at random, a distractor, unless `coloured` is off; targets are white (-1).
    """

    Parameters = IndicatorParameters

    def __init__(self, parameters: Mapping[str, Any], **settings: Any) -> None:
        super().__init__(parameters, **settings)
        p = self.parameters
        self.indicators = self.open(p.indicator_source, tuple(chain(*p.indicator_groups)))
        self.targets = self.open(p.target_source, p.target_classes)

    @property
    def num_classes(self) -> int:
        return len(self.parameters.target_classes)

    def compose(self, same: torch.Tensor, split: Split, rng: torch.Generator) -> Scene:
        indicators, targets = self.indicators[split], self.targets[split]
        digits = indicators.draw(indicator_labels(self.parameters.indicator_groups, same, rng), rng)
        labels = integers(self.num_classes, len(same), 2, rng=rng)  # B, (A, B)
        garments = targets.draw(labels, rng)
        colours = torch.full((len(same), 4), -1, dtype=torch.int64, device=rng.device)
        if self.parameters.coloured:
            colours[:, [0, 3]] = integers(2, len(same), 2, rng=rng)
        tint = noisy_tint((*RED_BLUE, *WHITE), colours[:, [0, 3]], rng)  # colour -1 is the last, white
        white = noisy_tint(WHITE, torch.zeros_like(labels), rng)
        return Scene(
            tiles=(
                Tile(indicators, digits[:, 0], tint[:, 0]),
                Tile(targets, garments[:, 0], white[:, 0]),
                Tile(targets, garments[:, 1], white[:, 1]),
                Tile(indicators, digits[:, 1], tint[:, 1]),
            ),
            places=self.arrange(len(same), rng),
            answers=labels.flip(1),
            asked=("target_b", "target_a"),
            colours=colours,
        )
