"""What a sweep prints: runs in training stay in view, and the whole is priced as one pool."""

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from test_launch import LINEAR, SMALL, TASK

from multistep_bench.reporting.progress import RunProgress
from multistep_bench.reporting.sweep_table import make_observers, render_runs
from multistep_bench.runs.events import Evaluation, Outcome
from multistep_bench.runs.spec import Cell
from multistep_bench.training.estimate import Estimate, together
from multistep_bench.training.plan import plan


@pytest.fixture(scope="module")
def spec():
    return plan(TASK, LINEAR, "smoke", SMALL)


def drawn(runs, height: int) -> str:
    console = Console(width=120, height=height, record=True, file=StringIO())
    console.print(render_runs(runs, height))
    return console.export_text()


def evaluation(samples: int, correct: int) -> Evaluation:
    return Evaluation(samples=samples, correct=correct, loss=1.0, train_loss=1.0, seconds=1.0)


def test_of_thirty_runs_those_in_training_are_in_view(spec) -> None:
    now = iter(range(10_000))
    runs = [(f"model{index}", RunProgress(spec, Path("run"), {}, lambda: next(now))) for index in range(30)]
    runs[27][1].evaluated(Cell(0, 0), evaluation(0, 30), 100)
    runs[27][1].evaluated(Cell(0, 1), evaluation(0, 50), 100)
    text = drawn(runs, 24)
    assert len(text.splitlines()) <= 24
    row = next(line for line in text.splitlines() if "model27" in line)
    assert row.split()[-4:] == ["–", "–", "–", "0.400"]
    assert "0/4" in row
    assert "and 14 runs more, waiting or ended" in text


def test_events_and_broken_cells_are_counted(spec) -> None:
    run = RunProgress(spec, Path("run"), {}, lambda: 0.0)
    interval = spec.protocol.interval
    for index in range(spec.protocol.evaluations + 1):
        run.evaluated(Cell(0, 0), evaluation(index * interval, 100 if index > 2 else 10), 100)
    run.end(Cell(0, 0), Outcome(status="completed", samples=1600, seconds=3.0))
    run.end(Cell(1, 0), Outcome(status="diverged", reason="loss", samples=160, seconds=1.0))
    row = next(line for line in drawn([("linear", run)], 24).splitlines() if "linear" in line)
    cells = row.split()
    event = "44"  # 32 + 16 · (0.775 − 0.1) / 0.9
    assert cells[cells.index("2/4") :] == ["2/4", "–", "1", event, "1", "1.000"]


def test_lines_of_a_pipe_name_their_run(spec, tmp_path: Path) -> None:
    with (tmp_path / "out").open("w+", encoding="utf-8") as file:
        observer = make_observers(Console(file=file, width=200), [(spec, "linear-eight on digits")])[0]
        observer.begin(spec, Path("run"), {})
        observer.ended(Cell(1, 0), Outcome(status="failed", reason="no", samples=0, seconds=0.0))
        file.seek(0)
        last = file.read().splitlines()[-1]
    assert last == "linear-eight on digits, rate 1e-2 seed 0: failed: no (0 s) [1/4]"


def test_a_pool_takes_no_less_than_its_work_shared_and_than_its_longest_cell() -> None:
    def priced(cells: int, seconds: float) -> Estimate:
        return Estimate(cells, 1, 1, 1, 1, None, "cpu", 1, 1.0, 0.0, seconds, 0.0, None, 1)

    assert together([priced(6, 10.0), priced(2, 20.0)], workers=4) == {"cells": 8, "processes": 4, "seconds": 25.0}
    assert together([priced(1, 10.0), priced(1, 90.0)], workers=4) == {"cells": 2, "processes": 2, "seconds": 90.0}
