"""What all episodes share: a context of items with their labels, then a query item without one."""

from abc import abstractmethod

import gymnasium
import numpy as np
import torch

from multistep_bench.batch import Batch, TaskInfo
from multistep_bench.cards import Levels
from multistep_bench.generators.base import TaskGenerator
from multistep_bench.generators.sampling import integers, shuffled


class EpisodeTask(TaskGenerator):
    """A context of n items with labels, then a query item of one of their classes, whose label is asked for.

        items   |  ♣  |  ♠  |  ♥  |  ♠′ |      match = 1: the query is another drawing of item 1's class
        labels  |  2  |  0  |  1  |  ?  |      → 0

    A subclass sets `pairs` (n), `ways` (the classes in the context of an evaluated episode) and `num_labels`, and
    writes `item_space` and `draw`, whose batches `episodes` makes.
    Steps, [B] each: z is "match", the first context item of the query's class (-1 where there is none);
    "query_class" and "item_0_class" … are the classes of all items, so every item of the query's class is known.
    """

    pairs: int
    ways: int
    num_labels: int

    @abstractmethod
    def item_space(self) -> gymnasium.spaces.Box:
        """The space of the n + 1 items of an episode."""

    def levels(self) -> Levels:
        """chance = 1/L; shortcut = 1/ways; ceiling = 1.

        A model that matches nothing can at best name one of the labels in the context. They are distinct and equally
        likely, so it is right once in `ways` times, at a cross-entropy of log(ways) nats.
        """
        return Levels(chance=1 / self.num_labels, shortcut=1 / self.ways, ceiling=1.0)

    def describe(self) -> TaskInfo:
        n = self.pairs
        return TaskInfo(
            id=self.id,
            observation_space=gymnasium.spaces.Dict(
                items=self.item_space(), labels=gymnasium.spaces.Box(0, self.num_labels - 1, (n,), np.int64)
            ),
            target_space=gymnasium.spaces.Discrete(self.num_labels),
            num_classes=self.num_labels,
            kind="episode",
            layout={"context": (0, 0, 1, 2 * n), "query": (0, 2 * n, 1, 1)},
            size=self.size,
            steps=tuple(self.draw(1, "eval", torch.Generator().manual_seed(0)).steps),
            **self.levels().model_dump(),
        )

    def episodes(self, items: torch.Tensor, classes: torch.Tensor, labels: torch.Tensor) -> Batch:
        """The batch of items [B, n + 1, …] with their classes and labels [B, n + 1], the query's last."""
        same = classes[:, :-1] == classes[:, -1:]
        first = same.int().argmax(1)  # of several equal maxima torch gives the first
        steps = {"match": torch.where(same.any(1), first, -1), "query_class": classes[:, -1]}
        steps |= {f"item_{i}_class": classes[:, i] for i in range(self.pairs)}
        inputs = {"items": items, "labels": labels[:, :-1].contiguous()}
        return Batch(inputs, labels[:, -1].contiguous(), steps)


def arranged(n: int, ways: int, copies: int, rng: torch.Generator) -> torch.Tensor:
    """n contexts of `copies` items of each of `ways` classes in random order, then a query of one of these classes.

    Class numbers 0 … ways − 1, [n, ways·copies + 1].
    """
    context = shuffled(n, ways * copies, rng) // copies
    return torch.cat((context, integers(ways, n, 1, rng=rng)), 1)
