"""In-context classification of images, whose labels are redrawn in every episode or fixed (after Chan et al. 2022)."""

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
import torch
from pydantic import Field, model_validator

from multistep_bench import seeds
from multistep_bench.batch import Batch
from multistep_bench.errors import CardError
from multistep_bench.generators.base import Split
from multistep_bench.generators.in_context.class_sampler import uniform_classes, zipf_classes
from multistep_bench.generators.in_context.drawings import SYMMETRIES, apply_symmetry, distinct_drawings
from multistep_bench.generators.in_context.episodes import EpisodeTask, arranged
from multistep_bench.generators.pool import Pool
from multistep_bench.generators.sampling import integers, shuffled, uniform
from multistep_bench.registry import register_generator
from multistep_bench.sources.images import open_source
from multistep_bench.strict import Strict

HELD_OUT = 4  # drawings of each training class kept for "in weights", where labels are fixed


class ImageEpisodeParameters(Strict):
    """source: name of an image source whose two splits hold different classes.
    pixels: height and width of an item; source images of another size are resized bilinearly.
    shots, ways: context items of each class, and classes.
    labels: L, at least `ways`; 0 means `ways`. Every episode deals distinct labels to its classes.
    symmetries: every class of the source counts as eight, one for each rotation and mirror image.
    fixed_labels: every training class has one label throughout, and evaluation deals the first `ways` of them.
    Training episodes are those of Chan et al.: with probability `bursty` the context holds shots − 1 items of each of
    `ways` classes and `ways` random items, and the query is of one of these classes; otherwise all items are random.
    Classes are drawn with frequencies 1 / rank^`zipf`; `seed` draws their ranks.
    """

    source: str = "characters"
    pixels: int = Field(default=28, ge=4, le=256)
    shots: int = Field(default=4, ge=1, le=256)
    ways: int = Field(default=2, ge=2, le=256)
    labels: int = Field(default=0, ge=0, le=10**5)
    symmetries: bool = True
    fixed_labels: bool = False
    bursty: float = Field(default=1.0, ge=0, le=1)
    zipf: float = Field(default=0.0, ge=0, le=100)
    seed: int = 0

    @model_validator(mode="after")
    def _consistent(self) -> "ImageEpisodeParameters":
        if not self.fixed_labels and (self.bursty, self.zipf, self.seed) != (1, 0, 0):
            raise ValueError("bursty, zipf and seed shape episodes of fixed labels; set fixed_labels = true with them")
        if self.labels and (self.fixed_labels or self.labels < self.ways):
            raise ValueError(
                f"labels {self.labels} cannot be dealt to {self.ways} classes that differ in label; give as many or"
                " more, or labels = 0 with fixed_labels = true, where there is one label a class"
            )
        if self.fixed_labels and self.shots < 2:
            raise ValueError(f"shots {self.shots}: a bursty context shows shots − 1 items of a class; give 2 or more")
        return self


@register_generator("image_episodes")
class ImageEpisodes(EpisodeTask):
    """`shots` images of each of `ways` classes in random order, then another image of one of these classes.

        items   |  あ  |  ग  |  ग  |  あ  |  ग′ |      2-shot, 2-way; match = 1
        labels  |  0   |  1  |  1  |  0  |  ?  |      → 1

    Classes are drawn without replacement, and no drawing comes twice in an episode, not even in another symmetry.
    Evaluation takes classes that training never shows and deals their labels anew in every episode, whether or not
    training does, so that only the context shows a label.

    With fixed labels the auxiliary curve "in weights" is on training classes that are not in the context, drawn with
    their frequencies; its queries are the `HELD_OUT` drawings of each class that training never shows.
    Further steps: "query_image" and "item_0_image" …, the number of each drawing in the source. The number of a class
    is 8 · (number in the source) + symmetry, or the number in the source without symmetries.
    """

    Parameters = ImageEpisodeParameters

    def __init__(self, parameters: Mapping[str, Any], **settings: Any) -> None:
        super().__init__(parameters, **settings)
        p = self.parameters
        self.pairs, self.ways = p.shots * p.ways, p.ways
        self.symmetries = SYMMETRIES if p.symmetries else 1
        self.pools = self._open()
        counts = {split: pool.on(torch.device("cpu")).counts for split, pool in self.pools.items()}
        self.drawings = {split: int(each.min()) for split, each in counts.items()}
        self.characters = {split: uniform_classes(len(each)) for split, each in counts.items()}
        self.dealt = self.num_labels = p.labels or p.ways
        if p.fixed_labels:
            self.drawings["train"] -= HELD_OUT
            self.num_labels = len(self.characters["train"].weights) * self.symmetries
            self.frequencies = zipf_classes(self.num_labels, p.zipf)
            rng = seeds.generator(seeds.derive("pool", "image_episodes", p.seed))
            self.class_of_label = torch.randperm(self.num_labels, generator=rng, dtype=torch.int64)
        self._check()

    def _open(self) -> dict[Split, Pool]:
        """The drawings of both splits, their classes numbered from 0 in the order of the source."""
        source = open_source(self.parameters.source, self.data_root)
        train, held_out = (set(split.labels.tolist()) for split in (source.train, source.eval))
        if train & held_out:
            raise CardError(
                f"source '{self.parameters.source}' of {self.id} trains and evaluates on the same classes, and episodes"
                " are scored on new ones; choose a source of characters, such as 'characters' or 'omniglot'"
            )
        tile, white = self.parameters.pixels, source.white
        return {
            "train": Pool(source.train, sorted(train), tile=tile, white=white),
            "eval": Pool(source.eval, sorted(held_out), tile=tile, white=white),
        }

    def _check(self) -> None:
        """Raises `CardError` unless both splits have the classes and drawings that an episode takes."""
        ways, items = self.ways, self.pairs + 1
        for split, sampler in self.characters.items():
            classes, drawings = len(sampler.weights), self.drawings[split]
            if classes < ways or drawings < items:
                raise CardError(
                    f"{ways} ways and {self.parameters.shots} shots of {self.id} need {ways} classes of {items}"
                    f" drawings, and '{self.parameters.source}' has {classes} of {drawings} for {split}; give fewer"
                )

    def item_space(self) -> gymnasium.spaces.Box:
        side = self.parameters.pixels
        shape = (self.pairs + 1, self.pools["train"].channels, side, side)
        return gymnasium.spaces.Box(0, 1, shape, np.float32)

    def draw(self, n: int, split: Split, rng: torch.Generator) -> Batch:
        if split == "train" and self.parameters.fixed_labels:
            return self._of_labels(self._training_labels(n, rng), rng)
        slots = arranged(n, self.ways, self.parameters.shots, rng)  # n, pairs + 1
        characters = self.characters[split].distinct(n, self.ways, rng)
        classes = characters * self.symmetries + integers(self.symmetries, n, self.ways, rng=rng)
        labels = shuffled(n, self.dealt, rng)
        return self._episodes(split, classes.gather(1, slots), labels.gather(1, slots), rng)

    def auxiliary(self, n: int, rng: torch.Generator) -> dict[str, Batch]:
        """With fixed labels: "in weights", n / 2 episodes."""
        if not self.parameters.fixed_labels:
            return {}
        half = max(1, n // 2)
        query = self.frequencies.draw(half, rng=rng)
        absent = query.view(half, 1, 1).expand(-1, self.pairs, -1)
        context = self.frequencies.draw(half, self.pairs, rng=rng, without=absent)
        return {"in weights": self._of_labels(torch.cat((context, query.unsqueeze(1)), 1), rng, unseen_query=True)}

    def _training_labels(self, n: int, rng: torch.Generator) -> torch.Tensor:
        """The labels of n training episodes, the query's last, [n, pairs + 1]: see `ImageEpisodeParameters`."""
        ways, repeats = self.ways, self.parameters.shots - 1
        bursty = uniform(n, 1, rng=rng) < self.parameters.bursty
        chosen = self.frequencies.distinct(n, ways, rng)
        anything = self.frequencies.draw(n, self.pairs + 1, rng=rng)
        repeated = torch.cat((chosen.repeat_interleave(repeats, 1), anything[:, :ways]), 1)  # n, pairs
        repeated = repeated.gather(1, shuffled(n, self.pairs, rng))
        asked = chosen.gather(1, integers(ways, n, 1, rng=rng))
        return torch.where(bursty, torch.cat((repeated, asked), 1), anything)

    def _of_labels(self, labels: torch.Tensor, rng: torch.Generator, *, unseen_query: bool = False) -> Batch:
        self.class_of_label = self.class_of_label.to(rng.device)
        return self._episodes("train", self.class_of_label[labels], labels, rng, unseen_query=unseen_query)

    def _episodes(
        self,
        split: Split,
        classes: torch.Tensor,
        labels: torch.Tensor,
        rng: torch.Generator,
        *,
        unseen_query: bool = False,
    ) -> Batch:
        """Episodes of these classes and labels [B, n + 1]; `unseen_query` takes held-out drawings for the queries."""
        pool, rows_of = self.pools[split], self.pools[split].on(rng.device)
        characters, symmetry = classes // self.symmetries, classes % self.symmetries
        rows = distinct_drawings(pool, characters, self.drawings[split], rng)
        if unseen_query:
            last = rows_of.first[characters[:, -1]] + self.drawings[split]
            rows[:, -1] = last + integers(HELD_OUT, len(rows), rng=rng)
        side = self.parameters.pixels
        images = rows_of.images.index_select(0, rows.flatten()).view(*rows.shape, pool.channels, side, side)
        shown = rows_of.labels[rows] * self.symmetries + symmetry
        batch = self.episodes(apply_symmetry(images, symmetry).float() / pool.white, shown, labels)
        numbers = rows_of.ids[rows]
        batch.steps["query_image"] = numbers[:, -1]
        batch.steps.update({f"item_{i}_image": numbers[:, i] for i in range(self.pairs)})
        return batch
