"""A run: the same cell gives the same curve in any company, and no failure takes another cell with it."""

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from records import drop

from multistep_bench.errors import RunError
from multistep_bench.runs.events import Evaluation, Outcome
from multistep_bench.runs.record import Record
from multistep_bench.runs.spec import Cell, RunSpec
from multistep_bench.runs.store import Run, read_run
from multistep_bench.training.device import find_device
from multistep_bench.training.launch import launch, run
from multistep_bench.training.plan import plan
from multistep_bench.training.relay import NullObserver

TASK = "two_step_digits-v1"
LINEAR = "user_models:linear"
SMALL = {"protocol.budget": 1600, "protocol.batch_size": 16, "protocol.learning_rates": [1e-3, 1e-2]}


class Notes(NullObserver):
    """Remembers what the observer was told."""

    def __init__(self) -> None:
        self.finished: dict[Cell, Record] = {}
        self.evaluations: dict[Cell, list[Evaluation]] = {}
        self.outcomes: dict[Cell, Outcome] = {}
        self.closed = 0

    def begin(self, spec: RunSpec, folder: Path, finished: Mapping[Cell, Record]) -> None:
        self.finished = dict(finished)

    def evaluated(self, cell: Cell, evaluation: Evaluation, items: int) -> None:
        self.evaluations.setdefault(cell, []).append(evaluation)

    def ended(self, cell: Cell, outcome: Outcome) -> None:
        self.outcomes[cell] = outcome

    def close(self) -> None:
        self.closed += 1


def curves(run: Run) -> dict[Cell, list[tuple[Any, ...]]]:
    """Every cell's curve without the wall-clock."""
    interval = run.spec.protocol.interval
    return {
        r.cell: [(e.samples, e.correct, e.loss, e.train_loss) for e in r.evaluations(interval)] for r in run.records
    }


def test_a_cell_gives_the_same_curve_alone_among_others_and_after_a_resume(tmp_path: Path) -> None:
    spec = plan(TASK, "vit", "smoke", SMALL)
    among = launch(spec, tmp_path / "two_processes", workers=2)
    here = launch(spec, tmp_path / "this_process", workers=1)
    assert curves(here) == curves(among)
    assert len(curves(here)) == 4

    for cell in (Cell(0, 0), Cell(1, 1)):
        drop(tmp_path / "two_processes", cell)
    notes = Notes()
    resumed = launch(spec, tmp_path / "two_processes", workers=1, observer=notes)
    assert curves(resumed) == curves(here)
    assert set(notes.outcomes) == {Cell(0, 0), Cell(1, 1)}
    assert set(notes.finished) == {Cell(1, 0), Cell(0, 1)}


def test_the_observer_sees_what_the_record_holds(tmp_path: Path) -> None:
    notes = Notes()
    done = run(TASK, LINEAR, "smoke", tmp_path / "run", changes=SMALL, workers=1, observer=notes)
    assert {record.cell: record.evaluations(16) for record in done.records} == notes.evaluations
    assert {record.cell: record.outcome(16) for record in done.records} == notes.outcomes
    assert notes.closed == 1


def test_a_diverging_cell_is_recorded_and_the_others_go_on(tmp_path: Path) -> None:
    changes = {**SMALL, "protocol.learning_rates": [1e-4, 0.3], "protocol.seeds": 1}
    done = run(TASK, "user_models:returns_nan", "smoke", tmp_path / "run", changes=changes, workers=2)
    assert {r.cell.rate_index: r.status for r in done.records} == {0: "completed", 1: "diverged"}


def test_a_failing_cell_is_recorded_tried_again_and_the_others_are_kept(tmp_path: Path) -> None:
    changes = {**SMALL, "protocol.learning_rates": [1e-4, 0.3], "protocol.seeds": 1}
    raising = {"changes": changes, "workers": 2, "on_failure": "keep"}
    done = run(TASK, "user_models:raises", "smoke", tmp_path / "run", **raising)
    outcomes = {record.cell.rate_index: record for record in done.records}
    assert outcomes[0].status == "completed"
    assert (outcomes[1].status, outcomes[1].reason) == ("failed", "ArithmeticError: the weights went too far")

    notes = Notes()
    again = run(TASK, "user_models:raises", "smoke", tmp_path / "run", observer=notes, **raising)
    assert set(notes.finished) == {Cell(0, 0)}
    assert [record.attempts for record in again.records] == [1, 2]


def test_a_run_with_failed_cells_raises_unless_it_is_to_be_kept(tmp_path: Path) -> None:
    changes = {**SMALL, "protocol.learning_rates": [1e-4, 0.3], "protocol.seeds": 1}
    with pytest.raises(
        RunError, match=r"1 of 2 cells did not finish \(ArithmeticError: the weights went too far; traceb"
    ):
        run(TASK, "user_models:raises", "smoke", tmp_path / "run", changes=changes, workers=1)
    assert len(read_run(tmp_path / "run").records) == 2
    with pytest.raises(RunError, match="on_failure='ignore' is neither 'raise' nor 'keep'"):
        run(TASK, LINEAR, "smoke", tmp_path / "other", on_failure="ignore")  # type: ignore[arg-type]


NO_GUARD = """
import multistep_bench as mb
run = mb.run(model="user_models:linear", protocol="smoke", out="run", workers=2)
print("scored", mb.score([run.path]))
"""


def test_a_script_from_standard_input_trains_in_processes_once(tmp_path: Path) -> None:
    """Scripts without a main guard that lie in files are among the tests of local models."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, input=NO_GUARD, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("scored Score of 1 run: 2 cells") == 1


def test_a_worker_starts_without_libraries_that_it_does_not_need() -> None:
    program = (
        "import sys, multistep_bench.training.workers, multistep_bench.models.vit\n"
        "from multistep_bench.sources.images import open_source\n"
        "open_source('digits')\n"
        "sys.exit(any(name in sys.modules for name in ('scipy.stats', 'sklearn')))"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_a_script_whose_worker_has_to_import_it_is_told_to_guard_its_call(tmp_path: Path) -> None:
    net = "def linear(task):\n    return user_models.linear(task)\n"
    text = "import user_models\n" + net + NO_GUARD.replace("user_models:linear", "__main__:linear")
    (tmp_path / "script.py").write_text(text, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "script.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert "put the call under `if __name__ == '__main__':` in a file" in done.stderr
    assert "for the run names something as __main__:NAME" in done.stderr


class KillsWorkers(Notes):
    """Kills the process that trains rate 1, seed 0 at its tenth evaluation, so many times."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    def evaluated(self, cell: Cell, evaluation: Evaluation, items: int) -> None:
        super().evaluated(cell, evaluation, items)
        if cell == Cell(1, 0) and self.times and len(self.evaluations[cell]) % 10 == 0:
            self.times -= 1
            os.kill(_process_of(cell), signal.SIGKILL)


def _process_of(cell: Cell) -> int:
    """The worker that holds the cell's unfinished record open."""
    for worker in multiprocessing.active_children():
        for descriptor in Path(f"/proc/{worker.pid}/fd").glob("*"):
            if os.path.realpath(descriptor).endswith(f"{cell.name}.jsonl.partial"):
                assert worker.pid is not None
                return worker.pid
    raise AssertionError("no process trains this cell")


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="finds the worker through /proc")
@pytest.mark.parametrize("times", [1, 2])
def test_a_killed_worker_is_replaced_once_and_takes_only_its_cell_with_it(tmp_path: Path, times: int) -> None:
    spec = plan(TASK, LINEAR, "smoke", {**SMALL, "protocol.budget": 16000})
    notes = KillsWorkers(times)
    done = launch(spec, tmp_path / "run", workers=2, observer=notes, checkpoint_seconds=0)
    records = {record.cell: record for record in done.records}
    assert set(records) == set(spec.cells())
    assert records[Cell(1, 0)].attempts == 2
    if times == 1:
        assert not done.failed
        assert curves(done) == curves(launch(spec, tmp_path / "undisturbed", workers=1))
    else:
        assert [record.cell for record in done.failed] == [Cell(1, 0)]
        assert records[Cell(1, 0)].reason == "its process was ended by SIGKILL in the middle of the cell"
        assert len(records[Cell(1, 0)]) >= 10  # its curve up to there is kept
        assert not launch(spec, tmp_path / "run", workers=1).failed


class Interrupts(Notes):
    """Presses Ctrl-C once a cell is finished and the next has begun."""

    def evaluated(self, cell: Cell, evaluation: Evaluation, items: int) -> None:
        super().evaluated(cell, evaluation, items)
        if self.outcomes and evaluation.samples:
            raise KeyboardInterrupt


@pytest.mark.parametrize("workers", [1, 2])
def test_an_interrupt_keeps_the_finished_cells(tmp_path: Path, workers: int) -> None:
    spec = plan(TASK, LINEAR, "smoke", SMALL)
    interrupted = Interrupts()
    with pytest.raises(KeyboardInterrupt):
        launch(spec, tmp_path / "run", workers=workers, observer=interrupted)
    assert interrupted.closed == 1
    notes = Notes()
    resumed = launch(spec, tmp_path / "run", workers=1, observer=notes)
    assert set(notes.finished) >= set(interrupted.outcomes)
    assert notes.finished
    assert curves(resumed) == curves(launch(spec, tmp_path / "whole", workers=1))


@pytest.mark.parametrize("name", ["gpu", "mps", "cuda:99"])
def test_a_device_that_is_not_there_is_one_sentence(name: str) -> None:
    with pytest.raises(RunError, match=f"--device {name}"):
        find_device(name)


def test_no_workers_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="--workers 0"):
        run(TASK, LINEAR, "smoke", tmp_path / "run", workers=0)
    assert not (tmp_path / "run").exists()


def test_workers_are_refused_where_they_would_be_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("multistep_bench.training.launchers.local.find_device", torch.device)
    with pytest.raises(RunError, match=r"--workers 2: cells on cuda are stacked.*use --stack"):
        run(TASK, LINEAR, "smoke", tmp_path / "run", device="cuda", workers=2)
    assert not (tmp_path / "run").exists()
