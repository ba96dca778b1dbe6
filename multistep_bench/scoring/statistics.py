"""Estimates, intervals and tests over cell sets, on plain arrays.

scipy computes what scipy has. By hand are the variance of the restricted mean, intervals of a difference, the
stratified log-rank test, and a BCa bootstrap of a weighted sum of means that draws its resamples once for all
cell sets of a size (`scipy.stats.bootstrap` gives the same interval, slower).
Everything random starts from `RANDOM_SEED`, so equal curves give equal numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import sqrt

import numpy as np
import scipy  # it loads `scipy.special` and `scipy.stats` when they are first asked for; a worker never asks

CONFIDENCE = 0.95
RESAMPLES = 9999
RANDOM_SEED = 2310_12956
ENTRY_SEEDS = 10  # a learning rate, that an entry of the leaderboard should have
RANK_SEEDS = 20  # a learning rate, that a claim of rank needs
BOOTSTRAP_FROM = 10  # replicates in the smallest stratum; below, a t interval
ROUNDING = 1e-12  # sums of the same numbers in another order tie
EXACT_TABLES = 500 * 500  # Boschloo's test takes seconds there and minutes beyond
KEPT_DRAWS = 1 << 21  # numbers of a resampling that are kept for the next cell set; larger ones are drawn in pieces
SETTINGS = {
    "confidence": CONFIDENCE,
    "proportions": "Wilson",
    "test of proportions": "Boschloo's exact test, from 500 × 500 runs on the pooled z test, which it approaches",
    "equal replicates": "S and Q within a step of the evaluation schedule, A as Wilson bounds one evaluation",
    "means": f"t below {BOOTSTRAP_FROM} seeds, BCa bootstrap within learning rates from there on",
    "differences of means": "as means; square-and-add of the two intervals where a model has no event",
    "permutation tests": "exact where they can be counted, else 999,999 drawn, of over 10 + 10 seeds 9,999 to 99,999",
    "resamples": RESAMPLES,
    "seed": RANDOM_SEED,
}


@dataclass(frozen=True)
class Interval:
    """An estimate with the ends of its 95 % confidence interval."""

    estimate: float
    low: float
    high: float

    def scaled(self, factor: float) -> "Interval":
        return Interval(self.estimate * factor, self.low * factor, self.high * factor)


@lru_cache(maxsize=4096)
def wilson(events: int, n: int) -> Interval:
    """Wilson's score interval of a proportion, as `scipy.stats.binomtest` has it, which takes a test for it as well."""
    p, z = events / n, float(scipy.special.ndtri(0.5 + CONFIDENCE / 2))
    centre, half = p + z**2 / (2 * n), z * sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    low = 0.0 if events == 0 else (centre - half) / (1 + z**2 / n)
    high = 1.0 if events == n else (centre + half) / (1 + z**2 / n)
    return Interval(p, low, high)


def square_and_add(a: Interval, b: Interval) -> Interval:
    """Interval of a − b from the intervals of two independent estimates (Zou and Donner 2008).

    Of two proportions it is `newcombe`.
    """
    difference = a.estimate - b.estimate
    return Interval(
        difference,
        difference - sqrt((a.estimate - a.low) ** 2 + (b.high - b.estimate) ** 2),
        difference + sqrt((a.high - a.estimate) ** 2 + (b.estimate - b.low) ** 2),
    )


def newcombe(events_a: int, n_a: int, events_b: int, n_b: int) -> Interval:
    """Interval of p_a − p_b from the two Wilson intervals (Newcombe 1998, method 10)."""
    return square_and_add(wilson(events_a, n_a), wilson(events_b, n_b))


def boschloo(events_a: int, n_a: int, events_b: int, n_b: int) -> float:
    """Two-sided p-value of Boschloo's exact test that two proportions are equal.

    With more than `EXACT_TABLES` possible tables that of the pooled z test: at 300 runs a side and p near 0.5 the two
    differ by 5 % of their value.
    """
    if n_a * n_b > EXACT_TABLES:
        pooled = (events_a + events_b) / (n_a + n_b)
        variance = pooled * (1 - pooled) * (1 / n_a + 1 / n_b)
        if variance == 0:
            return 1.0
        return float(2 * scipy.special.ndtr(-abs(events_a / n_a - events_b / n_b) / sqrt(variance)))
    table = [[events_a, events_b], [n_a - events_a, n_b - events_b]]
    return float(scipy.stats.boschloo_exact(table).pvalue)


@dataclass(frozen=True)
class KaplanMeier:
    """The survival curve of n runs, at the distinct times of their events.

    times, survival: [steps] the survival probability from each time on.
    at_risk, events: [steps] runs that had no event and were not censored before, and events then.
    """

    times: np.ndarray
    survival: np.ndarray
    at_risk: np.ndarray
    events: np.ndarray

    def median(self) -> float | None:
        """The first time by which half of the runs have had the event; None where fewer have."""
        half = np.flatnonzero(self.survival <= 0.5 + ROUNDING)
        return float(self.times[half[0]]) if len(half) else None

    def restricted_mean(self, horizon: float) -> tuple[float, float]:
        """Mean time to the event within the horizon, ∫₀^τ S, and the standard error of that estimate.

        The variance is Σ [∫_{tᵢ}^τ S]² dᵢ / (nᵢ(nᵢ − dᵢ)) over the times of events.
        """
        steps = np.count_nonzero(self.times < horizon)
        areas = np.diff([0.0, *self.times[:steps], horizon]) * np.array([1.0, *self.survival[:steps]])
        remaining = areas[::-1].cumsum()[::-1][1:]  # ∫ from each step to the horizon
        left = self.at_risk[:steps] - self.events[:steps]
        some = left > 0  # where none is left, nothing remains to integrate
        terms = (remaining**2 * self.events[:steps])[some] / (self.at_risk[:steps] * left)[some]
        return float(areas.sum()), sqrt(terms.sum())


def kaplan_meier(times: np.ndarray, events: np.ndarray) -> KaplanMeier:
    """The survival curve of runs; times: [n]; events: [n] bool, False where the time is censored."""
    curve = scipy.stats.ecdf(scipy.stats.CensoredData.right_censored(times, ~events)).sf
    steps, counts = np.unique(times[events], return_counts=True)
    at_risk = len(times) - np.searchsorted(np.sort(times), steps)
    return KaplanMeier(steps, curve.evaluate(steps), at_risk, counts)


Strata = Sequence[np.ndarray]


def mean_interval(
    strata: Strata,
    weights: Sequence[float] | None = None,
    bounds: tuple[float, float] = (0.0, 1.0),
    resolution: tuple[float, float] = (0.0, 0.0),
) -> Interval:
    """Interval of Σ wᵢ·mean(stratum i), by default the mean of the strata's means; strata are independent.

    strata: per stratum [replicates]. With fewer than ten replicates in the smallest, a t interval with
    Welch's degrees of freedom, otherwise a BCa bootstrap within strata; one replicate gives the bounds.
    resolution: how far below and above the estimate the interval reaches where no stratum varies. Equal replicates
    are no certainty: their values are known to the resolution of the measurement alone.
    """
    weights = [1 / len(strata)] * len(strata) if weights is None else weights
    # Sorted, so that the order of the replicates changes no resample and no rounding.
    weighted = [weight * np.sort(values) for weight, values in zip(weights, strata, strict=True)]
    estimate = sum(float(values.mean()) for values in weighted)
    replicates = min(map(len, weighted))
    if replicates == 1:
        low, high = bounds
    elif replicates < BOOTSTRAP_FROM:
        low, high = _t_interval(weighted, estimate)
    else:
        low, high = _bca_interval(weighted, estimate)
    if low == high:
        low, high = low - resolution[0], high + resolution[1]
    return Interval(*np.clip([estimate, low, high], *bounds).tolist())


def difference_interval(a: Strata, b: Strata, resolution: float = 0.0) -> Interval:
    """Interval of the difference of the strata's mean means, as `mean_interval`, of values between 0 and 1.

    resolution: of either mean; where neither varies, the difference is known to twice as much.
    """
    weights = [1 / len(a)] * len(a) + [-1 / len(b)] * len(b)
    return mean_interval([*a, *b], weights, bounds=(-1.0, 1.0), resolution=(2 * resolution, 2 * resolution))


def _t_interval(strata: Strata, estimate: float) -> tuple[float, float]:
    variances = np.array([values.var(ddof=1) / len(values) for values in strata])
    if variances.sum() <= ROUNDING**2:
        return estimate, estimate
    freedom = variances.sum() ** 2 / sum(v**2 / (len(values) - 1) for v, values in zip(variances, strata, strict=True))
    half = scipy.special.stdtrit(freedom, 0.5 + CONFIDENCE / 2) * sqrt(variances.sum())
    return estimate - half, estimate + half


def _bca_interval(strata: Strata, estimate: float) -> tuple[float, float]:
    """Bias-corrected and accelerated bootstrap interval (Efron 1987) of a sum of independent means."""
    deviations = [(values - values.mean()) / len(values) for values in strata]
    spread = sum((deviation**2).sum() for deviation in deviations)
    if spread <= ROUNDING**2:
        return estimate, estimate
    acceleration = sum((deviation**3).sum() for deviation in deviations) / (6 * spread**1.5)
    # Rows of the resampling are independent, so one resampling serves every stratum if each starts elsewhere.
    resampled = np.sort(sum(np.roll(_resampled_means(values), 97 * i) for i, values in enumerate(strata)))
    below = np.searchsorted(resampled, [estimate - ROUNDING, estimate + ROUNDING]).mean() / RESAMPLES  # ties half
    bias = scipy.special.ndtri(np.clip(below, 1 / RESAMPLES, 1 - 1 / RESAMPLES))
    shifted = bias + scipy.special.ndtri([0.5 - CONFIDENCE / 2, 0.5 + CONFIDENCE / 2])
    ranks = scipy.special.ndtr(bias + shifted / (1 - acceleration * shifted)) * (RESAMPLES - 1)
    low, high = np.interp(ranks, np.arange(RESAMPLES), resampled)
    return low, high


def _resampled_means(values: np.ndarray) -> np.ndarray:
    """[RESAMPLES] mean of each resample of the values, in memory that does not grow with their number."""
    n = len(values)
    if RESAMPLES * n <= KEPT_DRAWS:
        return _resampling(n) @ values
    rng = np.random.default_rng(RANDOM_SEED)
    return np.concatenate(
        [values[rng.integers(n, size=(rows, n), dtype=np.int32)].mean(1) for rows in pieces(n, RESAMPLES)]
    )


def pieces(n: int, resamples: int) -> list[int]:
    """How many resamples of n values to draw at a time."""
    rows = max(1, KEPT_DRAWS // n)
    return [min(rows, resamples - start) for start in range(0, resamples, rows)]


@lru_cache(maxsize=4)
def _resampling(n: int) -> np.ndarray:
    """[RESAMPLES, n] weight of each of n values in the mean of each resample."""
    drawn = np.random.default_rng(RANDOM_SEED).integers(n, size=(RESAMPLES, n))
    cells = drawn + n * np.arange(RESAMPLES)[:, None]
    return np.bincount(cells.ravel(), minlength=RESAMPLES * n).reshape(RESAMPLES, n) / n


def logrank(a: Strata, b: Strata) -> float:
    """Two-sided p-value of the stratified log-rank test; 1 where all runs are tied.

    a, b: per stratum the times of either model, the budget for a run without the event: all that are left
    then end together, which says nothing about their order.
    """
    excess = variance = 0.0
    for ours, theirs in zip(a, b, strict=True):
        pooled = np.concatenate([ours, theirs])
        for time in np.unique(pooled):
            at_risk, died = np.sum(pooled >= time), np.sum(pooled == time)
            share = np.sum(ours >= time) / at_risk
            excess += np.sum(ours == time) - died * share
            if at_risk > 1:
                variance += died * share * (1 - share) * (at_risk - died) / (at_risk - 1)
    return float(scipy.special.chdtrc(1, excess**2 / variance)) if variance > 0 else 1.0


def probability_of_improvement(a: Strata, b: Strata) -> float:
    """P(a run of A scores higher than a run of B), ties half, averaged over strata."""
    signs = [np.sign(ours[:, None] - theirs[None, :]).mean() for ours, theirs in zip(a, b, strict=True)]
    return float(0.5 + np.mean(signs) / 2)
