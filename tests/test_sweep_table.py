"""What a sweep prints: runs in training stay in view, and the whole is priced as one pool."""

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from test_launch import LINEAR, SMALL, TASK

from multistep_bench.reporting.describe import describe_estimate
from multistep_bench.reporting.progress import RunProgress
from multistep_bench.reporting.sweep_table import make_observers, print_sweep_prices, render_runs
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


def test_names_and_prices_of_a_pipe_are_never_wrapped() -> None:
    names = [f"two_step_digits-v1/vit_normsoftmax-{'a_variant_with_a_long_name_' * 4}{index}/quick" for index in "12"]
    costs = [Estimate(6, 1, 1_000_000, 1, 1, 10**15, "cpu", 1, 1.0, 0.0, 10.0, 0.0, None, 1)] * 2
    file = StringIO()
    print_sweep_prices(Console(file=file, width=80), names, costs, together(costs, workers=2))
    head, *rows, whole = file.getvalue().splitlines()
    assert head.split() == ["run", "cells", "samples", "a", "cell", "a", "cell", "training", "FLOPs"]
    assert [row.split() for row in rows] == [[name, "6", "1,000,000", "10", "s", "1e+15"] for name in names]
    assert whole.startswith("12 cells, 2 at a time: about 1:00 min")
    assert whole.endswith("are free")


def test_a_terminal_folds_names_that_do_not_fit() -> None:
    costs = [Estimate(6, 1, 1_000_000, 1, 1, 10**15, "cpu", 1, 1.0, 0.0, 10.0, 0.0, None, 1)]
    file = StringIO()
    console = Console(file=file, width=80, force_terminal=True, color_system=None)
    print_sweep_prices(console, ["n" * 90], costs, together(costs, workers=2))
    lines = file.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert sum(line.count("n" * 5) > 0 for line in lines) > 1


def test_a_pool_takes_no_less_than_its_work_shared_and_than_its_longest_cell() -> None:
    def priced(cells: int, seconds: float) -> Estimate:
        return Estimate(cells, 1, 1, 1, 1, None, "cpu", 1, 1.0, 0.0, seconds, 0.0, None, 1)

    assert together([priced(6, 10.0), priced(2, 20.0)], workers=4) == {"cells": 8, "processes": 4, "seconds": 25.0}
    assert together([priced(1, 10.0), priced(1, 90.0)], workers=4) == {"cells": 2, "processes": 2, "seconds": 90.0}


def test_a_run_is_priced_in_units_that_fit() -> None:
    hours = Estimate(6, 1, 1, 1, 1, None, "cpu", 2, 1234.5, 0.25, 10_000.0, 30_000.0, None, 3 * 2**20)
    shown = describe_estimate(hours)
    assert shown["expected time"] == "8:20 h, if as many processors are free"
    assert (shown["training FLOPs"], shown["peak memory"], shown["on disk"]) == (
        "not counted",
        "not measured",
        "3.0 MiB",
    )
    assert (shown["where"], shown["evaluation's share"]) == ("cpu, 2 at a time", "25%")
