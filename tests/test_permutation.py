"""The permutation test: exact where scipy can count, close to it where arrangements are drawn."""

from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from multistep_bench.scoring import permutation, statistics
from multistep_bench.scoring.permutation import permutation_p


def counted(a: list[np.ndarray], b: list[np.ndarray]) -> float:
    """The share of all arrangements whose difference is at least as large, by brute force."""
    sums = np.zeros(1)
    for ours, theirs in zip(a, b, strict=True):
        values, both = np.concatenate([ours, theirs]), range(len(ours) + len(theirs))
        dealt = [np.isin(both, chosen) for chosen in combinations(both, len(ours))]
        sums = np.add.outer(sums, [values[mine].mean() - values[~mine].mean() for mine in dealt]).ravel()
    observed = sum(ours.mean() - theirs.mean() for ours, theirs in zip(a, b, strict=True))
    return float((np.abs(sums) >= abs(observed) - 1e-12).mean())


def test_one_stratum_is_as_scipy_counts_it() -> None:
    a, b = np.array([0.0, 0, 0.5, 0.8, 0.7]), np.array([0.0, 0, 0.1, 0.2, 0.0])
    exact = stats.permutation_test((a, b), lambda x, y: x.mean() - y.mean()).pvalue
    assert permutation_p([a], [b]) == pytest.approx(exact, abs=1e-12)
    assert permutation_p([np.ones(10)], [np.zeros(10)]) == 2 / 184_756


@pytest.mark.parametrize("sizes", [[(1, 1)], [(3, 3), (2, 4)], [(4, 2), (3, 3)], [(3, 3)] * 3])
def test_strata_of_any_size_are_counted_as_by_brute_force(sizes: list[tuple[int, int]]) -> None:
    rng = np.random.default_rng(3)
    a, b = ([rng.random(n).round(1) for n in side] for side in zip(*sizes, strict=True))
    assert permutation_p(a, b) == pytest.approx(counted(a, b), abs=1e-12)
    assert permutation_p(a, b) == permutation_p(b, a)


def test_labels_are_permuted_within_strata() -> None:
    # Every run of A beats its rivals at the same rate by little; the rates differ by much.
    a = [np.array([0.11, 0.12, 0.13, 0.14]), np.array([0.81, 0.82, 0.83, 0.84])]
    b = [np.array([0.01, 0.02, 0.03, 0.04]), np.array([0.71, 0.72, 0.73, 0.74])]
    assert permutation_p(a, b) == pytest.approx(2 / 70**2)
    assert permutation_p([np.concatenate(a)], [np.concatenate(b)]) > 0.2
    assert permutation_p(a, a) == 1


def test_a_difference_in_six_seeds_at_three_rates_is_not_left_to_draws() -> None:
    """All of A above all of B at every rate: 2 of 924³ arrangements."""
    a, b = [np.full(6, 0.9 - rate) for rate in (0, 0.1, 0.2)], [np.full(6, 0.1)] * 3
    assert permutation_p(a, b) == pytest.approx(2 / 924**3, rel=1e-9)


@pytest.mark.parametrize("limit", ["COUNTED", "LISTED"])
def test_what_is_drawn_is_close_to_what_is_counted(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    a, b = [rng.random(5) + 0.25 for _ in range(2)], [rng.random(4) for _ in range(2)]
    exact = permutation_p(a, b)
    assert exact == pytest.approx(counted(a, b), abs=1e-12)
    monkeypatch.setattr(permutation, limit, 100)
    drawn = permutation_p(a, b)
    draws = {"COUNTED": 999_999, "LISTED": 99_999}[limit]
    assert drawn == pytest.approx(exact, abs=4 * (exact / draws) ** 0.5)
    assert (drawn * (draws + 1)) % 1 == pytest.approx(0, abs=1e-6)
    assert drawn != exact
    assert permutation_p(b, a) == drawn


def test_a_difference_that_no_draw_reaches_has_the_smallest_p_that_draws_can_give() -> None:
    """The arrangement seen is one of them: 10 and 10 at three rates are drawn, 20 and 20 are shuffled."""
    assert permutation_p([np.ones(10)] * 3, [np.zeros(10)] * 3) == 1e-6
    assert permutation_p([np.ones(20)], [np.zeros(20)]) == 1e-5


def test_large_strata_are_shuffled_in_pieces_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    values = [np.random.default_rng(seed).random(60) for seed in range(2)]
    whole = permutation_p([values[0]], [values[1] + 0.1])
    monkeypatch.setattr(statistics, "KEPT_DRAWS", 5000)
    assert permutation_p([values[0]], [values[1] + 0.1]) == pytest.approx(whole, abs=0.01)
    monkeypatch.setattr(permutation, "SHUFFLED", 1)  # as many cells are: then there are fewer shuffles
    assert (permutation_p([values[0]], [values[1] + 0.1]) * 10_000) % 1 == pytest.approx(0, abs=1e-6)
