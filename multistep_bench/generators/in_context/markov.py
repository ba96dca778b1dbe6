"""In-context Markov chains: every sequence has a transition matrix of its own, which only the sequence shows."""

from functools import lru_cache

import gymnasium
import numpy as np
import torch
from pydantic import Field

from multistep_bench import seeds
from multistep_bench.batch import IGNORED, Batch, TaskInfo
from multistep_bench.cards import Levels
from multistep_bench.generators.base import Split, TaskGenerator
from multistep_bench.generators.sampling import integers, uniform
from multistep_bench.registry import register_generator
from multistep_bench.strict import Strict

SIMULATED = 2**17  # sequences that the shortcut is measured on


class MarkovParameters(Strict):
    """states: number k of states. tokens: length T of a sequence."""

    states: int = Field(default=3, ge=2, le=256)
    tokens: int = Field(default=100, ge=2, le=4096)


@register_generator("markov")
class Markov(TaskGenerator):
    """A walk of T tokens over k states: which state comes next? (Edelman et al. 2024, arXiv 2402.11004)

        inputs           1 0 1 0 0 1 0 1 0          after 0 came 1, 0, 1, 1: the bigram predictor says 1
        training targets 0 1 0 0 1 0 1 0 1          the next state at every position
        scored target    . . . . . . . . 1          the most frequent successor of the last state, whatever was drawn

    The rows of the transition matrix are drawn from Dirichlet(1, …, 1) for every sequence, the first state is uniform.
    The exact Bayes predictor is the bigram one, P(j) = (n_ij + 1)/(n_i + k) where i is the last state and n counts the
    transitions of the sequence. Evaluation scores agreement with this predictor's most probable state at the last
    position, which is a function of all T tokens and is none of them. Where two states share the largest count the
    sequence is not scored. Models first learn uniform answers, then the unigram predictor, which counts states.
    Step "state", [B]: the last state i, whose row of counts gives the answer.
    """

    Parameters = MarkovParameters

    def levels(self) -> Levels:
        """chance = 1/k; shortcut = how often the unigram predictor agrees with the bigram one; ceiling = 1.

        The shortcut has no closed form: `unigram_agreement` measures it, with a standard error below 0.0014.
        """
        p = self.parameters
        return Levels(chance=1 / p.states, shortcut=unigram_agreement(p.states, p.tokens), ceiling=1.0)

    def describe(self) -> TaskInfo:
        p = self.parameters
        return TaskInfo(
            id=self.id,
            observation_space=gymnasium.spaces.Box(0, p.states - 1, (p.tokens,), np.int64),
            target_space=gymnasium.spaces.Box(IGNORED, p.states - 1, (p.tokens,), np.int64),
            num_classes=p.states,
            kind="tokens",
            layout={"context": (0, 0, 1, p.tokens - 1), "state": (0, p.tokens - 1, 1, 1)},
            size=self.size,
            steps=("state",),
            **self.levels().model_dump(),
        )

    def draw(self, n: int, split: Split, rng: torch.Generator) -> Batch:
        walk = self._walks(n, rng)
        if split == "train":
            return Batch(walk[:, :-1], walk[:, 1:], {"state": walk[:, -2]})
        return self._as_evaluated(walk)

    def questions(self, n: int, *, split: Split, rng: torch.Generator) -> Batch:
        """Samples as evaluated in either split, whose sequences are equally distributed."""
        return self._as_evaluated(self._walks(n, rng))

    def auxiliary(self, n: int, rng: torch.Generator) -> dict[str, Batch]:
        """At the last position: agreement with the state drawn next, and with the unigram predictor.

        On n / 4 sequences each; "unigram" leaves out those whose two most frequent states are equally frequent.
        """
        walk = self._walks(-(-n // 4), rng)
        seen = walk[:, :-1]
        return {
            "next state": self._scored_last(seen, walk[:, -1]),
            "unigram": self._scored_last(seen, most_frequent(state_counts(seen, self.parameters.states))),
        }

    def _walks(self, n: int, rng: torch.Generator) -> torch.Tensor:
        """n sequences of T + 1 states, [n, T + 1]."""
        k, length = self.parameters.states, self.parameters.tokens + 1
        rows = -torch.log1p(
            -uniform(n, k, k, rng=rng)
        )  # exponential, so that the shares of a row are Dirichlet(1, …, 1)
        below = (rows.cumsum(2) / rows.sum(2, keepdim=True))[:, :, :-1]  # n, k, k − 1
        moves = uniform(length, n, 1, rng=rng)
        every = torch.arange(n, dtype=torch.int64, device=rng.device)
        states = [(moves[0, :, 0] * k).long()]
        for move in moves[1:]:
            states.append((move >= below[every, states[-1]]).sum(1))
        return torch.stack(states, 1)

    def _as_evaluated(self, walk: torch.Tensor) -> Batch:
        seen = walk[:, :-1]
        return self._scored_last(seen, most_frequent(transition_counts(seen, self.parameters.states)))

    @staticmethod
    def _scored_last(seen: torch.Tensor, answers: torch.Tensor) -> Batch:
        """Sequences [B, T] scored at the last position alone, against answers [B]."""
        targets = torch.full_like(seen, IGNORED)
        targets[:, -1] = answers
        return Batch(seen, targets, {"state": seen[:, -1]})


def transition_counts(seen: torch.Tensor, states: int) -> torch.Tensor:
    """n_ij of each sequence [B, T] for its last state i: how often each state j came after it, [B, k]."""
    after_last = (seen[:, :-1] == seen[:, -1:]).long()  # B, T − 1
    return torch.zeros(len(seen), states, dtype=torch.int64, device=seen.device).scatter_add(1, seen[:, 1:], after_last)


def state_counts(seen: torch.Tensor, states: int) -> torch.Tensor:
    """How often each state occurs in each sequence [B, T], [B, k]."""
    once = torch.ones_like(seen)
    return torch.zeros(len(seen), states, dtype=torch.int64, device=seen.device).scatter_add(1, seen, once)


def most_frequent(counts: torch.Tensor) -> torch.Tensor:
    """The state with the largest count, [B], from counts [B, k]; `IGNORED` where several states have it."""
    largest, state = counts.max(1)
    alone = (counts == largest.unsqueeze(1)).sum(1) == 1
    return torch.where(alone, state, torch.full_like(state, IGNORED))


@lru_cache
def unigram_agreement(states: int, tokens: int) -> float:
    """How often unigram and bigram predictor name the same state, where the bigram predictor's is unique.

    Measured on `SIMULATED` sequences of a frozen stream, so the standard error is at most ½/√(131072) = 0.0014 (a
    little more for the few that are not scored). They are drawn without their matrices: a state's next visit goes to j
    with probability (n_ij + 1)/(n_i + k), Pólya's urn. Counts are integers, so every machine finds the same ratio.
    Of equally frequent states the first is named; by symmetry any other choice is right as often.
    """
    rng = seeds.generator(seeds.derive("markov", states, tokens))
    every = torch.arange(SIMULATED, dtype=torch.int64)
    urns = torch.ones(SIMULATED, states, states, dtype=torch.int64)  # n_ij + 1
    visits = torch.zeros(SIMULATED, states, dtype=torch.int64)
    state = integers(states, SIMULATED, rng=rng)
    visits[every, state] += 1
    for _ in range(tokens - 1):
        below = urns[every, state].cumsum(1)  # SIMULATED, k
        ball = uniform(SIMULATED, 1, rng=rng) * below[:, -1:]
        following = (ball >= below[:, :-1]).sum(1)
        urns[every, state, following] += 1
        visits[every, following] += 1
        state = following
    bigram = most_frequent(urns[every, state])
    agree = int((visits.argmax(1) == bigram).sum())
    return agree / int((bigram != IGNORED).sum())
