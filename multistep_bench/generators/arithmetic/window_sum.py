"""Window sum: at every position, the sum of the last two tokens modulo p."""

import gymnasium
import numpy as np
import torch
from pydantic import Field

from multistep_bench.batch import IGNORED, Batch, TaskInfo
from multistep_bench.cards import Levels
from multistep_bench.generators.base import Split, TaskGenerator
from multistep_bench.generators.sampling import expected_largest_count, integers
from multistep_bench.registry import register_generator
from multistep_bench.strict import Strict


class WindowSumParameters(Strict):
    """modulus: p, the numbers are 0 … p − 1. tokens: n, the length of a sequence."""

    modulus: int = Field(default=17, ge=2, le=10**4)
    tokens: int = Field(default=16, ge=2, le=4096)


@register_generator("window_sum")
class WindowSum(TaskGenerator):
    """n uniform numbers below p; the answer at each is the sum of it and the one before, modulo p.

        inputs    5  9  1 13  2          p = 17
        targets   5 14 10 14 15          yᵢ = (xᵢ₋₁ + xᵢ) mod p; the first is copied, y₁ = x₁

    After Gopalani and Hu (2025, arXiv 2506.13688). Training asks for every position, the score counts positions
    i ≥ 2. One layer with one head can solve it: attend to the token before, then add.
    Step "neighbour", [B]: xₙ₋₁, the number to add at the last position.
    """

    Parameters = WindowSumParameters

    def levels(self) -> Levels:
        """chance = shortcut = 1/p at i ≥ 2; ceiling = 1.

        The sum is uniform to those who lack one of its two numbers. Adding the most frequent of all earlier numbers
        needs the sum but not the position, and gives `any_earlier`, which is still far below the threshold. With the
        first position, which is easy to copy, the plateau of Gopalani and Hu stands at (1 + (n − 1)/p)/n.
        """
        p = self.parameters
        return Levels(chance=1 / p.modulus, shortcut=1 / p.modulus, ceiling=1.0)

    @property
    def any_earlier(self) -> float:
        """Accuracy at i ≥ 2 of adding the most frequent of the i − 1 earlier numbers: each may be the neighbour.

        The mean over i of E[largest count of i − 1 uniform numbers]/(i − 1).
        """
        p = self.parameters
        earlier = range(1, p.tokens)
        return sum(expected_largest_count(count, p.modulus) / count for count in earlier) / len(earlier)

    def describe(self) -> TaskInfo:
        p = self.parameters
        return TaskInfo(
            id=self.id,
            observation_space=gymnasium.spaces.Box(0, p.modulus - 1, (p.tokens,), np.int64),
            target_space=gymnasium.spaces.Box(IGNORED, p.modulus - 1, (p.tokens,), np.int64),
            num_classes=p.modulus,
            kind="tokens",
            layout={"first": (0, 0, 1, 1), "sums": (0, 1, 1, p.tokens - 1)},
            size=self.size,
            steps=("neighbour",),
            **self.levels().model_dump(),
        )

    def draw(self, n: int, split: Split, rng: torch.Generator) -> Batch:
        batch = self._sums(n, rng)
        if split == "eval":
            batch.targets[:, 0] = IGNORED
        return batch

    def questions(self, n: int, *, split: Split, rng: torch.Generator) -> Batch:
        """Samples that ask at the last position alone, as the step says it, in either split."""
        batch = self._sums(n, rng)
        batch.targets[:, :-1] = IGNORED
        return batch

    def auxiliary(self, n: int, rng: torch.Generator) -> dict[str, Batch]:
        """The copied first position alone, "first", of n / 4 sequences."""
        batch = self._sums(-(-n // 4), rng)
        batch.targets[:, 1:] = IGNORED
        return {"first": batch}

    def _sums(self, n: int, rng: torch.Generator) -> Batch:
        """n sequences with targets at every position."""
        p = self.parameters
        numbers = integers(p.modulus, n, p.tokens, rng=rng)
        sums = (numbers[:, 1:] + numbers[:, :-1]) % p.modulus
        return Batch(numbers, torch.cat((numbers[:, :1], sums), 1), {"neighbour": numbers[:, -2].contiguous()})
