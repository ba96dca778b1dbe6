"""Whatever is killed, and whenever, the curves come out as if nothing had happened."""

import multiprocessing
import os
import random
import resource
import signal
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import torch
from test_launch import SMALL, TASK, Notes, curves

from multistep_bench.atomic import TEMPORARY
from multistep_bench.runs.events import Evaluation
from multistep_bench.runs.folder import CHECKPOINTS_FOLDER, checkpoint_path
from multistep_bench.runs.spec import Cell, RunSpec
from multistep_bench.runs.store import Run
from multistep_bench.training.checkpoint import load_checkpoint, save_checkpoint
from multistep_bench.training.launch import launch
from multistep_bench.training.plan import plan

FORK = multiprocessing.get_context("fork")  # children start at once, with everything imported


@pytest.fixture(scope="module")
def spec() -> RunSpec:
    """A model with dropout, so that the noise stream has to be restored too."""
    return plan(TASK, "user_models:linear", "smoke", {**SMALL, "model.dropout": 0.1})


@pytest.fixture(scope="module")
def long(spec: RunSpec) -> RunSpec:
    """One that lasts long enough to be killed at many moments."""
    return plan(TASK, "user_models:linear", "smoke", {**spec.changes, "protocol.budget": 16000})


def _train(spec: RunSpec, folder: Path) -> None:
    launch(spec, folder, workers=1, checkpoint_seconds=0)


@pytest.mark.slow
def test_twenty_kills_at_random_moments_leave_no_trace_in_the_curves(long: RunSpec, tmp_path: Path) -> None:
    whole = launch(long, tmp_path / "whole", workers=1)
    delay = random.Random(0)
    kills = writing = 0
    while kills < 20:
        child = FORK.Process(target=_train, args=(long, tmp_path / "killed"))
        child.start()
        time.sleep(delay.uniform(0.05, 0.6))
        if delay.random() < 0.5:  # aim at a checkpoint that is being written
            deadline = time.monotonic() + 1
            while time.monotonic() < deadline and not list((tmp_path / "killed").rglob(f"{TEMPORARY}*")):
                pass
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        writing += bool(list((tmp_path / "killed").rglob(f"{TEMPORARY}*")))
        kills += 1
    resumed = launch(long, tmp_path / "killed", workers=1, checkpoint_seconds=0)
    assert curves(resumed) == curves(whole)
    assert max(record.attempts for record in resumed.records) > 1
    assert writing, "no kill hit a checkpoint in the middle"
    assert not list((tmp_path / "killed").rglob(f"{TEMPORARY}*"))


def test_a_finished_cell_leaves_its_weights(spec: RunSpec, tmp_path: Path) -> None:
    launch(spec, tmp_path / "run", workers=1, checkpoint_seconds=1e9)
    for cell in spec.cells():
        state = load_checkpoint(checkpoint_path(tmp_path / "run", cell), spec.identity())
        assert [len(curve) for curve in state["evaluations"]] == [spec.protocol.evaluations + 1]
        assert set(state["learned"]["model"]) == {"2.weight", "2.bias"}


class Stops(Notes):
    """Presses Ctrl-C at the fortieth evaluation."""

    def evaluated(self, cell: Cell, evaluation: Evaluation, items: int) -> None:
        super().evaluated(cell, evaluation, items)
        if len(self.evaluations[cell]) == 40:
            raise KeyboardInterrupt


@pytest.mark.parametrize("model", ["vit_heat", "resnet9"])
def test_a_model_goes_on_from_its_checkpoint(model: str, tmp_path: Path) -> None:
    """Batch statistics, moments of the optimiser and Heat Treatment's temperature among them."""
    size = {"protocol.batch_size": 4, "protocol.budget": 400, "protocol.learning_rates": [1e-3], "protocol.seeds": 1}
    spec = plan(TASK, model, "smoke", SMALL | size)
    with pytest.raises(KeyboardInterrupt):
        launch(spec, tmp_path / "stopped", workers=1, checkpoint_seconds=0, observer=Stops())
    saved = load_checkpoint(checkpoint_path(tmp_path / "stopped", Cell(0, 0)), spec.identity())
    assert [len(curve) for curve in saved["evaluations"]] == [39]
    resumed = launch(spec, tmp_path / "stopped", workers=1)
    assert curves(resumed) == curves(launch(spec, tmp_path / "whole", workers=1))
    assert resumed.records[0].attempts == 2


def test_without_time_between_them_no_checkpoints_are_written(spec: RunSpec, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        launch(spec, tmp_path / "run", workers=1, checkpoint_seconds=1e9, observer=Stops())
    assert not list((tmp_path / "run" / CHECKPOINTS_FOLDER).glob("*"))


def _save_with_little_room(path: Path, report: Connection) -> None:
    torch.set_num_threads(1)  # torch's threads do not live on in a forked process
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
    try:
        save_checkpoint(path, "run", [Cell(0, 0)], {"weights": torch.zeros(100_000)})
    except Exception as error:
        report.send(f"{type(error).__name__}: {error}")


def test_a_full_disk_leaves_the_last_good_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "cell.pt"
    save_checkpoint(path, "run", [Cell(0, 0)], {"weights": torch.ones(3)})
    ours, theirs = FORK.Pipe()
    child = FORK.Process(target=_save_with_little_room, args=(path, theirs))
    child.start()
    child.join()
    assert ours.poll(), "nothing was raised"
    assert "File too large" in ours.recv()
    kept = load_checkpoint(path, "run")
    assert torch.equal(kept["weights"], torch.ones(3))
    assert [entry.name for entry in tmp_path.iterdir()] == ["cell.pt"]


def _train_with_little_room(spec: RunSpec, folder: Path) -> None:
    limit = 16_000  # more than a record, less than a checkpoint of this model
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    launch(spec, folder, workers=1, checkpoint_seconds=0)


def test_a_run_on_a_full_disk_says_so_and_goes_on_when_there_is_room(spec: RunSpec, tmp_path: Path) -> None:
    child = FORK.Process(target=_train_with_little_room, args=(spec, tmp_path / "run"))
    child.start()
    child.join()
    notes = Notes()
    resumed = launch(spec, tmp_path / "run", workers=1, observer=notes)
    assert not notes.finished, "the limit was not reached"
    assert curves(resumed) == curves(launch(spec, tmp_path / "whole", workers=1))


@pytest.fixture(scope="module")
def whole(spec: RunSpec, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return launch(spec, tmp_path_factory.mktemp("whole") / "run", workers=1)


@pytest.fixture
def stopped(spec: RunSpec, tmp_path: Path) -> Path:
    """The folder of a run that was stopped in its first cell, with a checkpoint of that cell."""
    with pytest.raises(KeyboardInterrupt):
        launch(spec, tmp_path / "run", workers=1, checkpoint_seconds=0, observer=Stops())
    return tmp_path / "run"


def resumed_with_a_warning(spec: RunSpec, folder: Path, message: str) -> Run:
    with pytest.warns(UserWarning, match=message):
        run = launch(spec, folder, workers=1)
    assert [entry.name for entry in (folder / CHECKPOINTS_FOLDER).glob("*.unusable")] == ["rate0-seed0.pt.unusable"]
    return run


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.9, 0.999, 1.0])
def test_a_flipped_bit_anywhere_sets_the_checkpoint_aside(
    spec: RunSpec, stopped: Path, whole: Run, share: float
) -> None:
    path = checkpoint_path(stopped, Cell(0, 0))
    content = bytearray(path.read_bytes())
    content[int(share * (len(content) - 1))] ^= 4
    path.write_bytes(content)
    run = resumed_with_a_warning(spec, stopped, "its cells start again")
    assert curves(run) == curves(whole)


@pytest.mark.parametrize("length", [0, 50, 1000])
def test_a_checkpoint_that_was_cut_off_is_set_aside(spec: RunSpec, stopped: Path, whole: Run, length: int) -> None:
    path = checkpoint_path(stopped, Cell(0, 0))
    path.write_bytes(path.read_bytes()[:length])
    assert curves(resumed_with_a_warning(spec, stopped, "its cells start again")) == curves(whole)


def test_a_checkpoint_of_another_run_is_not_taken_over(spec: RunSpec, stopped: Path, whole: Run) -> None:
    path = checkpoint_path(stopped, Cell(0, 0))
    path.write_bytes(path.read_bytes().replace(spec.identity().encode(), b"0" * 64))
    run = resumed_with_a_warning(spec, stopped, "checkpoint of another run; it was renamed")
    assert curves(run) == curves(whole)


def test_garbage_in_place_of_a_finished_cells_checkpoint_blocks_nothing(spec: RunSpec, tmp_path: Path) -> None:
    class StopsInTheSecondCell(Notes):
        def evaluated(self, cell: Cell, evaluation: Evaluation, items: int) -> None:
            if self.outcomes and evaluation.samples > 0:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        launch(spec, tmp_path / "run", workers=1, observer=StopsInTheSecondCell())
    checkpoint_path(tmp_path / "run", Cell(0, 0)).write_bytes(b"garbage")
    notes = Notes()
    with pytest.warns(UserWarning, match="no checkpoint of this suite; it was renamed"):
        run = launch(spec, tmp_path / "run", workers=1, observer=notes)
    assert Cell(0, 0) in notes.finished
    assert not run.missing
