"""Trigger: say which token follows the trigger, or that there is none."""

import gymnasium
import numpy as np
import torch
from pydantic import Field

from multistep_bench.batch import Batch, TaskInfo
from multistep_bench.cards import Levels
from multistep_bench.generators.base import Split, TaskGenerator
from multistep_bench.generators.sampling import expected_largest_count, integers, uniform
from multistep_bench.registry import register_generator
from multistep_bench.strict import Strict


class TriggerParameters(Strict):
    """tokens: n, the tokens of a sequence after its start token. symbols: V, the number of symbols.
    probability: π of a trigger; at most ½, so that no answer is likelier than NULL to those who see no trigger.
    """

    tokens: int = Field(default=16, ge=2, le=4096)
    symbols: int = Field(default=16, ge=2, le=10**5)
    probability: float = Field(default=0.5, gt=0, le=0.5)


@register_generator("trigger")
class Trigger(TaskGenerator):
    """A start token and n uniform symbols; with probability π one of them gives way to the trigger.

        ⊢ 7 2 ! 9 2 5      → 9, the symbol after the trigger, read at the last token
        ⊢ 7 2 4 9 2 5      → NULL, as there is no trigger

    After Ran-Milo (2026, arXiv 2603.11487): on such tasks softmax attention needs a sink, a token such as the start
    that heads attend to where there is nothing to read; attention whose weights need not sum to 1 needs none. The
    trigger's place is uniform among the first n − 1. Tokens and answers 0 … V − 1 are the symbols, answer V is NULL,
    token V + 1 the trigger and V + 2 the start.
    Step "place", [B]: the trigger's place among the n tokens, counted from 0, or −1.
    """

    Parameters = TriggerParameters

    def levels(self) -> Levels:
        """chance = 1/(V + 1); shortcut = 1 − π, always NULL; ceiling = 1.

        Seeing that there is a trigger, but not where, gives `detected`.
        """
        p = self.parameters
        return Levels(chance=1 / (p.symbols + 1), shortcut=1 - p.probability, ceiling=1.0)

    @property
    def detected(self) -> float:
        """Accuracy of the best answers from the set of tokens alone: NULL, or the most frequent symbol.

        1 − π + π·E[largest count of n − 1 uniform symbols]/(n − 1): each of them is as likely to follow the trigger.
        """
        p = self.parameters
        others = p.tokens - 1
        return 1 - p.probability + p.probability * expected_largest_count(others, p.symbols) / others

    def describe(self) -> TaskInfo:
        p = self.parameters
        return TaskInfo(
            id=self.id,
            observation_space=gymnasium.spaces.Box(0, p.symbols + 2, (p.tokens + 1,), np.int64),
            target_space=gymnasium.spaces.Discrete(p.symbols + 1),
            num_classes=p.symbols + 1,
            kind="tokens",
            layout={"start": (0, 0, 1, 1), "tokens": (0, 1, 1, p.tokens)},
            size=self.size,
            steps=("place",),
            **self.levels().model_dump(),
        )

    def draw(self, n: int, split: Split, rng: torch.Generator) -> Batch:
        return self._sequences(uniform(n, rng=rng) < self.parameters.probability, rng)

    def auxiliary(self, n: int, rng: torch.Generator) -> dict[str, Batch]:
        """Accuracy apart for sequences with a trigger and without one, n / 4 of each."""
        with_trigger = torch.ones(-(-n // 4), dtype=torch.bool, device=rng.device)
        return {
            "trigger": self._sequences(with_trigger, rng),
            "no trigger": self._sequences(~with_trigger, rng),
        }

    def token_name(self, token: int) -> str:
        symbols = self.parameters.symbols
        return str(token) if token < symbols else ("NULL", "!", "⊢")[token - symbols]

    def _sequences(self, present: torch.Tensor, rng: torch.Generator) -> Batch:
        """One sample for each entry of `present`, bool [B]: whether it has a trigger."""
        p, n = self.parameters, len(present)
        symbols = integers(p.symbols, n, p.tokens, rng=rng)
        place = integers(p.tokens - 1, n, rng=rng)
        after = symbols.gather(1, place.unsqueeze(1) + 1).squeeze(1)
        here = torch.arange(p.tokens, device=rng.device) == place.unsqueeze(1)  # n, tokens
        tokens = torch.where(here & present.unsqueeze(1), p.symbols + 1, symbols)
        start = torch.full((n, 1), p.symbols + 2, dtype=torch.int64, device=rng.device)
        answers = torch.where(present, after, p.symbols)
        return Batch(torch.cat((start, tokens), 1), answers, {"place": torch.where(present, place, -1)})
