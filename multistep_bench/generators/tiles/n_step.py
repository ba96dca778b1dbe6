"""A chain of two, three or four steps: each comparison says where the next one is made."""

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import Field

from multistep_bench.batch import Batch
from multistep_bench.cards import Levels
from multistep_bench.generators.base import Split
from multistep_bench.generators.sampling import expected_largest_count, integers
from multistep_bench.generators.tiles.canvas import RED_BLUE, WHITE, Grid, Tile, noisy_tint
from multistep_bench.generators.tiles.tile_task import TEN, Labels, TileParameters, TileTask
from multistep_bench.registry import register_generator


class NStepParameters(TileParameters):
    """steps: length k of the chain, its last step being to classify the target.
    indicator_source, target_source: names of image sources.
    indicator_classes: source classes of the indicators.
    target_classes: source classes that targets come from, relabelled 0, 1, … in this order.
    """

    steps: int = Field(default=3, ge=2, le=4)
    indicator_source: str = "mnist"
    target_source: str = "fashion_mnist"
    indicator_classes: Labels = (1, 2)
    target_classes: Labels = TEN


@register_generator("n_step")
class NStep(TileTask):
    """k steps: k − 1 comparisons lead down a binary tree of tiles to a target, which is classified.

    Tile i (row by row) has the children 2i and 2i + 1: tile 0 is the reference, tiles 1 … L − 1 are indicators and
    tiles L … 2L − 1 the L = 2^(k−1) targets. The walk starts at tile 1. If an indicator shows the class of its parent,
    tile ⌊i/2⌋, the walk goes on to tile 2i, otherwise to tile 2i + 1. The target it ends at is asked for.

        +------+------+------+------+
        |  1   |  1   |  1   |  2   |      k = 3: tile 1 shows 1 like tile 0 (same_1 = 1), so on to tile 2;
        +------+------+------+------+      tile 2 shows 1 like tile 1 (same_2 = 1), so on to tile 4: coat
        | coat | bag  | boot | shirt|
        +------+------+------+------+

    Every comparison is a fair coin, also off the walk. With k = 2 this is the two-step task with rearranged tiles.
    Indicators are red (colour 0) or blue (1) at random; targets are white.
    Steps, [B] each: "visited_1" … are the indicators along the walk, "same_1" … the comparisons made there,
    "target_location" the tile it ends at; and for each region its source class, the number of its image there and, for
    the reference and the indicators, its colour: "indicator_1_class", "indicator_1_image", "indicator_1_colour".
    """

    Parameters = NStepParameters

    def __init__(self, parameters: Mapping[str, Any], **settings: Any) -> None:
        super().__init__(parameters, **settings)
        p = self.parameters
        self.leaves = 2 ** (p.steps - 1)
        self.grid = Grid(2 ** (p.steps // 2), 2 ** (p.steps - p.steps // 2), p.tile)
        self.indicators = self.open(p.indicator_source, p.indicator_classes)
        self.targets = self.open(p.target_source, p.target_classes)

    @property
    def num_classes(self) -> int:
        return len(self.parameters.target_classes)

    @property
    def regions(self) -> list[str]:
        indicators = [f"indicator_{i}" for i in range(1, self.leaves)]
        return ["reference", *indicators, *(f"target_{i}" for i in range(1, self.leaves + 1))]

    def in_words(self, steps: Mapping[str, int]) -> list[str]:
        names = [name.replace("_", " ") for name in self.regions]
        lines = []
        for step in range(1, self.parameters.steps):
            here, z = steps[f"visited_{step}"], steps[f"same_{step}"]
            likeness = "is like" if z else "differs from"
            lines.append(f"{names[here]} {likeness} {names[here // 2]}: on to {names[2 * here + 1 - z]}")
        return lines

    def accuracy_without(self, missing: int) -> float:
        """The best accuracy of a model that knows all comparisons but `missing` of them.

        It has c = 2^missing equally likely targets left, whose labels are independent and uniform over K classes,
        and names the most frequent of them: right with probability s = E[largest count] / c before label noise
        (`expected_largest_count`), s·(1 − η) + (1 − s)·η/(K − 1) after it.
        """
        noise, k = self.parameters.label_noise, self.num_classes
        share = expected_largest_count(2**missing, k) / 2**missing
        return share * (1 - noise) + (1 - share) * noise / (k - 1)

    def levels(self) -> Levels:
        """chance = 1/K, shortcut = `accuracy_without(k − 1)` (no comparison known), ceiling = `accuracy_without(0)`.

        A model that learns the chain step by step plateaus at `accuracy_without(k − 2)` … `accuracy_without(1)`.
        """
        return Levels(
            chance=1 / self.num_classes,
            shortcut=self.accuracy_without(self.parameters.steps - 1),
            ceiling=self.accuracy_without(0),
        )

    def draw(self, n: int, split: Split, rng: torch.Generator) -> Batch:
        indicators, targets = self.indicators[split], self.targets[split]
        leaves, classes = self.leaves, len(self.parameters.indicator_classes)
        same = integers(2, n, leaves, rng=rng)  # B, tiles; that of the reference is not used
        shown = integers(classes, n, leaves, rng=rng)  # B, tiles; the reference keeps its class
        other = 1 + integers(classes - 1, n, leaves, rng=rng)
        for i in range(1, leaves):
            shown[:, i] = (shown[:, i // 2] + (1 - same[:, i]) * other[:, i]) % classes
        digits = indicators.draw(shown, rng)
        colours = integers(2, n, leaves, rng=rng)
        tint = noisy_tint(RED_BLUE, colours, rng)
        labels = integers(self.num_classes, n, leaves, rng=rng)
        garments = targets.draw(labels, rng)
        white = noisy_tint(WHITE, torch.zeros_like(labels), rng)
        tiles = [Tile(indicators, digits[:, i], tint[:, i]) for i in range(leaves)]
        tiles += [Tile(targets, garments[:, i], white[:, i]) for i in range(leaves)]

        steps = self._walk(same)
        answer = labels.gather(1, steps["target_location"].unsqueeze(1) - leaves).squeeze(1)
        for i, (region, tile) in enumerate(zip(self.regions, tiles, strict=True)):
            steps |= tile.steps(region)
            if i < leaves:
                steps[f"{region}_colour"] = colours[:, i]
        places = torch.arange(2 * leaves, dtype=torch.int64, device=rng.device).expand(n, -1).unbind(1)
        return self.batch(self.grid.paint(tiles, places), answer, steps, rng)

    def _walk(self, same: torch.Tensor) -> dict[str, torch.Tensor]:
        """The comparisons along the walk and the tiles it visits, from the comparisons at all tiles, [B, L]."""
        steps: dict[str, torch.Tensor] = {}
        visited = torch.ones(len(same), dtype=torch.int64, device=same.device)
        for step in range(1, self.parameters.steps):
            steps[f"visited_{step}"] = visited
            steps[f"same_{step}"] = z = same.gather(1, visited.unsqueeze(1)).squeeze(1)
            visited = 2 * visited + 1 - z
        return steps | {"target_location": visited}
