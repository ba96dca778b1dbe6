"""Whoever sees the folder sees how far its runs are, without touching them."""

import os
from io import StringIO
from pathlib import Path

import pytest
import records
from rich.console import Console
from test_launch import LINEAR, SMALL, TASK
from typer.testing import CliRunner

from multistep_bench.cli.app import app
from multistep_bench.reporting.watch import look, render_watched
from multistep_bench.runs.events import Evaluation, event_line
from multistep_bench.runs.spec import Cell
from multistep_bench.runs.store import partial_path, record_path
from multistep_bench.training.launch import launch
from multistep_bench.training.plan import plan

NOW = 1_000_000.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run with one cell ended, one a quarter done, 3 s a quarter, and the last line of that half written."""
    spec = plan(TASK, LINEAR, "smoke", SMALL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("multistep_bench.runs.folder.RunFolder.pack", lambda self: None)
        launch(spec, tmp_path / "deep" / "run", workers=1)
    run = tmp_path / "deep" / "run"
    for cell in spec.cells()[1:]:
        lines = record_path(run, cell).read_bytes().splitlines(keepends=True)
        record_path(run, cell).unlink()
        if cell == Cell(1, 0):
            events = [Evaluation.model_validate_json(line) for line in lines[1:27]]  # 0 to 25 of 100 intervals
            quick = [event.model_copy(update={"seconds": 0.12 * place}) for place, event in enumerate(events)]
            text = "".join(map(event_line, quick)).encode()
            partial_path(run, cell).write_bytes(lines[0] + text + lines[27][:20])
            os.utime(partial_path(run, cell), (NOW, NOW))
    return tmp_path


def test_a_growing_cell_is_seen_as_far_as_its_whole_lines_go(folder: Path) -> None:
    ((name, run),) = look(folder, NOW + 5)
    assert name == "deep/run"
    assert [run.cells[cell].fraction for cell in run.spec.cells()] == [1.0, 0.25, 0.0, 0.0]
    assert run.ended == 1
    assert run.samples_per_second == pytest.approx(400 / 3)  # 400 samples in 3 s
    assert run.cells[Cell(1, 0)].silent is None
    text = _drawn(look(folder, NOW + 5), NOW + 5)
    assert "1/4 cells  133 samples/s" in text
    assert "left" in text


def test_a_run_that_nobody_trains_says_so(folder: Path) -> None:
    ((_, run),) = look(folder, NOW + 7200)
    assert run.cells[Cell(1, 0)].silent == 7200
    assert run.seconds_left is None
    text = _drawn(look(folder, NOW + 7200), NOW + 7200)
    assert "no cell is in training, the last word is 2:00 h old; `run` with the same options resumes" in text


def test_several_runs_have_a_row_each_and_the_command_changes_nothing(folder: Path) -> None:
    spec = plan(TASK, LINEAR, "smoke", {**SMALL, "protocol.seeds": 1})
    launch(spec, folder / "other", workers=1)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    done = CliRunner().invoke(app, ["watch", str(folder), "--once"])
    assert done.exit_code == 0
    assert "2 runs, 3/6 cells" in done.output
    assert [line.split()[0] for line in done.output.splitlines()[3:5]] == ["deep/run", "other"]
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_a_pipe_gets_every_run_in_a_line_of_its_own(tmp_path: Path) -> None:
    names = [f"{index:02d}-{'a_model_with_a_long_name_' * 4}" for index in range(40)]
    for name in names:
        records.make_run(tmp_path / name, {(0, 0): records.flat()})
    done = CliRunner().invoke(app, ["watch", str(tmp_path), "--once"], env={"COLUMNS": "80", "LINES": "24"})
    assert [line.split()[0] for line in done.output.splitlines()[3:43]] == names
    assert "more, waiting or ended" not in done.output


def test_the_folder_of_one_run_stands_whole_in_a_pipe(tmp_path: Path) -> None:
    run = records.make_run(tmp_path / ("deep" * 30), {(0, 0): records.flat()})
    done = CliRunner().invoke(app, ["watch", str(run), "--once"], env={"COLUMNS": "80", "LINES": "24"})
    assert str(run) in [line.strip() for line in done.output.splitlines()]


def _drawn(runs, now: float) -> str:
    console = Console(width=120, height=40, file=StringIO())
    with console.capture() as capture:
        console.print(render_watched(runs, 120, 40, now))
    return capture.get()
