"""Compositional recall: a value that two keys name together, and neither alone."""

import gymnasium
import numpy as np
import torch
from pydantic import Field, model_validator

from multistep_bench.batch import Batch, TaskInfo
from multistep_bench.cards import Levels
from multistep_bench.generators.base import Split, TaskGenerator
from multistep_bench.generators.sampling import integers, shuffled
from multistep_bench.registry import register_generator
from multistep_bench.strict import Strict


class CompositionalRecallParameters(Strict):
    """side: a, the number of first keys in a sequence, and of second keys; it holds P = a² entries.
    keys: K, the number of first keys in the vocabulary, and of second keys.
    values: V, the number of values in the vocabulary; those of a sequence are distinct.
    """

    side: int = Field(default=2, ge=2, le=64)
    keys: int = Field(default=6, ge=2, le=10**4)
    values: int = Field(default=16, ge=4, le=10**4)

    @model_validator(mode="after")
    def _distinct(self) -> "CompositionalRecallParameters":
        if self.keys < self.side:
            raise ValueError(
                f"keys {self.keys} is below side {self.side}: the first keys of a sequence are distinct, and so are"
                " the second ones; ask for more keys or a smaller side"
            )
        if self.values < self.side**2:
            raise ValueError(
                f"values {self.values} is below side² = {self.side**2}: the values of a sequence are distinct;"
                " ask for more values or a smaller side"
            )
        return self


@register_generator("compositional_recall")
class CompositionalRecall(TaskGenerator):
    """P = a² entries (first key, second key, value) in random order, one for every two keys; the value of two is asked.

        entries                            query
        f2 s0 7   f5 s3 1   f5 s0 4   f2 s3 9   f5 s0      → 4, read at the last token

    After the compositional variant of associative recall in Arora et al. (2023, arXiv 2312.04927). The a first keys
    are drawn from K, the a second keys from K others and the values from V, each without replacement; the query is
    uniform. Tokens 0 … V − 1 are the values, then come K first keys, then K second ones.
    Step "match", [B]: which entry of the context, counted from 0, has both keys.
    """

    Parameters = CompositionalRecallParameters

    def levels(self) -> Levels:
        """chance = 1/V; shortcut = 1/a, a value beside one of the two keys; ceiling = 1.

        Naming any value of the context is right with probability 1/a²: a first, lower plateau. The a values beside the
        query's first key are equally likely to those who do not read its second key, and the other way round.
        """
        p = self.parameters
        return Levels(chance=1 / p.values, shortcut=1 / p.side, ceiling=1.0)

    def describe(self) -> TaskInfo:
        p = self.parameters
        entries = 3 * p.side**2
        return TaskInfo(
            id=self.id,
            observation_space=gymnasium.spaces.Box(0, p.values + 2 * p.keys - 1, (entries + 2,), np.int64),
            target_space=gymnasium.spaces.Discrete(p.values),
            num_classes=p.values,
            kind="tokens",
            layout={"entries": (0, 0, 1, entries), "query": (0, entries, 1, 2)},
            size=self.size,
            steps=("match",),
            **self.levels().model_dump(),
        )

    def draw(self, n: int, split: Split, rng: torch.Generator) -> Batch:
        values = shuffled(n, self.parameters.values, rng)[:, : self.parameters.side**2]
        return self._entries(values, rng)

    def auxiliary(self, n: int, rng: torch.Generator) -> dict[str, Batch]:
        """Contexts in which one key alone names the value, since all values beside it are equal; n / 4 items each.

        Named "first key" and "second key" by this key. Matching one of the keys is right on one of the two.
        """
        side, few = self.parameters.side, -(-n // 4)
        of_key = [shuffled(few, self.parameters.values, rng)[:, :side].unsqueeze(dim) for dim in (2, 1)]
        return {
            f"{name} key": self._entries(values.expand(few, side, side).flatten(1), rng)
            for name, values in zip(("first", "second"), of_key, strict=True)
        }

    def token_name(self, token: int) -> str:
        """A value as its number, a first key as "f0" and a second key as "s0"."""
        p = self.parameters
        if token < p.values:
            return str(token)
        second, number = divmod(token - p.values, p.keys)
        return f"{'fs'[second]}{number}"

    def _entries(self, values: torch.Tensor, rng: torch.Generator) -> Batch:
        """One sample for each row of values [B, a²], which belong to the keys (0, 0), (0, 1), … in this order."""
        p, n = self.parameters, len(values)
        first = p.values + shuffled(n, p.keys, rng)[:, : p.side]
        second = p.values + p.keys + shuffled(n, p.keys, rng)[:, : p.side]
        order = shuffled(n, p.side**2, rng)  # n, a²: the number of the entry at every place
        tokens = (first.gather(1, order // p.side), second.gather(1, order % p.side), values.gather(1, order))
        match = integers(p.side**2, n, 1, rng=rng)
        asked = [each.gather(1, match) for each in tokens]  # first key, second key, value; n, 1 each
        inputs = torch.cat((torch.stack(tokens, 2).flatten(1), asked[0], asked[1]), 1)
        return Batch(inputs, asked[2].squeeze(1), {"match": match.squeeze(1)})
