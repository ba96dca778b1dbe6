"""The permutation test of a difference of means within strata, exact wherever its arrangements can be counted."""

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain, combinations

import numpy as np

from multistep_bench.scoring.statistics import RANDOM_SEED, ROUNDING, Strata, pieces

LISTED = 200_000  # arrangements of a stratum that are listed: those of 10 and 10 cells are 184,756
COUNTED = 1 << 20  # sums that are kept of half of the strata, to be counted against those of the other half
DRAWS = 999_999  # arrangements that are drawn where they cannot be counted
SHUFFLES = (9_999, 99_999)  # at least and at most, where a stratum has too many arrangements to list
SHUFFLED = 1 << 24  # cells that are shuffled between those


def permutation_p(a: Strata, b: Strata) -> float:
    """Two-sided p-value of the difference of the strata's mean means, labels permuted within each stratum.

    a, b: per stratum the replicates of either model, [replicates]. Strata may differ in size.
    Exact for up to four strata of 6 and 6 replicates, six of 4 and 4, or two of 10 and 10; beyond, from `DRAWS` random
    arrangements, or from `SHUFFLES` where a stratum has more than `LISTED`; then p's standard error is √(p / draws).
    """
    if [*map(len, a)] > [*map(len, b)]:
        a, b = b, a  # which model is called the first changes nothing
    observed = abs(sum(float(np.mean(ours) - np.mean(theirs)) for ours, theirs in zip(a, b, strict=True)))
    extreme = observed - ROUNDING
    if extreme <= 0:
        return 1.0
    listed = all(math.comb(len(ours) + len(theirs), len(ours)) <= LISTED for ours, theirs in zip(a, b, strict=True))
    if listed:
        strata = [_differences(ours, theirs) for ours, theirs in zip(a, b, strict=True)]
        if (halves := _halves(strata)) is not None:
            left, right = halves
            above = len(left) - np.searchsorted(left, extreme - right)
            below = np.searchsorted(left, -extreme - right, side="right")
            return float((above + below).sum() / left.size / right.size)
        drawn = _drawn(strata)
    else:
        drawn = _shuffled(a, b)
    return (1 + int(np.count_nonzero(np.abs(drawn) >= extreme))) / (1 + len(drawn))


def _differences(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Mean of the one less mean of the other for every way to deal their values out to both, [arrangements]."""
    values = np.sort(np.concatenate([ours, theirs]))
    dealt = values[_choices(len(values), len(ours))].sum(1)
    return dealt / len(ours) - (values.sum() - dealt) / len(theirs)


@lru_cache(maxsize=8)
def _choices(n: int, k: int) -> np.ndarray:
    """[n choose k, k] indices of every choice."""
    return np.fromiter(chain.from_iterable(combinations(range(n), k)), np.int8).reshape(-1, k)


def _halves(strata: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray] | None:
    """The sums of one half of the strata, ascending, and those of the other; None where they are too many."""
    halves = [np.zeros(1), np.zeros(1)]
    for differences in sorted(strata, key=len, reverse=True):
        smaller = int(len(halves[0]) > len(halves[1]))
        if len(halves[smaller]) * len(differences) > COUNTED:
            return None
        halves[smaller] = np.add.outer(halves[smaller], differences).ravel()
    return np.sort(halves[0]), halves[1]


def _drawn(strata: Sequence[np.ndarray]) -> np.ndarray:
    """[DRAWS] sums of one random arrangement of each stratum."""
    rng = np.random.default_rng(RANDOM_SEED)
    total = np.zeros(DRAWS)
    for differences in strata:
        total += differences[rng.integers(len(differences), size=DRAWS)]
    return total


def _shuffled(a: Strata, b: Strata) -> np.ndarray:
    """[shuffles] sums of one shuffle of each stratum, in memory that does not grow with its size."""
    rng = np.random.default_rng(RANDOM_SEED)
    shuffles = int(np.clip(SHUFFLED // sum(map(len, [*a, *b])), *SHUFFLES))
    total = np.zeros(shuffles)
    for ours, theirs in zip(a, b, strict=True):
        values = np.sort(np.concatenate([ours, theirs]))
        labels = np.r_[np.full(len(ours), 1 / len(ours)), np.full(len(theirs), -1 / len(theirs))]
        parts = [rng.permuted(np.tile(labels, (rows, 1)), axis=1) @ values for rows in pieces(len(values), shuffles)]
        total += np.concatenate(parts)
    return total
