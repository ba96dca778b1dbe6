"""Two hops among distractors: the end of the chain that starts at the query, where the context holds several chains."""

import gymnasium
import numpy as np
import torch
from pydantic import Field, model_validator

from multistep_bench.batch import Batch, TaskInfo
from multistep_bench.cards import Levels
from multistep_bench.generators.base import Split, TaskGenerator
from multistep_bench.generators.in_context.groups import in_random_order
from multistep_bench.generators.sampling import shuffled
from multistep_bench.registry import register_generator
from multistep_bench.strict import Strict


class TwoHopParameters(Strict):
    """chains: M, the number of chains A → B → C in a sequence, one of which is asked for.
    symbols: V, the number of symbols in the vocabulary; all 3M of a sequence are distinct.
    """

    chains: int = Field(default=2, ge=2, le=256)
    symbols: int = Field(default=16, ge=6, le=10**4)

    @model_validator(mode="after")
    def _distinct(self) -> "TwoHopParameters":
        if self.symbols < 3 * self.chains:
            raise ValueError(
                f"symbols {self.symbols} is below 3·chains = {3 * self.chains}: the symbols of a sequence are distinct,"
                " so that every first symbol has one end; ask for more symbols or fewer chains"
            )
        return self


@register_generator("two_hop")
class TwoHop(TaskGenerator):
    """M chains A → B → C as 2M pairs in random order, then the query, some A; the answer is its C.

        pairs                    query
        4 9  7 2  9 1  2 5         7        7 → 2, then 2 → 5, so the answer, read at the last token, is 5

    After Guo et al. (2025, arXiv 2502.13913). The 3M symbols are drawn from V without replacement, the query's chain
    is uniform. Unlike `lookup`, chains do not meet, all questions have two hops, and nothing says how many.
    Step "bridge", [B]: B, the symbol that the first hop leads to.
    """

    Parameters = TwoHopParameters

    def levels(self) -> Levels:
        """chance = 1/V; shortcut = 1/M, naming the end of some chain; ceiling = 1.

        An end C is a symbol that stands second in its pair and first in none. Without the bridge all M of them are
        equally likely. Naming any symbol of the context other than the query is right with probability 1/(3M − 1), and
        naming the bridge never.
        """
        p = self.parameters
        return Levels(chance=1 / p.symbols, shortcut=1 / p.chains, ceiling=1.0)

    def describe(self) -> TaskInfo:
        p = self.parameters
        pairs = 4 * p.chains
        return TaskInfo(
            id=self.id,
            observation_space=gymnasium.spaces.Box(0, p.symbols - 1, (pairs + 1,), np.int64),
            target_space=gymnasium.spaces.Discrete(p.symbols),
            num_classes=p.symbols,
            kind="tokens",
            layout={"pairs": (0, 0, 1, pairs), "query": (0, pairs, 1, 1)},
            size=self.size,
            steps=("bridge",),
            **self.levels().model_dump(),
        )

    def draw(self, n: int, split: Split, rng: torch.Generator) -> Batch:
        return self._questions(n, 0, rng)

    def auxiliary(self, n: int, rng: torch.Generator) -> dict[str, Batch]:
        """Queries B, "one hop", which training never asks, and their answers C; n / 2 items."""
        return {"one hop": self._questions(-(-n // 2), 1, rng)}

    def _questions(self, n: int, place: int, rng: torch.Generator) -> Batch:
        """n samples that ask from this place of a chain, 0 (A) or 1 (B), to its end."""
        p = self.parameters
        chains = shuffled(n, p.symbols, rng)[:, : 3 * p.chains].view(n, p.chains, 3)
        pairs = chains.unfold(2, 2, 1).flatten(1, 2)  # n, 2M, 2
        context = in_random_order(pairs, rng)
        chain = chains[:, 0]  # n, 3; the first is as good as any, for their symbols and their places are random
        inputs = torch.cat((context, chain[:, place : place + 1]), 1)
        return Batch(inputs, chain[:, 2].contiguous(), {"bridge": chain[:, 1].contiguous()})
