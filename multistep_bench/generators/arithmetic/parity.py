"""Biased sparse parity, a control: the product of a few bits out of many."""

from collections.abc import Mapping
from math import comb
from typing import Any

import gymnasium
import numpy as np
import torch
from pydantic import Field, model_validator

from multistep_bench import seeds
from multistep_bench.batch import Batch, TaskInfo
from multistep_bench.cards import Levels
from multistep_bench.generators.base import Split, TaskGenerator
from multistep_bench.generators.sampling import shuffled, uniform
from multistep_bench.registry import register_generator
from multistep_bench.strict import Strict


class ParityParameters(Strict):
    """bits: n. factors: k of them are multiplied; seed says which. bias: ρ, the mean of a bit in ±1."""

    bits: int = Field(default=20, ge=2, le=1024)
    factors: int = Field(default=4, ge=2, le=64)
    bias: float = Field(default=0.2, ge=0, lt=1)
    seed: int = Field(default=0, ge=0, le=10**9)

    @model_validator(mode="after")
    def _sparse(self) -> "ParityParameters":
        if self.factors >= self.bits:
            raise ValueError(
                f"factors {self.factors} is not below bits {self.bits}: where all bits are multiplied there is nothing"
                " to select; ask for fewer factors or more bits"
            )
        return self


@register_generator("parity")
class Parity(TaskGenerator):
    """n independent bits in ±1 of mean ρ; the answer is the product of k of them, the same k in every sample.

        bits     + − + + − − + +
        factors    *     *          (−) · (−) = +, read at the last token

    After Barak et al. (2022, arXiv 2207.08799). MLPs plateau here as well, and a model whose attention is uniform can
    solve the task, so what plateaus here does not do so for its softmax. Token and answer 0 are +, 1 is −.
    Steps "product_1" … "product_{k − 1}", [B] each: the product of the first factors, 0 or 1 as the answers.
    """

    Parameters = ParityParameters

    def __init__(self, parameters: Mapping[str, Any], **settings: Any) -> None:
        super().__init__(parameters, **settings)
        p = self.parameters
        rng = seeds.generator(seeds.derive("parity", "factors", p.seed))
        self.factors = shuffled(1, p.bits, rng)[0, : p.factors].sort().values

    def levels(self) -> Levels:
        """chance = ½; shortcut = `of_the_count`, from how many bits are − without knowing which; ceiling = 1.

        With the defaults it is 0.5065. To know the factors is not yet to multiply them: `of_a_threshold` says what
        adding them up gives, with the defaults 0.7168, below the Eureka-moment's threshold of 0.7533.
        """
        return Levels(chance=0.5, shortcut=self.of_the_count, ceiling=1.0)

    @property
    def of_the_count(self) -> float:
        """Accuracy of the best answer to the number m of bits that are −, any k of which may be the factors.

        Σ_m Bin(m; n, (1 − ρ)/2)·max(P(+|m), 1 − P(+|m)), P(+|m) = Σ_{j even} C(m, j)·C(n − m, k − j)/C(n, k).
        """
        p = self.parameters
        n, k, minus = p.bits, p.factors, (1 - p.bias) / 2
        total = 0.0
        for m in range(n + 1):
            even = sum(comb(m, j) * comb(n - m, k - j) for j in range(0, k + 1, 2)) / comb(n, k)
            total += comb(n, m) * minus**m * (1 - minus) ** (n - m) * max(even, 1 - even)
        return total

    @property
    def of_a_threshold(self) -> float:
        """Accuracy of the best threshold on how many of the k factors are −, m ~ Bin(k, (1 − ρ)/2).

        max over t and sign of Σ_m P(m)·[the answer is the sign where m < t, and the other one where m ≥ t].
        """
        k, minus = self.parameters.factors, (1 - self.parameters.bias) / 2
        share = [comb(k, m) * minus**m * (1 - minus) ** (k - m) for m in range(k + 1)]
        right = [sum(p for m, p in enumerate(share) if (m >= t) == m % 2) for t in range(k + 2)]  # + below t, − from t
        return max(max(each, 1 - each) for each in right)

    def known(self, factors: int) -> float:
        """Accuracy of the product of so many known factors, j, taken for the answer: ½(1 + ρ^(k − j)).

        With j = 0 it is that of always answering +.
        """
        return (1 + self.parameters.bias ** (self.parameters.factors - factors)) / 2

    def describe(self) -> TaskInfo:
        p = self.parameters
        return TaskInfo(
            id=self.id,
            observation_space=gymnasium.spaces.Box(0, 1, (p.bits,), np.int64),
            target_space=gymnasium.spaces.Discrete(2),
            num_classes=2,
            kind="tokens",
            layout={"bits": (0, 0, 1, p.bits)},
            size=self.size,
            steps=tuple(f"product_{j}" for j in range(1, p.factors)),
            **self.levels().model_dump(),
        )

    def draw(self, n: int, split: Split, rng: torch.Generator) -> Batch:
        return self._bits(n, self.parameters.bias, rng)

    def auxiliary(self, n: int, rng: torch.Generator) -> dict[str, Batch]:
        """Bits of mean 0, "unbiased", where missing one factor leaves a model right half of the time; n / 2 items."""
        return {"unbiased": self._bits(-(-n // 2), 0.0, rng)}

    def token_name(self, token: int) -> str:
        return "+−"[token]

    def _bits(self, n: int, bias: float, rng: torch.Generator) -> Batch:
        """n samples of bits of this mean."""
        bits = (uniform(n, self.parameters.bits, rng=rng) < (1 - bias) / 2).long()
        products = bits[:, self.factors.to(rng.device)].cumsum(1) % 2  # n, k
        steps = {f"product_{j}": products[:, j - 1].contiguous() for j in range(1, self.parameters.factors)}
        return Batch(bits, products[:, -1].contiguous(), steps)
