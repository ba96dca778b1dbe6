"""What all tasks on a grid of tiles share: sources, description and label noise."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, ClassVar

import gymnasium
import torch
from pydantic import AfterValidator, Field

from multistep_bench.batch import Batch, TaskInfo
from multistep_bench.errors import CardError
from multistep_bench.generators.base import Split, TaskGenerator
from multistep_bench.generators.pool import Pool
from multistep_bench.generators.sampling import integers, uniform
from multistep_bench.generators.tiles.canvas import Grid
from multistep_bench.sources.images import open_source
from multistep_bench.strict import Strict


def _of_one_size(groups: tuple[tuple[int, ...], ...]) -> tuple[tuple[int, ...], ...]:
    if len({len(group) for group in groups}) > 1:
        raise ValueError("the groups differ in size; give each as many classes")
    return groups


Classes = Annotated[tuple[int, ...], Field(strict=False, min_length=1)]  # TOML and JSON give a list
Labels = Annotated[tuple[int, ...], Field(strict=False, min_length=2)]
Groups = Annotated[tuple[Classes, ...], Field(strict=False, min_length=2), AfterValidator(_of_one_size)]
TEN: tuple[int, ...] = tuple(range(10))


class TileParameters(Strict):
    """label_noise: probability η that a target is replaced by a uniform other class.
    tile: height and width of a tile in pixels; source images of another size are resized bilinearly.
    """

    label_noise: float = Field(default=0.0, ge=0, lt=1)
    tile: int = Field(default=28, ge=4, le=512)


class TileTask(TaskGenerator):
    """Labelled images of K classes on a grid of tiles. A subclass sets `grid` and writes `regions`,
    `num_classes`, `levels` and `draw`.
    """

    Parameters: ClassVar[type[Strict]] = TileParameters
    # What a person reads: the parameter that names the source of the tiles whose role begins so, the sources and
    # classes that answers number, and the colours that steps number.
    sources: ClassVar[Mapping[str, str]] = {
        "indicator": "indicator_source",
        "reference": "indicator_source",
        "target": "target_source",
    }
    answers: ClassVar[Sequence[tuple[str, str]]] = (("target_source", "target_classes"),)
    colours: ClassVar[Sequence[str]] = ("red", "blue")
    class_names: Mapping[str, Sequence[str]] = MappingProxyType({})  # by source
    grid: Grid

    @property
    @abstractmethod
    def num_classes(self) -> int:
        """Number of labels K."""

    @property
    @abstractmethod
    def regions(self) -> Sequence[str]:
        """A name for each place of the grid, row by row."""

    def open(self, source: str, classes: Sequence[int]) -> dict[Split, Pool]:
        """The pools of both splits of a source; `classes` are relabelled 0, 1, … in this order.

        Raises `DataError` where files are missing or broken, and `CardError` unless `classes` are distinct classes
        of the source.
        """
        opened = open_source(source, self.data_root)
        self.class_names = {**self.class_names, source: opened.classes}
        last = len(opened.classes) - 1
        if len(set(classes)) != len(classes) or not all(0 <= c <= last for c in classes):
            raise CardError(
                f"classes {list(classes)} of {self.id} are not distinct classes of '{source}'; choose from 0..{last}"
            )
        return {
            "train": Pool(opened.train, classes, tile=self.grid.tile, white=opened.white),
            "eval": Pool(opened.eval, classes, tile=self.grid.tile, white=opened.white),
        }

    def token_name(self, token: int) -> str:
        """The class that an answer names, such as "sandal"; where an answer may mean one of two things, both."""
        return " or ".join(dict.fromkeys(self._answer(token, *where) for where in self.answers))

    def answer_name(self, token: int, steps: Mapping[str, int]) -> str:
        """`token_name` of one sample's answer, where its steps leave one of two meanings."""
        return self.token_name(token)

    def _answer(self, token: int, source: str, classes: str) -> str:
        number: int = getattr(self.parameters, classes)[token]
        return self.class_names[getattr(self.parameters, source)][number]

    def tile_name(self, role: str, steps: Mapping[str, int]) -> str:
        """What the tile of a role shows, in words: "sandal", "7, red"."""
        parameter = next(name for prefix, name in self.sources.items() if role.startswith(prefix))
        shown = self.class_names[getattr(self.parameters, parameter)][steps[f"{role}_class"]]
        colour = steps.get(f"{role}_colour", -1)
        return shown if colour < 0 else f"{shown}, {self.colours[colour]}"

    def in_words(self, steps: Mapping[str, int]) -> list[str]:
        """What the intermediate steps of one sample say, in words."""
        return []

    def describe(self) -> TaskInfo:
        return TaskInfo(
            id=self.id,
            observation_space=self.grid.space(),
            target_space=gymnasium.spaces.Discrete(self.num_classes),
            num_classes=self.num_classes,
            kind="image",
            layout=self.grid.layout(self.regions),
            size=self.size,
            steps=tuple(self.draw(1, "eval", torch.Generator().manual_seed(0)).steps),
            **self.levels().model_dump(),
        )

    def batch(
        self, images: torch.Tensor, answers: torch.Tensor, steps: dict[str, torch.Tensor], rng: torch.Generator
    ) -> Batch:
        """The batch of images [B, 3, H, W] with these answers [B], under the task's label noise."""
        noise, k = self.parameters.label_noise, self.num_classes
        if noise > 0:
            wrong = uniform(len(answers), rng=rng) < noise
            other = (answers + 1 + integers(k - 1, len(answers), rng=rng)) % k
            answers = torch.where(wrong, other, answers)
        return Batch(inputs=images, targets=answers, steps=steps)
