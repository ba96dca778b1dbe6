"""A cell's curve has a start, a plateau and an event, and measurements are averaged within them."""

from pathlib import Path

import numpy as np
import pytest
import records

from multistep_bench.runs.spec import Cell
from multistep_bench.runs.store import Run, read_run
from multistep_bench.scoring.phases import Phases, by_phase, over_cells, phases_of, shortcut_reached
from multistep_bench.scoring.score import score

SAMPLES = np.array([0, 10, 20, 30, 40])


def scored_run(folder: Path, correct: list[int]) -> Run:
    return read_run(records.make_run(folder, {(0, 0): correct}))


def phases(run: Run) -> Phases:
    return phases_of(run, score([run]).runs[0].cells[0])


def test_the_plateau_begins_where_most_of_the_way_to_the_shortcut_is_gone(tmp_path: Path) -> None:
    """From 0.1 to 0.55, nine tenths are 0.505."""
    run = scored_run(tmp_path / "run", records.flat())
    slow = records.make_record(run.spec, Cell(0, 0), [100, 300, 504, 505, 550] + [550] * 96)
    assert shortcut_reached(run, slow) == 3_000
    assert shortcut_reached(run, records.make_record(run.spec, Cell(0, 0), [100] * 101)) is None


def test_the_plateau_ends_where_the_rise_begins(tmp_path: Path) -> None:
    """At the shortcut from 1,000 samples on; from 50,000 to 60,000 the accuracy rises by 0.4 in tenths of 0.04."""
    rise = [100] + [550] * 50 + [550 + 40 * step for step in range(1, 11)] + [950] * 40
    run = scored_run(tmp_path / "run", rise)
    begin, end = phases(run).plateau or (0, 0)
    assert begin == 1_000
    assert end == pytest.approx(51_000, abs=150)  # 10 % of the way up; the crossing of 0.505 lies before 1,000
    assert phases(run).event is not None
    assert 51_500 < (phases(run).event or 0) < 60_000


def test_without_an_event_the_plateau_lasts_to_the_budget_and_one_that_is_never_reached_is_none(tmp_path: Path) -> None:
    stuck = phases(scored_run(tmp_path / "stuck", records.flat()))
    assert stuck == Phases((1_000, 100_000), None)
    assert phases(scored_run(tmp_path / "chance", [100] * 101)) == Phases(None, None)
    past = phases(scored_run(tmp_path / "past", [100] * 60 + [950] * 41))  # from chance over the shortcut at once
    assert past.plateau is None
    assert past.event is not None


def test_measurements_lie_in_phases_with_both_ends() -> None:
    found = Phases((10, 30), 31).places(SAMPLES)
    assert {name: places.tolist() for name, places in found.items()} == {
        "start": [0],
        "plateau": [1, 2, 3],
        "event": [4],
    }
    assert Phases(None, 41).places(SAMPLES).keys() == {"start"}
    assert Phases((0, 5), 30).places(SAMPLES).keys() == {"start", "event"}
    assert Phases((0, 5), 30).places(SAMPLES)["event"].tolist() == [3]


def test_each_cell_counts_once_with_its_mean() -> None:
    values = [np.array([1.0, 2.0, 6.0]), np.array([3.0, 5.0])]
    places = [{"start": np.array([0]), "plateau": np.array([1, 2])}, {"start": np.array([0])}]
    found = by_phase(values, places)
    assert found["start"].tolist() == [1.0, 3.0]
    assert found["plateau"].tolist() == [4.0]
    assert "event" not in found


def test_intervals_over_cells_are_students_and_leave_out_what_is_unknown() -> None:
    """1 and 3: standard error 1, and t with one degree of freedom is 12.706."""
    interval = over_cells(np.array([1.0, np.nan, 3.0]))
    assert interval is not None
    assert (interval.estimate, interval.low, interval.high) == pytest.approx((2.0, 2 - 12.706, 2 + 12.706), abs=1e-3)
    bounded = over_cells(np.array([0.4, 0.6]), (0.0, 1.0))
    assert bounded is not None
    assert (bounded.low, bounded.high) == (0.0, 1.0)
    assert over_cells(np.array([np.nan])) is None
    single = over_cells(np.array([2.0]))
    assert single is not None
    assert (single.low, single.high) == (-np.inf, np.inf)
