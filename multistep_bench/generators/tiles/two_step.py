"""What the two-step image tasks share: tiles on a 2×2 grid, and z, which decides between two answers."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field

from multistep_bench.batch import Batch
from multistep_bench.cards import Levels
from multistep_bench.generators.base import Split
from multistep_bench.generators.sampling import integers, shuffled, uniform
from multistep_bench.generators.tiles.canvas import Grid, Tile
from multistep_bench.generators.tiles.tile_task import TileParameters, TileTask
from multistep_bench.strict import Strict

PLACES = ("top_left", "top_right", "bottom_left", "bottom_right")


class TwoStepParameters(TileParameters):
    """same_probability: P(z = 1). The paper's copy probability q gives (1 + q) / 2 with two indicator classes."""

    same_probability: float = Field(default=0.5, gt=0, lt=1)


class FourTileParameters(TwoStepParameters):
    """arrangement: "fixed": indicator 1 top left, target A top right, target B bottom left, indicator 2 bottom right;
    "rows": in each row the two tiles swap sides with probability ½, independently; "any": all four in random places.
    """

    arrangement: Literal["fixed", "rows", "any"] = "fixed"


@dataclass(frozen=True)
class Scene:
    """B samples before they are painted.

    tiles:   one for each role. places: where it stands, 0–3 row by row, [B, roles].
    answers: [B, 2], the label if z = 0 and the label if z = 1.
    asked:   the role of the tile that shows each of these two labels.
    colours: the number of each role's colour in the rule's palette, [B, roles]; -1 for a tile without one.
    """

    tiles: Sequence[Tile]
    places: torch.Tensor
    answers: torch.Tensor
    asked: tuple[str, str]
    colours: torch.Tensor


class TwoStep(TileTask):
    """The image shows two answers, and z, "same", says which one is asked for; a subclass writes `compose`.

    Steps, [B] each: "same" is z; "target_location" the place (0–3, row by row) of the tile that is asked for;
    "answer_other" and "answer_same" the labels for z = 0 and z = 1, before label noise; and for each role its class
    in the source, the number of its image there, its place and its colour (-1: none): "target_a_class",
    "target_a_image", "target_a_place", "target_a_colour". meaning: what z = 0 and z = 1 say, in words.
    """

    Parameters: ClassVar[type[Strict]] = TwoStepParameters
    meaning: ClassVar[tuple[str, str]] = (
        "the indicators differ: target B is asked for",
        "the indicators are alike: target A is asked for",
    )
    roles: ClassVar[tuple[str, ...]] = ("indicator_1", "target_a", "target_b", "indicator_2")

    def __init__(self, parameters: Mapping[str, Any], **settings: Any) -> None:
        super().__init__(parameters, **settings)
        self.grid = Grid(2, 2, self.parameters.tile)

    @abstractmethod
    def compose(self, same: torch.Tensor, split: Split, rng: torch.Generator) -> Scene:
        """Tiles and answers of samples whose z is `same` [B] bool."""

    @property
    def regions(self) -> tuple[str, ...]:
        return PLACES

    def in_words(self, steps: Mapping[str, int]) -> list[str]:
        return [self.meaning[steps["same"]]]

    def levels(self) -> Levels:
        """With K classes, π = max(P(z = 1), 1 − P(z = 1)), label noise η and independent uniform answers:

        chance = 1/K, ceiling = 1 − η, shortcut = π·(1 − η) + (1 − π)·(1/K): a model that ignores z always gives the
        answer that is asked for more often. Where the other one is asked for, it is right by chance.
        """
        share = max(self.parameters.same_probability, 1 - self.parameters.same_probability)
        chance = 1 / self.num_classes
        ceiling = 1 - self.parameters.label_noise
        return Levels(chance=chance, shortcut=share * ceiling + (1 - share) * chance, ceiling=ceiling)

    def draw(self, n: int, split: Split, rng: torch.Generator) -> Batch:
        same = uniform(n, rng=rng) < self.parameters.same_probability
        scene = self.compose(same, split, rng)
        places = dict(zip(self.roles, scene.places.unbind(1), strict=True))
        if_other, if_same = scene.asked
        answer_other, answer_same = scene.answers.unbind(1)
        steps = {
            "same": same.long(),
            "target_location": torch.where(same, places[if_same], places[if_other]),
            "answer_other": answer_other,
            "answer_same": answer_same,
        }
        for role, tile, colour in zip(self.roles, scene.tiles, scene.colours.unbind(1), strict=True):
            steps |= tile.steps(role)
            steps |= {f"{role}_place": places[role], f"{role}_colour": colour}
        images = self.grid.paint(scene.tiles, list(places.values()))
        return self.batch(images, torch.where(same, answer_same, answer_other), steps, rng)


class FourTiles(TwoStep):
    """A two-step task of two indicators and two targets in an arrangement of `FourTileParameters`."""

    Parameters: ClassVar[type[Strict]] = FourTileParameters

    @property
    def regions(self) -> tuple[str, ...]:
        return self.roles if self.parameters.arrangement == "fixed" else PLACES

    def arrange(self, n: int, rng: torch.Generator) -> torch.Tensor:
        """The place of each role, 0–3 row by row, [n, 4]."""
        fixed = torch.arange(4, dtype=torch.int64, device=rng.device).expand(n, 4)
        if self.parameters.arrangement == "any":
            return shuffled(n, 4, rng)
        if self.parameters.arrangement == "rows":
            swap = integers(2, n, 2, rng=rng).repeat_interleave(2, dim=1)
            return fixed ^ swap  # the two places of a row differ in the lowest bit
        return fixed


def indicator_labels(groups: Sequence[Sequence[int]], same: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Two indicators, [B, 2], numbered along the flattened groups: of one group where `same` [B], else of two."""
    n, members = len(same), len(groups[0])
    first = integers(len(groups), n, rng=rng)
    other = (first + 1 + integers(len(groups) - 1, n, rng=rng)) % len(groups)
    group = torch.stack((first, torch.where(same, first, other)), 1)
    return group * members + integers(members, n, 2, rng=rng)
