"""In-context Markov chains: exact probabilities of short walks, the predictors by hand, a solver for every level."""

from collections import Counter
from fractions import Fraction
from itertools import pairwise, product
from math import factorial, prod

import pytest
import torch
from image_data import stream

from multistep_bench.batch import IGNORED, Batch
from multistep_bench.errors import CardError
from multistep_bench.generators.base import Split
from multistep_bench.generators.in_context.markov import (
    SIMULATED,
    Markov,
    state_counts,
    transition_counts,
    unigram_agreement,
)

N = 8000


def markov(**parameters: int) -> Markov:
    return Markov(parameters, id="markov-v1")


def draw(task: Markov, split: Split = "eval", n: int = N) -> Batch:
    return task.sample(n, split=split, rng=stream("markov", split))


def tokens(batch: Batch) -> torch.Tensor:
    assert isinstance(batch.inputs, torch.Tensor)
    return batch.inputs


def probability(walk: tuple[int, ...], states: int) -> Fraction:
    """Of a walk under rows drawn from Dirichlet(1, …, 1): 1/k · Π_i (k − 1)! Π_j n_ij! / (n_i + k − 1)!"""
    counts = Counter(pairwise(walk))
    rows = [[counts[i, j] for j in range(states)] for i in range(states)]
    each = (
        Fraction(factorial(states - 1) * prod(map(factorial, row)), factorial(sum(row) + states - 1)) for row in rows
    )
    return Fraction(1, states) * prod(each)


def leaders(counts: Counter[int], states: int) -> list[int]:
    """The states that share the largest count."""
    return [state for state in range(states) if counts[state] == max(counts[other] for other in range(states))]


def successors(walk: tuple[int, ...]) -> Counter[int]:
    """How often each state came after the last one."""
    return Counter(after for state, after in pairwise(walk) if state == walk[-1])


def within(level: float, n: float = N) -> object:
    """Equal up to four standard errors of n samples."""
    return pytest.approx(level, abs=4 * (level * (1 - level) / n) ** 0.5)


def test_the_predictors_of_a_sequence_counted_by_hand() -> None:
    seen = torch.tensor([[0, 1, 0, 2, 0, 1, 1, 0], [2, 2, 2, 0, 1, 2, 1, 1]])
    n = transition_counts(seen, 3)
    assert n.tolist() == [[0, 2, 1], [0, 1, 1]]  # after 0 came 1, 2, 1; after 1 came 2, 1
    predicted = (n + 1) / (n.sum(1, keepdim=True) + 3)
    assert predicted.tolist() == [pytest.approx([1 / 6, 3 / 6, 2 / 6]), pytest.approx([1 / 5, 2 / 5, 2 / 5])]
    assert state_counts(seen, 3).tolist() == [[4, 3, 1], [1, 3, 4]]


@pytest.mark.parametrize("states", [2, 3])
def test_the_bigram_predictor_is_the_exact_bayes_predictor(states: int) -> None:
    """P(walk, j) / P(walk) = (n_ij + 1) / (n_i + k) for every walk of six states."""
    for walk in product(range(states), repeat=6):
        n = successors(walk)
        for j in range(states):
            bayes = probability((*walk, j), states) / probability(walk, states)
            assert bayes == Fraction(n[j] + 1, n.total() + states)


@pytest.mark.parametrize(("states", "length"), [(2, 5), (3, 3)])
@pytest.mark.parametrize("split", ["train", "eval"])
def test_every_walk_comes_up_as_often_as_it_is_probable(states: int, length: int, split: Split) -> None:
    batch = draw(markov(states=states, tokens=length), split)
    drawn = Counter(map(tuple, tokens(batch).tolist()))
    exact = {walk: float(probability(walk, states)) for walk in product(range(states), repeat=length)}
    assert sum(exact.values()) == pytest.approx(1)
    assert {walk: drawn[walk] / N for walk in exact} == {walk: within(p) for walk, p in exact.items()}


@pytest.mark.parametrize(("states", "length"), [(2, 4), (2, 9), (2, 12), (3, 6)])
def test_the_shortcut_is_that_of_all_possible_walks(states: int, length: int) -> None:
    """Where states are equally frequent the unigram predictor names one of them at random."""
    agree = scored = Fraction(0)
    for walk in product(range(states), repeat=length):
        best = leaders(successors(walk), states)
        if len(best) == 1:
            named = leaders(Counter(walk), states)
            scored += (p := probability(walk, states))
            agree += p * Fraction(best[0] in named, len(named))
    assert unigram_agreement(states, length) == within(float(agree / scored), SIMULATED * float(scored))


@pytest.mark.parametrize(("states", "length"), [(2, 100), (3, 100), (4, 30)])
def test_a_solver_of_every_kind_lands_on_the_level_computed_for_it(states: int, length: int) -> None:
    task = markov(states=states, tokens=length)
    batch, levels = draw(task), task.levels()
    assert levels.shortcut is not None
    scored = int((batch.targets != IGNORED).sum())

    def accuracy(answers: torch.Tensor) -> float:
        logits = torch.nn.functional.one_hot(answers, states).double().unsqueeze(1).expand(-1, length, -1)
        return int(task.correct(logits, batch).sum()) / scored

    seen = tokens(batch)
    assert accuracy(torch.randint(states, (N,), generator=stream("guess"))) == within(levels.chance, scored)
    assert accuracy(seen[:, -1]) < levels.shortcut - 0.1  # the last state alone, its row unread
    assert accuracy(state_counts(seen, states).argmax(1)) == within(levels.shortcut, scored)
    assert accuracy(transition_counts(seen, states).argmax(1)) == levels.ceiling == 1


def test_evaluation_scores_the_last_position_alone_and_only_a_unique_answer() -> None:
    batch = draw(markov(tokens=20), n=2000)
    assert (batch.targets[:, :-1] == IGNORED).all()
    for walk, target, state in zip(
        tokens(batch).tolist(), batch.targets[:, -1].tolist(), batch.steps["state"].tolist(), strict=True
    ):
        best = leaders(successors(tuple(walk)), 3)
        assert target == (best[0] if len(best) == 1 else IGNORED)
        assert state == walk[-1]


def test_training_asks_for_the_next_state_everywhere() -> None:
    batch = draw(markov(tokens=20), "train")
    seen = tokens(batch)
    assert torch.equal(batch.targets[:, :-1], seen[:, 1:])
    drawn_next = batch.targets[:, -1]
    n = transition_counts(seen, 3).double()
    expected = float(((n.gather(1, drawn_next.unsqueeze(1)).squeeze(1) + 1) / (n.sum(1) + 3)).mean())
    right = float((((n + 1) / (n.sum(1, keepdim=True) + 3)) ** 2).sum(1).mean())
    assert expected == pytest.approx(right, abs=0.01)  # drawn from the predictor's own distribution
    assert torch.equal(batch.steps["state"], seen[:, -1])


def test_auxiliary_measurements_score_the_state_drawn_and_the_unigram_answer() -> None:
    task = markov(tokens=20)
    further = task.auxiliary(4 * N, stream("secondary"))
    assert list(further) == ["next state", "unigram"]
    following, unigram = further.values()
    assert torch.equal(tokens(following), tokens(unigram))
    assert (unigram.targets[:, :-1] == IGNORED).all()
    assert (following.targets[:, :-1] == IGNORED).all()
    for walk, target in zip(tokens(unigram)[:2000].tolist(), unigram.targets[:, -1].tolist(), strict=False):
        best = leaders(Counter(walk), 3)
        assert target == (best[0] if len(best) == 1 else IGNORED)
    n = transition_counts(tokens(following), 3).double()
    bayes = float(((n.max(1).values + 1) / (n.sum(1) + 3)).mean())
    assert float((n.argmax(1) == following.targets[:, -1]).double().mean()) == within(bayes)


def test_levels_of_the_default_are_known() -> None:
    levels = markov().levels()
    assert (levels.chance, levels.ceiling) == (1 / 3, 1)
    assert levels.shortcut == pytest.approx(0.6323, abs=5e-5)
    assert unigram_agreement(2, 100) == pytest.approx(0.7851, abs=5e-5)


def test_a_chain_of_one_state_is_refused() -> None:
    with pytest.raises(CardError, match=r"'states'.*got 1"):
        markov(states=1)
