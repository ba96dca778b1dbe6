"""Intervals and tests: published examples, agreement with scipy where scipy has the same, and coverage."""

import numpy as np
import pytest
from scipy import stats

from multistep_bench.scoring import statistics
from multistep_bench.scoring.statistics import (
    Interval,
    boschloo,
    difference_interval,
    kaplan_meier,
    logrank,
    mean_interval,
    newcombe,
    probability_of_improvement,
    wilson,
)

FREIREICH = "6 6 6 6+ 7 9+ 10 10+ 11+ 13 16 17+ 19+ 20+ 22 23 25+ 32+ 32+ 34+ 35+"
TIMES = np.array([float(time.rstrip("+")) for time in FREIREICH.split()])
EVENTS = np.array([not time.endswith("+") for time in FREIREICH.split()])
TEN = np.array([20, 35, 35, 50, 80, 100, 100, 100, 100, 100.0])  # five censored at the budget of 100


def numbers(interval: Interval) -> tuple[float, float, float]:
    return interval.estimate, interval.low, interval.high


def test_kaplan_meier_of_freireich() -> None:
    curve = kaplan_meier(TIMES, EVENTS)
    assert curve.times.tolist() == [6, 7, 10, 13, 16, 22, 23]
    assert curve.survival == pytest.approx([0.8571, 0.8067, 0.7529, 0.6902, 0.6275, 0.5378, 0.4482], abs=5e-5)
    assert curve.at_risk.tolist() == [21, 17, 15, 12, 11, 7, 6]
    assert curve.events.tolist() == [3, 1, 1, 1, 1, 1, 1]
    assert curve.median() == 23


def test_restricted_mean_of_freireich() -> None:
    assert kaplan_meier(TIMES, EVENTS).restricted_mean(35) == pytest.approx((23.28740, 2.82747), abs=1e-5)


def test_restricted_mean_with_a_common_budget() -> None:
    curve = kaplan_meier(TEN, TEN < 100)
    assert curve.restricted_mean(100) == pytest.approx((72, 9.954898), abs=5e-7)
    assert curve.median() == 80
    # With censoring at the horizon alone, the variance is that of the mean of min(T, B).
    assert curve.restricted_mean(100)[1] == pytest.approx(TEN.std() / np.sqrt(10))


def test_restricted_mean_at_its_ends() -> None:
    never, ever = np.full(4, 100.0), np.full(3, True)
    assert kaplan_meier(never, never < 100).restricted_mean(100) == (100, 0)
    assert kaplan_meier(np.array([30.0, 30, 30]), ever).restricted_mean(100) == (30, 0)
    early = kaplan_meier(np.array([30.0, 50, 90]), ever).restricted_mean(40)
    assert early == pytest.approx((110 / 3, 10 / 3 * 2**0.5 / 3**0.5))


def test_median_needs_half_of_the_runs() -> None:
    times = np.array([20, 35, 50, 100, 100, 100, 100.0])
    assert kaplan_meier(times, times < 100).median() is None
    half = np.array([2.0, 2, 4, 7, 7, 8, 9, 9, 9, 9])  # the product of 8/10, 7/8 and 5/7 is 0.5000000000000001
    assert kaplan_meier(half, half < 9).median() == 7


def test_wilson() -> None:
    assert numbers(wilson(5, 10)) == pytest.approx((0.5, 0.236593, 0.763407), abs=1e-6)
    assert numbers(wilson(0, 10)) == pytest.approx((0, 0, 0.277533), abs=1e-6)
    widths = [wilson(n // 2, n).high - wilson(n // 2, n).low for n in (10, 20, 50, 100)]
    assert widths == pytest.approx([0.53, 0.40, 0.27, 0.19], abs=5e-3)


def test_newcombe() -> None:
    assert numbers(newcombe(56, 70, 48, 80)) == pytest.approx((0.2, 0.05243, 0.33387), abs=5e-6)
    assert numbers(newcombe(48, 80, 56, 70)) == pytest.approx((-0.2, -0.33387, -0.05243), abs=5e-6)


def test_boschloo() -> None:
    assert boschloo(7, 15, 12, 15) == pytest.approx(stats.boschloo_exact([[7, 12], [8, 3]]).pvalue)
    assert boschloo(7, 12, 8, 10) == pytest.approx(stats.boschloo_exact([[7, 8], [5, 2]]).pvalue)
    assert boschloo(7, 12, 8, 10) == pytest.approx(boschloo(8, 10, 7, 12))
    assert boschloo(0, 10, 0, 10) == 1
    assert boschloo(10, 10, 10, 10) == 1


def test_t_interval_below_ten_replicates() -> None:
    values = np.array([0.2, 0.35, 0.35, 0.5, 0.8, 0.4, 0.6, 0.3, 0.45])
    expected = stats.ttest_1samp(values, 0).confidence_interval()
    result = mean_interval([values])
    assert (result.low, result.high) == pytest.approx((expected.low, expected.high))


def test_t_interval_of_two_strata_is_welchs() -> None:
    a, b = np.array([0.2, 0.35, 0.5, 0.8]), np.array([0.1, 0.15, 0.12])
    expected = stats.ttest_ind(a, b, equal_var=False).confidence_interval()
    result = difference_interval([a], [b])
    assert (result.estimate, result.low, result.high) == pytest.approx(
        (a.mean() - b.mean(), expected.low, expected.high)
    )
    total = mean_interval([a, b])
    assert total.high - total.low == pytest.approx((expected.high - expected.low) / 2)


def test_bca_interval_from_ten_replicates_is_scipys() -> None:
    rng = np.random.default_rng(1)
    strata = [rng.random(12) ** 3, rng.random(12) ** 2]
    once = [np.array([0.0] * 9 + [0.9])]  # one run in ten

    def mean_of_means(a: np.ndarray, b: np.ndarray, axis: int = -1) -> np.ndarray:
        return (a.mean(axis) + b.mean(axis)) / 2

    for data, statistic in ((strata[:1], np.mean), (once, np.mean), (strata, mean_of_means)):
        expected = stats.bootstrap(data, statistic, method="BCa", n_resamples=50_000, rng=2).confidence_interval
        result = mean_interval(data)
        width = expected.high - expected.low
        assert (result.low, result.high) == pytest.approx((expected.low, expected.high), abs=0.03 * width)


def test_intervals_keep_within_their_bounds() -> None:
    assert mean_interval([np.array([0.0, 0.0, 0.9])]).low == 0
    assert mean_interval([np.array([1.0, 1.0, 0.1])]).high == 1
    assert difference_interval([np.array([1.0, 0.9])], [np.array([0.0, 0.3])]).high == 1
    assert mean_interval([np.array([0.4])]) == Interval(0.4, 0, 1)
    assert difference_interval([np.array([0.4])], [np.array([0.1])]) == Interval(0.4 - 0.1, -1, 1)


def test_values_that_do_not_vary() -> None:
    for n in (3, 12):
        assert numbers(mean_interval([np.full(n, 0.1), np.full(n, 0.3)])) == pytest.approx((0.2, 0.2, 0.2))
    assert numbers(mean_interval([np.array([0.0, 1e-106])])) == pytest.approx((0, 0, 0))  # its square underflows


def test_strata_weigh_alike_whatever_their_size() -> None:
    assert mean_interval([np.array([0.0, 0.2]), np.array([0.5] * 8)]).estimate == pytest.approx(0.3)


def test_logrank_of_one_stratum_is_scipys() -> None:
    a = np.array([20, 35, 35, 50, 80, 100, 100, 100.0])
    b = np.array([30, 35, 60, 90, 100, 100, 100, 100.0])
    assert logrank([a[:4]], [b[:3]]) == pytest.approx(stats.logrank(a[:4], b[:3]).pvalue)  # down to the last two
    x, y = (stats.CensoredData.right_censored(times, times >= 100) for times in (a, b))
    assert logrank([a], [b]) == pytest.approx(stats.logrank(x, y).pvalue)


def test_logrank_adds_the_evidence_of_strata_and_not_their_differences() -> None:
    a = [np.array([10, 20, 30.0]), np.array([70, 80, 90.0])]
    b = [np.array([40, 50, 60.0]), np.array([100, 100, 100.0])]
    assert logrank(a, b) < min(logrank(a[:1], b[:1]), logrank(a[1:], b[1:]))
    assert logrank(a, b) < logrank([np.concatenate(a)], [np.concatenate(b)])
    # By hand, at 10, 20, … with the share of A at risk: stratum 1.
    shares = [3 / 6, 2 / 5, 1 / 4]
    chi2 = (3 - sum(shares)) ** 2 / sum(share * (1 - share) for share in shares)
    assert logrank(a[:1], b[:1]) == pytest.approx(stats.chi2.sf(chi2, 1))


def test_logrank_of_ties_is_one() -> None:
    never = np.full(5, 100.0)
    assert logrank([never], [never]) == 1
    assert logrank([np.full(5, 40.0)], [np.full(5, 40.0)]) == 1


def test_probability_of_improvement() -> None:
    a, b = np.array([0, 0, 0.5, 0.8]), np.array([0, 0.3, 0.4, 0])
    assert probability_of_improvement([a], [b]) == 0.625
    assert probability_of_improvement([b], [a]) == 0.375
    assert probability_of_improvement([a, np.array([1.0])], [b, np.array([0.0])]) == pytest.approx((0.625 + 1) / 2)


def _speeds(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Runs of which 70 % have a Eureka-moment, uniform in time; the mean speed is 0.35."""
    return np.where(rng.random(shape) < 0.7, rng.random(shape), 0.0)


@pytest.mark.slow
def test_coverage() -> None:
    """Of nominally 95 % intervals, over 4000 simulated sets: within what is known of each at this n."""
    rng = np.random.default_rng(0)
    sets = 4000

    def coverage(intervals: list[Interval], truth: float) -> float:
        return float(np.mean([interval.low <= truth <= interval.high for interval in intervals]))

    for p in (0.2, 0.5, 0.8):
        assert coverage([wilson(int(k), 10) for k in rng.binomial(10, p, sets)], p) > 0.93
    for n, replicates in ((3, 5), (1, 9)):  # t
        drawn = _speeds(rng, (sets, n, replicates))
        assert 0.93 < coverage([mean_interval(list(values)) for values in drawn], 0.35) < 0.98
    for n, replicates in ((3, 10), (1, 20)):  # BCa
        drawn = _speeds(rng, (sets, n, replicates))
        assert 0.90 < coverage([mean_interval(list(values)) for values in drawn], 0.35) < 0.97
    drawn = _speeds(rng, (sets, 2, 3, 10))
    assert 0.90 < coverage([difference_interval(list(a), list(b)) for a, b in drawn], 0) < 0.97


def test_equal_replicates_are_known_to_the_resolution_of_the_measurement_alone() -> None:
    equal = [np.full(5, 0.3), np.full(5, 0.5)]
    assert numbers(mean_interval(equal, resolution=(0.1, 0.2))) == pytest.approx((0.4, 0.3, 0.6))
    assert numbers(mean_interval([np.ones(12)], resolution=(0.1, 0.2))) == pytest.approx((1, 0.9, 1))
    differing = [np.array([0.1, 0.2, 0.4]), np.full(5, 0.5)]
    assert mean_interval(differing, resolution=(0.1, 0.2)) == mean_interval(differing)
    assert numbers(difference_interval([np.full(3, 0.6)], [np.full(3, 0.5)], 0.01)) == pytest.approx((0.1, 0.08, 0.12))


def test_many_replicates_are_resampled_in_pieces_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    values = [np.random.default_rng(seed).random(60) for seed in range(2)]
    whole = mean_interval(values)
    monkeypatch.setattr(statistics, "KEPT_DRAWS", 5000)
    assert numbers(mean_interval(values)) == pytest.approx(numbers(whole), abs=2e-3)


def test_proportions_of_thousands_of_runs_are_compared_by_the_z_test() -> None:
    """(0.5 − 0.55) / √(0.525·0.475·2/1500) = −2.742, two-sided 0.0061."""
    assert boschloo(750, 1500, 825, 1500) == pytest.approx(0.006107, abs=2e-6)
    assert boschloo(0, 1500, 0, 1500) == 1


@pytest.mark.parametrize(("events", "n"), [(0, 1), (1, 1), (0, 7), (3, 7), (7, 7), (18, 50), (999, 1000)])
def test_wilson_as_scipy_has_it(events: int, n: int) -> None:
    theirs = stats.binomtest(events, n).proportion_ci(0.95, method="wilson")
    assert numbers(wilson(events, n)) == pytest.approx((events / n, theirs.low, theirs.high), abs=1e-12)
