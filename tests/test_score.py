"""Scoring runs: hand-computed cell sets, what counts as a failure, tuned rates, Q, and what is refused."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from records import (
    BUDGET,
    LOSS_TASK,
    Counts,
    Ended,
    change_records,
    drop,
    fall,
    flat,
    jump,
    make_record,
    make_run,
    make_spec,
    write_run,
)

from multistep_bench.errors import RunError
from multistep_bench.runs.spec import Cell
from multistep_bench.runs.store import read_run
from multistep_bench.scoring.run import RunScore, score_run
from multistep_bench.scoring.score import Score, score
from multistep_bench.scoring.statistics import Interval, mean_interval, wilson

Curves = Mapping[tuple[int, int], Counts | Ended]

# T/B of .2, .35, .35, .5, .8 and five cells that never jump, seeds of one learning rate.
TEN: Sequence[Counts] = [jump(at) for at in (0.2, 0.35, 0.35, 0.5, 0.8)] + [flat()] * 5


NUDGED = [*flat()[:-1], 551]


def one_rate(curves: Sequence[Counts | Ended]) -> Curves:
    return {(0, seed): curve for seed, curve in enumerate(curves)}


def two_rates(first: Sequence[Counts | Ended], second: Sequence[Counts | Ended]) -> Curves:
    return {(rate, seed): curve for rate, curves in enumerate((first, second)) for seed, curve in enumerate(curves)}


def scored(tmp_path: Path, curves: Curves, **spec: Any) -> RunScore:
    return score_run(make_run(tmp_path / f"run{len(list(tmp_path.iterdir()))}", curves, **spec))


def test_a_cell_set_by_hand(tmp_path: Path) -> None:
    grid = scored(tmp_path, one_rate([*TEN])).grid
    assert (grid.n, grid.events, grid.retained) == (10, 5, 5)
    assert grid.probability == wilson(5, 10)
    assert grid.speed.estimate == pytest.approx(0.28)
    assert (grid.restricted_mean, grid.restricted_mean_error) == pytest.approx((0.72 * BUDGET, 0.09954898 * BUDGET))
    assert grid.median == pytest.approx(0.8 * BUDGET)
    assert grid.profile is not None
    assert grid.profile.estimate == pytest.approx(0.111217, abs=5e-7)
    assert grid.final_accuracy.estimate == pytest.approx(0.75)
    assert grid.final_accuracy_given_eureka == pytest.approx(0.95)


def test_the_survival_curve_starts_at_one_and_has_wilsons_band(tmp_path: Path) -> None:
    survival = scored(tmp_path, one_rate([*TEN])).grid.survival
    assert survival.times == pytest.approx([0, 0.2 * BUDGET, 0.35 * BUDGET, 0.5 * BUDGET, 0.8 * BUDGET])
    assert survival.survival == (1, 0.9, 0.7, 0.6, 0.5)
    assert (survival.low[-1], survival.high[-1]) == (wilson(5, 10).low, wilson(5, 10).high)


def test_divergences_count_to_the_budget_and_are_named(tmp_path: Path) -> None:
    broken = Ended("diverged", [100, *[950] * 5], "loss is nan")  # had crossed the threshold before
    run = scored(tmp_path, one_rate([*TEN[:5], *[broken] * 5]))
    assert run.grid.speed.estimate == pytest.approx(0.28)
    assert run.grid.events == 5
    assert run.grid.final_accuracy.estimate == pytest.approx((5 * 0.95 + 5 * 0.1) / 10)
    assert run.problems == {f"rate0-seed{seed}": "diverged: loss is nan" for seed in range(5, 10)}


def test_missing_failed_and_invalid_cells_count_as_failures_and_are_named(tmp_path: Path) -> None:
    curves = {(0, 0): jump(0.5), (0, 1): Ended("failed", reason="out of memory"), (0, 3): [950] * 101}
    run = scored(tmp_path, curves, seeds=4)
    assert (run.grid.n, run.grid.events) == (4, 1)
    assert run.grid.speed.estimate == pytest.approx(0.125)
    assert run.grid.final_accuracy.estimate == pytest.approx((0.95 + 3 * 0.1) / 4)
    assert run.missing == ("rate0-seed2",)
    assert list(run.problems) == ["rate0-seed1", "rate0-seed2", "rate0-seed3"]
    assert run.problems["rate0-seed1"] == "failed: out of memory"
    assert run.problems["rate0-seed2"] == "missing"
    assert "before training" in run.problems["rate0-seed3"]


def test_a_run_without_any_record_is_scored(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", {(0, 0): flat()}, seeds=3)
    drop(folder, Cell(0, 0))
    run = score_run(folder)
    assert len(run.missing) == 3
    assert run.grid.speed.estimate == 0
    assert run.grid.final_accuracy.estimate == pytest.approx(0.1)


def test_a_collapsed_run_keeps_its_event_and_is_not_retained(tmp_path: Path) -> None:
    collapsed = [*jump(0.2)[:60], *[300] * 41]
    grid = scored(tmp_path, one_rate([collapsed, jump(0.2), jump(0.3), flat()])).grid
    assert (grid.events, grid.retained) == (3, 2)
    assert grid.probability_retained == wilson(2, 4)
    assert grid.final_accuracy_given_eureka == pytest.approx((0.3 + 0.95 + 0.95) / 3)


def test_absent_evaluations_are_missing_ones(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", one_rate([jump(0.5)]))
    counts: list[int | None] = [*jump(0.5)]
    counts[50] = None  # the evaluation that stands on the threshold
    change_records(folder, lambda record: make_record(make_spec(), record.cell, counts))
    assert score_run(folder).cells[0].curve.eureka == 51_000
    del counts[-1]  # the one at the budget
    change_records(folder, lambda record: make_record(make_spec(), record.cell, counts))
    assert score_run(folder).problems == {"rate0-seed0": "its curve ends at 99000 of 100000 samples"}


def test_wall_clock_to_the_eureka_moment(tmp_path: Path) -> None:
    cells = scored(tmp_path, one_rate([jump(0.25), flat()])).cells
    assert (cells[0].eureka_seconds, cells[0].seconds) == (pytest.approx(25), 100)
    assert cells[1].eureka_seconds is None


def test_learning_rates_apart_and_together(tmp_path: Path) -> None:
    run = scored(tmp_path, two_rates([jump(0.2), flat(), flat()], [jump(0.4), jump(0.4), flat()]))
    assert [rate.speed.estimate for rate in run.by_rate] == pytest.approx([0.8 / 3, 0.4])
    assert [rate.events for rate in run.by_rate] == [1, 2]
    assert run.grid.probability == wilson(3, 6)
    assert run.grid.speed.estimate == pytest.approx(1 / 3)
    strata = [np.array([0.8, 0, 0]), np.array([0.6, 0.6, 0])]
    expected = mean_interval(strata)
    assert (run.grid.speed.low, run.grid.speed.high) == pytest.approx((expected.low, expected.high))
    assert [cell.cell.name for cell in run.cells_by_rate[1]] == ["rate1-seed0", "rate1-seed1", "rate1-seed2"]


def test_tuned_rates_are_chosen_on_the_other_seeds(tmp_path: Path) -> None:
    # On all seeds the first rate is best, by its one fast run; without that run it is not.
    run = scored(tmp_path, two_rates([jump(0.1), flat(), flat()], [flat(), jump(0.7), jump(0.7)]))
    assert run.best_rate == 0
    assert run.tuned_rates == (1, 0, 0)
    assert [cell.cell.name for cell in run.tuned_cells] == ["rate1-seed0", "rate0-seed1", "rate0-seed2"]
    assert run.tuned is not None
    assert (run.tuned.n, run.tuned.events, run.tuned.speed.estimate) == (3, 0, 0)


def test_equal_speeds_are_decided_by_accuracy_then_by_the_lower_rate(tmp_path: Path) -> None:
    better = [*flat()[:-5], *[600] * 5]
    assert scored(tmp_path, two_rates([flat(), flat()], [better, better])).best_rate == 1
    assert scored(tmp_path, two_rates([flat(), flat()], [flat(), flat()])).best_rate == 0


def test_one_seed_cannot_be_tuned(tmp_path: Path) -> None:
    run = scored(tmp_path, two_rates([jump(0.1)], [flat()]))
    assert run.tuned is None
    assert run.tuned_rates == ()
    assert (run.grid.speed.low, run.grid.speed.high) == (0, 1)


def test_q_at_tuned_rates_needs_them_for_every_task(two_tasks: list[Path], tmp_path: Path) -> None:
    single = make_run(tmp_path / "single", one_rate([jump(0.1)]), task={"id": "single-v1"})
    overall = score([*two_tasks, single]).overall[0]
    assert overall.grid is not None
    assert overall.tuned is None


@pytest.mark.parametrize(("best", "edge"), [(0, True), (1, False), (2, True)])
def test_an_optimum_at_the_edge_of_the_grid_is_flagged(tmp_path: Path, best: int, edge: bool) -> None:
    curves = {(rate, seed): jump(0.2 if rate == best else 0.6) for rate in range(3) for seed in range(2)}
    run = scored(tmp_path, curves)
    assert (run.best_rate, run.best_rate_at_edge) == (best, edge)


def test_without_an_event_the_interval_of_speed_ends_at_wilsons_bound(tmp_path: Path) -> None:
    run = scored(tmp_path, two_rates([flat()] * 3, [flat()] * 3))
    for scores, n in ((run.grid, 6), (run.by_rate[0], 3), (run.tuned, 3)):
        assert scores is not None
        assert scores.profile == scores.speed
        assert (scores.speed.estimate, scores.speed.low, scores.speed.high) == (0, 0, wilson(0, n).high)
        assert scores.median is None
        assert scores.final_accuracy_given_eureka is None


def test_robustness_over_the_threshold(tmp_path: Path) -> None:
    partial = [*flat()[:50], *[700] * 51]  # passes λ = 0.25 at 0.65, not 0.5 at 0.75
    run = scored(tmp_path, one_rate([partial, jump(0.3), [*flat()[:20], *[880] * 81]]))
    assert [entry.threshold_fraction for entry in run.robustness] == [0.25, 0.5, 0.75, 0.9]
    assert [entry.probability for entry in run.robustness] == [wilson(k, 3) for k in (3, 2, 2, 1)]
    assert run.robustness[1].speed == run.grid.speed
    assert run.robustness[1].profile == run.grid.profile
    speeds = [entry.speed.estimate for entry in run.robustness]
    assert speeds == sorted(speeds, reverse=True)


def test_failures_fail_under_every_threshold(tmp_path: Path) -> None:
    spike = [*flat()[:-1], 1000]  # not confirmed
    failures: list[Counts | Ended] = [Ended("diverged", jump(0.2)), [950] * 101, jump(0.2)[:-1], spike]
    run = scored(tmp_path, one_rate([*failures, [700, *jump(0.2)[1:]]]))  # the last starts above λ = 0.25
    assert [entry.probability for entry in run.robustness] == [wilson(k, 5) for k in (0, 1, 1, 1)]


CONTROL = {"id": "control-v1", "levels": {"chance": 0.1, "ceiling": 0.9}}


def test_a_control_task_has_speed_and_accuracy_but_no_p_and_no_q(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", one_rate([jump(0.01), jump(0.01)]), task=CONTROL)
    result = score([folder])
    run = result.runs[0]
    assert run.control
    for scores in (run.grid, run.tuned, run.by_rate[0]):
        assert scores is not None
        assert (scores.probability, scores.probability_retained, scores.profile) == (None, None, None)
        assert scores.speed.estimate > 0.98
    assert run.robustness[0].probability is None
    assert result.overall[0].tasks == ()
    assert result.overall[0].grid is None


@pytest.fixture
def two_tasks(tmp_path: Path) -> list[Path]:
    """Q of 0.111217 on steps-v1; on other-v1, B/T = 8 for half of the cells, so ¼."""
    other = make_run(tmp_path / "b", one_rate([jump(0.1), flat()]), task={"id": "other-v1"})
    return [make_run(tmp_path / "a", one_rate([*TEN])), other]


Q_OTHER = np.log(10) / np.log(64) / 2


def test_q_is_the_mean_over_tasks(two_tasks: list[Path], tmp_path: Path) -> None:
    control = make_run(tmp_path / "control", one_rate([jump(0.2), flat()]), task=CONTROL)
    overall = score([*two_tasks, control]).overall
    assert len(overall) == 1
    assert overall == score([*two_tasks, control], tasks=["steps-v1", "other-v1", "control-v1"]).overall
    assert overall[0].tasks == ("steps-v1", "other-v1")
    assert overall[0].grid is not None
    assert overall[0].grid.estimate == pytest.approx((0.111217 + Q_OTHER) / 2, abs=1e-6)
    assert overall[0].robustness[1] == pytest.approx(overall[0].grid.estimate)


def test_q_of_one_task_is_the_runs_own(two_tasks: list[Path]) -> None:
    result = score(two_tasks[:1])
    assert result.overall[0].grid == result.runs[0].grid.profile
    assert result.runs[0].tuned is not None
    assert result.overall[0].tuned == result.runs[0].tuned.profile


def test_rates_of_a_task_weigh_alike_in_q(tmp_path: Path) -> None:
    many = make_run(tmp_path / "many", {(rate, seed): flat() for rate in range(3) for seed in range(2)})
    one = make_run(tmp_path / "one", one_rate([jump(0.1), flat()]), task={"id": "other-v1"})
    grid = score([many, one]).overall[0].grid
    assert grid is not None
    assert grid.estimate == pytest.approx(Q_OTHER / 2)


def test_a_missing_task_counts_zero(two_tasks: list[Path]) -> None:
    tasks = ("steps-v1", "other-v1", "third-v1", "fourth-v1")
    full, part = score(two_tasks).overall[0], score(two_tasks, tasks=tasks).overall[0]
    assert part.missing_tasks == ("third-v1", "fourth-v1")
    assert full.grid is not None
    assert part.grid is not None
    assert part.tuned is not None
    assert part.grid == full.grid.scaled(0.5)
    assert full.tuned is not None
    assert part.tuned == full.tuned.scaled(0.5)
    assert part.robustness == pytest.approx([q / 2 for q in full.robustness])
    alone = score(two_tasks, tasks=["other-v1"]).overall[0]
    assert alone.grid is not None
    assert alone.grid.estimate == pytest.approx(Q_OTHER)


def test_models_have_their_own_q(two_tasks: list[Path], tmp_path: Path) -> None:
    other = make_run(tmp_path / "other", one_rate([flat(), flat()]), model="vit_tau")
    overall = score([*two_tasks, other]).overall
    assert [(entry.model, len(entry.tasks)) for entry in overall] == [("vit", 2), ("vit_tau", 1)]


def test_two_runs_of_one_model_on_one_task_are_refused(tmp_path: Path) -> None:
    folders = [make_run(tmp_path / name, one_rate([jump(0.2)])) for name in ("first", "second")]
    with pytest.raises(RunError, match=r"first and .*second are two runs of vit on steps-v1 quick"):
        score(folders)
    changed = make_run(tmp_path / "third", one_rate([jump(0.2)]), changes={"model.depth": 4})
    assert len(score([folders[0], changed]).overall) == 2


def test_two_cards_of_one_task_are_refused(tmp_path: Path) -> None:
    first = make_run(tmp_path / "first", one_rate([jump(0.2)]))
    second = make_run(tmp_path / "second", one_rate([jump(0.2)]), model="other", task={"generator": "episodes"})
    with pytest.raises(RunError, match="different cards of steps-v1"):
        score([first, second])


def test_a_perfect_accuracy_is_one(tmp_path: Path) -> None:
    run = scored(tmp_path, one_rate([[100, *[1000] * 100]]))
    assert run.grid.final_accuracy.estimate == 1


def test_nothing_to_score_is_refused() -> None:
    with pytest.raises(RunError, match="no run"):
        score([])


def test_a_run_in_memory_scores_as_its_folder(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", one_rate([*TEN]), seeds=12)
    assert score([read_run(folder)]) == score([folder]) == score([str(folder)])


def test_the_dictionary_is_plain_and_complete(two_tasks: list[Path]) -> None:
    content = score(two_tasks).to_dict()
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    assert content["schema"] == "msb.score/1"
    assert content["scorer"]
    assert content["intervals"]["resamples"] == 9999
    run = content["runs"][0]
    assert (run["expected"], run["missing"]) == (10, [])
    assert run["grid"]["probability"] == [0.5, pytest.approx(0.2366, abs=1e-4), pytest.approx(0.7634, abs=1e-4)]
    assert run["cells"][0]["name"] == "rate0-seed0"
    assert run["cells"][0]["curve"]["eureka"] == pytest.approx(20_000)
    assert run["tuned_rates"] == [1e-3] * 10
    assert run["best_rate"] == 1e-3
    assert run["task"]["threshold"] == pytest.approx(0.75)
    assert content["overall"][0]["grid"][0] == pytest.approx((0.111217 + Q_OTHER) / 2, abs=1e-6)


def test_the_dictionary_carries_the_hash_of_every_record(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", one_rate([jump(0.2), flat()]))
    before = score([folder]).to_dict()
    spec = make_spec(seeds=2)
    change_records(
        folder, lambda record: make_record(spec, Cell(0, 1), NUDGED) if record.cell == Cell(0, 1) else record
    )
    after = score([folder]).to_dict()
    hashes = [[cell["record_sha256"] for cell in content["runs"][0]["cells"]] for content in (before, after)]
    assert hashes[0][0] == hashes[1][0]
    assert hashes[0][1] != hashes[1][1]
    assert before["records_root"] != after["records_root"]


def test_scores_are_reproducible(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", two_rates([*TEN], [*TEN[::-1]]))
    first = score([folder])
    assert isinstance(first, Score)
    assert first == score([folder])


def test_auxiliary_measurements_end_in_the_mean_of_their_last_five_readings_and_score_nothing(tmp_path: Path) -> None:
    curves: dict[tuple[int, int], Counts | Ended] = {
        (0, 0): jump(0.3),
        (0, 1): flat(),
        (0, 2): Ended("diverged", [100, 300]),
    }
    further = {"easy": [0] * 96 + [800, 900, 1000, 1000, 1000], "torn": [500] * 100 + [None]}
    with_them = score_run(make_run(tmp_path / "with", curves, seeds=4, auxiliary=further))
    without = score_run(make_run(tmp_path / "without", curves, seeds=4))
    assert [cell.auxiliary for cell in with_them.cells] == [
        {"easy": pytest.approx(0.94), "torn": None},
        {"easy": pytest.approx(0.94), "torn": None},
        {"easy": None, "torn": None},
        {},
    ]
    assert with_them.auxiliary == {"easy": pytest.approx(0.94), "torn": None}
    assert without.auxiliary == {}
    assert with_them.grid == without.grid


def test_auxiliary_measurements_are_averaged_over_the_cells(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", {(0, 0): flat()}, seeds=3, auxiliary={"hop 1": [200] * 101})
    spec, (first,) = read_run(run).spec, read_run(run).records
    further = [make_record(spec, Cell(0, seed), flat(), {"hop 1": [n] * 101}) for seed, n in ((1, 300), (2, 700))]
    write_run(run, spec, [first, *further])
    assert score_run(run).auxiliary == {"hop 1": pytest.approx(0.4)}


def test_auxiliary_measurements_of_a_task_scored_by_its_loss_are_losses(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", {(0, 0): fall(0.3)}, auxiliary={"words": fall(0.5)}, task=LOSS_TASK)
    assert score_run(run).auxiliary == {"words": 1.5}


def test_the_final_loss_is_not_cut_to_the_range_of_accuracies(tmp_path: Path) -> None:
    curves = {(0, seed): fall(0.3) for seed in range(2)} | {
        (0, 2): [4000] * 101,
        (1, 0): [4000] * 95 + [9000] * 6,
    }
    scored = score_run(make_run(tmp_path / "run", curves, seeds=3, task=LOSS_TASK))
    first, second = (rate.final_accuracy for rate in scored.by_rate)
    assert first.estimate == pytest.approx((1.5 + 1.5 + 4) / 3)
    assert 0 <= first.low < first.estimate < first.high <= 4
    assert second.estimate == pytest.approx((9 + 4 + 4) / 3)
    assert second.high <= 9
    lone = score_run(make_run(tmp_path / "lone", {(0, 0): fall(0.3)}, task=LOSS_TASK))
    assert lone.grid.final_accuracy == Interval(1.5, 0.0, 4.0), "one run bounds nothing: the interval reaches chance"


def test_equal_cells_have_no_interval_of_zero_width(tmp_path: Path) -> None:
    """Three cells that jump at half the budget and end at 950 of 1000: S within 1/100, A as Wilson bounds 950/1000."""
    grid = scored(tmp_path, one_rate([jump(0.5)] * 3)).grid
    assert (grid.speed.low, grid.speed.high) == pytest.approx((0.49, 0.51))
    accuracy = wilson(950, 1000)
    assert (grid.final_accuracy.low, grid.final_accuracy.high) == pytest.approx((accuracy.low, accuracy.high))
    assert grid.profile is not None
    assert grid.profile.low < grid.profile.estimate < grid.profile.high
