"""What holds of every score, whatever the curves: searched by hypothesis."""

from pathlib import Path

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from records import BUDGET, EVALUATIONS, ITEMS, Counts, accuracies, make_run

from multistep_bench.cards import Levels, Scoring
from multistep_bench.runs.store import Run, read_run
from multistep_bench.scoring.cell_set import CellSetScore, profiles, score_cells, speeds
from multistep_bench.scoring.compare import compare
from multistep_bench.scoring.eureka import CurveScore, score_curve
from multistep_bench.scoring.permutation import permutation_p
from multistep_bench.scoring.score import score
from multistep_bench.scoring.statistics import (
    Interval,
    difference_interval,
    logrank,
    mean_interval,
    newcombe,
    probability_of_improvement,
    wilson,
)

settings.register_profile("any time", deadline=None)  # a busy machine is no failure
settings.load_profile("any time")

LEVELS = Levels(chance=0.1, shortcut=0.55, ceiling=0.95)
FAILURE = CurveScore(eureka=None, final_accuracy=0.1, retained=False)

counts = st.lists(st.none() | st.integers(0, ITEMS), min_size=1, max_size=30)
accuracy = st.integers(0, ITEMS).map(lambda count: count / ITEMS)
times = st.none() | st.floats(1, BUDGET - 1)
curves = st.builds(CurveScore, times, accuracy, st.booleans())
unit = st.lists(st.floats(0, 1), min_size=1, max_size=14)


@st.composite
def cell_sets(draw: st.DrawFn) -> list[list[CurveScore]]:
    """Strata of equal size."""
    seeds = draw(st.integers(1, 12))
    rates = draw(st.integers(1, 3))
    return [draw(st.lists(curves, min_size=seeds, max_size=seeds)) for _ in range(rates)]


def curve_score(values: Counts) -> CurveScore:
    samples = np.arange(len(values)) * 100
    return score_curve(
        samples, accuracies(values, ITEMS), levels=LEVELS, scoring=Scoring(), budget=100 * (len(values) - 1)
    )


def intervals(scores: CellSetScore) -> list[Interval]:
    found = [scores.probability, scores.probability_retained, scores.speed, scores.final_accuracy, scores.profile]
    return [interval for interval in found if interval is not None]


@given(counts)
def test_a_curve_scores_within_its_ranges(values: list[int | None]) -> None:
    result = curve_score(values)
    budget = 100 * (len(values) - 1)
    assert 0 <= result.final_accuracy <= 1
    assert result.eureka is None or 0 < result.eureka <= budget
    assert not result.retained or result.eureka is not None
    assert result.plateau is None or 0 <= result.plateau <= budget
    assert result.abruptness is None or 0 <= result.abruptness <= 1


@given(counts, st.integers(1, 5))
def test_a_longer_rest_on_the_shortcut_is_a_later_event(values: list[int | None], delay: int) -> None:
    assume(values[0] is not None)
    event, later = curve_score(values).eureka, curve_score([values[0], *[550] * delay, *values[1:]]).eureka
    if event is None or later is None:
        assert event == later
    else:
        assert event < later <= event + 100 * delay + 1e-6


@given(counts, st.integers(1, 29))
def test_a_lost_evaluation_never_makes_an_event_earlier(values: list[int | None], index: int) -> None:
    lost = [*values[:index], None, *values[index + 1 :]][: len(values)]
    event, without = curve_score(values).eureka, curve_score(lost).eureka
    assert without is None or (event is not None and event <= without)


@given(cell_sets())
def test_scores_lie_in_their_ranges_and_in_their_intervals(strata: list[list[CurveScore]]) -> None:
    scores = score_cells(strata, BUDGET, control=False)
    for interval in intervals(scores):
        assert 0 <= interval.low <= interval.estimate <= interval.high <= 1
    assert 0 <= scores.restricted_mean <= BUDGET
    assert scores.restricted_mean_error >= 0
    assert scores.median is None or 0 < scores.median < BUDGET
    assert (scores.median is None) == (2 * scores.events < scores.n)
    survival = scores.survival
    assert list(survival.survival) == sorted(survival.survival, reverse=True)
    assert all(low <= s <= high for low, s, high in zip(survival.low, survival.survival, survival.high, strict=True))


@given(cell_sets())
def test_speed_is_what_the_restricted_mean_leaves(strata: list[list[CurveScore]]) -> None:
    scores = score_cells(strata, BUDGET, control=False)
    assert np.isclose(scores.speed.estimate, 1 - scores.restricted_mean / BUDGET)


@given(cell_sets(), st.randoms())
def test_the_order_of_seeds_changes_nothing(strata: list[list[CurveScore]], random) -> None:
    shuffled = [random.sample(stratum, len(stratum)) for stratum in strata]
    before, after = (score_cells(order, BUDGET, control=False) for order in (strata, shuffled))
    assert intervals(before) == intervals(after)
    assert before.survival == after.survival


@given(cell_sets(), st.data())
def test_a_failed_cell_never_raises_a_score(strata: list[list[CurveScore]], data: st.DataObject) -> None:
    rate = data.draw(st.integers(0, len(strata) - 1))
    seed = data.draw(st.integers(0, len(strata[0]) - 1))
    replaced = [list(stratum) for stratum in strata]
    replaced[rate][seed] = FAILURE
    before = score_cells(strata, BUDGET, control=False)
    added = [[*stratum, FAILURE] for stratum in strata]
    for after in (score_cells(replaced, BUDGET, control=False), score_cells(added, BUDGET, control=False)):
        for name in ("probability", "speed", "profile"):
            assert getattr(after, name).estimate <= getattr(before, name).estimate + 1e-12


@given(st.floats(1, BUDGET), st.floats(1, BUDGET))
def test_a_later_event_never_raises_a_score(first: float, second: float) -> None:
    early, late = sorted([first, second])
    for measure in (speeds, profiles):
        values = measure([early, late, None], BUDGET)
        assert values[0] >= values[1] >= values[2] == 0
        assert values[0] <= 1


@given(st.lists(unit, min_size=1, max_size=3))
def test_every_interval_of_a_mean_contains_it(strata: list[list[float]]) -> None:
    interval = mean_interval([np.array(values) for values in strata])
    assert 0 <= interval.low <= interval.estimate <= interval.high <= 1


@given(st.integers(1, 60).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.integers(0, 20))
def test_intervals_of_proportions(table: tuple[int, int], other: int) -> None:
    interval = wilson(*table)
    assert 0 <= interval.low <= interval.estimate <= interval.high <= 1
    difference = newcombe(*table, other, 20)
    assert -1 <= difference.low <= difference.estimate <= difference.high <= 1


@given(unit, unit)
@settings(max_examples=40)
def test_comparisons_lie_in_their_ranges(ours: list[float], theirs: list[float]) -> None:
    a, b = np.array(ours), np.array(theirs)
    difference = difference_interval([a], [b])
    assert -1 <= difference.low <= difference.estimate <= difference.high <= 1
    assert 0 < permutation_p([a], [b]) <= 1
    assert 0 <= logrank([1 - a], [1 - b]) <= 1
    assert probability_of_improvement([a], [b]) + probability_of_improvement([b], [a]) == 1


def test_the_order_of_records_changes_nothing(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    cells = {
        (rate, seed): [100, *(550 + 400 * (np.arange(EVALUATIONS) > rng.integers(150))).tolist()]
        for rate in range(2)
        for seed in range(10)
    }
    run = read_run(make_run(tmp_path / "run", cells))
    turned = Run(run.path, run.spec, run.records[::-1])
    assert score([run]).to_dict() == score([turned]).to_dict()
    assert compare(run, turned).grid.permutation == 1
