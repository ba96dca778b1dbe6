"""Chained lookup: follow a function that the context defines for several hops."""

import gymnasium
import numpy as np
import torch
from pydantic import Field, model_validator

from multistep_bench import seeds
from multistep_bench.batch import IGNORED, Batch, TaskInfo
from multistep_bench.cards import Levels
from multistep_bench.generators.base import Split, TaskGenerator
from multistep_bench.generators.in_context.groups import in_random_order
from multistep_bench.generators.sampling import integers, shuffled
from multistep_bench.registry import register_generator
from multistep_bench.strict import Strict

HASHES = 2**48  # values of the hash that divides the functions between the splits


class LookupParameters(Strict):
    """pairs: N, the number of pairs k → f(k) in a sequence, over N symbols.
    symbols: V, the number of symbols in the vocabulary.
    hops: the longest chain; evaluation asks for chains of this length, training for 1 to `hops` hops.
    """

    pairs: int = Field(default=5, ge=3, le=1024)
    symbols: int = Field(default=16, ge=3, le=10**5)
    hops: int = Field(default=2, ge=2, le=64)

    @model_validator(mode="after")
    def _answerable(self) -> "LookupParameters":
        if self.hops >= self.pairs:
            raise ValueError(
                f"hops {self.hops} is not below pairs {self.pairs}: the pairs form one cycle, and a chain of"
                " `pairs` hops ends where it starts; ask for fewer hops or more pairs"
            )
        if self.symbols < self.pairs:
            raise ValueError(f"symbols {self.symbols} is below pairs {self.pairs}; each pair needs a symbol of its own")
        return self


@register_generator("lookup")
class Lookup(TaskGenerator):
    """N shuffled pairs k → f(k), a number of hops h, and a start; the answer is f(f(… f(start))), h times.

        pairs            h  start
        7 2 5 9 2 5 9 7  h=2  7      7 → 2, then 2 → 5, so the answer, read at the last token, is 5

    The pairs form one cycle, uniform among those of N distinct symbols out of V. Tokens 0 … V − 1 are the symbols,
    token V + h − 1 says h. Training asks for 1 … `hops` hops, equally often; evaluation for `hops`.

    No function f of an evaluation is ever trained on: a hash assigns one of each cycle and its reverse to training
    and the other to evaluation. So each split has half of all functions, and single edges do not tell the split.
    Steps: "symbol_1" … "symbol_{hops − 1}", [B] each: the symbols along the chain, `IGNORED` beyond a shorter chain.
    """

    Parameters = LookupParameters

    def levels(self) -> Levels:
        """chance = 1/V; shortcut = 1/(N − 1), naming a symbol of the context other than the start; ceiling = 1.

        For 0 < h < N the answer is not the start. As f is uniform among the cycles, the answer is uniform on the other
        N − 1 symbols, so a model that does not use the pairs is right no more often. (Naming any symbol of the context
        is right with probability 1/N.) A model that does one lookup but no second rules out f(start) and reaches
        1/(N − 2); one that also rules out f⁻¹(start), while h < N − 1, reaches 1/(N − 3). With N = 4 elimination thus
        answers h = 2 without a chain; from N = 5 on it stays below the threshold.
        """
        p = self.parameters
        return Levels(chance=1 / p.symbols, shortcut=1 / (p.pairs - 1), ceiling=1.0)

    def describe(self) -> TaskInfo:
        p = self.parameters
        tokens = 2 * p.pairs + 2
        return TaskInfo(
            id=self.id,
            observation_space=gymnasium.spaces.Box(0, p.symbols + p.hops - 1, (tokens,), np.int64),
            target_space=gymnasium.spaces.Discrete(p.symbols),
            num_classes=p.symbols,
            kind="tokens",
            layout={"pairs": (0, 0, 1, tokens - 2), "hops": (0, tokens - 2, 1, 1), "start": (0, tokens - 1, 1, 1)},
            size=self.size,
            steps=tuple(f"symbol_{hop}" for hop in range(1, p.hops)),
            **self.levels().model_dump(),
        )

    def draw(self, n: int, split: Split, rng: torch.Generator) -> Batch:
        deepest = self.parameters.hops
        deepest_only = torch.full((n,), deepest, dtype=torch.int64, device=rng.device)
        hops = deepest_only if split == "eval" else 1 + integers(deepest, n, rng=rng)
        return self._chains(hops, split, rng)

    def auxiliary(self, n: int, rng: torch.Generator) -> dict[str, Batch]:
        """Chains of each shorter length, "hop 1" and so on, of n / 2 items each."""
        few = -(-n // 2)
        return {
            f"hop {hops}": self._chains(torch.full((few,), hops, dtype=torch.int64, device=rng.device), "eval", rng)
            for hops in range(1, self.parameters.hops)
        }

    def token_name(self, token: int) -> str:
        symbols = self.parameters.symbols
        return str(token) if token < symbols else f"h={token - symbols + 1}"

    def held_out(self, cycles: torch.Tensor) -> torch.Tensor:
        """Which of the cycles c₀ → c₁ → … → c₀, [B, N], belong to evaluation: bool [B]."""
        symbols = self.parameters.symbols
        rng = seeds.generator(seeds.derive("lookup", "split", symbols))
        hashes = integers(HASHES, symbols, symbols, rng=rng).to(cycles.device)

        def total(cycles: torch.Tensor) -> torch.Tensor:
            return hashes[cycles, cycles.roll(-1, 1)].sum(1) % HASHES  # a sum over edges, so the same from any c₀

        return total(cycles) < total(cycles.flip(1))

    def _chains(self, hops: torch.Tensor, split: Split, rng: torch.Generator) -> Batch:
        """One sample for each number of hops in `hops`, [B]."""
        p, n = self.parameters, len(hops)
        cycle = shuffled(n, p.symbols, rng)[:, : p.pairs]  # B, N: start, f(start), f(f(start)), …
        belongs = self.held_out(cycle) == (split == "eval")
        cycle = torch.where(belongs.unsqueeze(1), cycle, cycle.flip(1))
        pairs = torch.stack((cycle, cycle.roll(-1, 1)), 2)  # B, N, 2
        context = in_random_order(pairs, rng)
        question = torch.stack((p.symbols + hops - 1, cycle[:, 0]), 1)
        passed = {
            f"symbol_{hop}": torch.where(hop < hops, cycle[:, hop], torch.full_like(hops, IGNORED))
            for hop in range(1, p.hops)
        }
        answer = cycle.gather(1, hops.unsqueeze(1)).squeeze(1)
        return Batch(torch.cat((context, question), 1), answer, passed)
