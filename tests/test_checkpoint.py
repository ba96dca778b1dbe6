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

from multistep_bench.errors import RunError
from multistep_bench.runs.folder import CHECKPOINTS_FOLDER, TEMPORARY, checkpoint_path
from multistep_bench.runs.record import Evaluation
from multistep_bench.runs.spec import Cell, RunSpec
from multistep_bench.training.checkpoint import load_checkpoint, save_checkpoint
from multistep_bench.training.launch import launch
from multistep_bench.training.plan import plan

FORK = multiprocessing.get_context("fork")  # children start at once, with everything imported


@pytest.fixture(scope="module")
def spec() -> RunSpec:
    """A model with dropout, so that the noise stream has to be restored too."""
    return plan(TASK, "user_models:linear", "smoke", {**SMALL, "model.dropout": 0.1, "protocol.budget": 16000})


def _train(spec: RunSpec, folder: Path) -> None:
    launch(spec, folder, workers=1, checkpoint_seconds=0)


@pytest.mark.slow
def test_twenty_kills_at_random_moments_leave_no_trace_in_the_curves(spec: RunSpec, tmp_path: Path) -> None:
    whole = launch(spec, tmp_path / "whole", workers=1)
    delay = random.Random(0)
    kills = writing = 0
    while kills < 20:
        child = FORK.Process(target=_train, args=(spec, tmp_path / "killed"))
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
    resumed = launch(spec, tmp_path / "killed", workers=1, checkpoint_seconds=0)
    assert curves(resumed) == curves(whole)
    assert max(record.header.attempts for record in resumed.records) > 1
    assert writing, "no kill hit a checkpoint in the middle"
    assert not list((tmp_path / "killed").rglob(f"{TEMPORARY}*"))


def test_a_finished_cell_leaves_its_weights(spec: RunSpec, tmp_path: Path) -> None:
    launch(spec, tmp_path / "run", workers=1, checkpoint_seconds=1e9)
    for cell in spec.cells():
        state = load_checkpoint(checkpoint_path(tmp_path / "run", cell))
        assert state is not None
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
    spec = plan(TASK, model, "smoke", {**SMALL, "protocol.learning_rates": [1e-3], "protocol.seeds": 1})
    with pytest.raises(KeyboardInterrupt):
        launch(spec, tmp_path / "stopped", workers=1, checkpoint_seconds=0, observer=Stops())
    saved = load_checkpoint(checkpoint_path(tmp_path / "stopped", Cell(0, 0)))
    assert saved is not None
    assert [len(curve) for curve in saved["evaluations"]] == [39]
    resumed = launch(spec, tmp_path / "stopped", workers=1)
    assert curves(resumed) == curves(launch(spec, tmp_path / "whole", workers=1))
    assert resumed.records[0].header.attempts == 2


def test_without_time_between_them_no_checkpoints_are_written(spec: RunSpec, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        launch(spec, tmp_path / "run", workers=1, checkpoint_seconds=1e9, observer=Stops())
    assert not list((tmp_path / "run" / CHECKPOINTS_FOLDER).glob("*"))


def _save_with_little_room(path: Path, report: Connection) -> None:
    torch.set_num_threads(1)  # torch's threads do not live on in a forked process
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
    try:
        save_checkpoint(path, {"weights": torch.zeros(100_000)})
    except Exception as error:
        report.send(f"{type(error).__name__}: {error}")


def test_a_full_disk_leaves_the_last_good_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "cell.pt"
    save_checkpoint(path, {"weights": torch.ones(3)})
    ours, theirs = FORK.Pipe()
    child = FORK.Process(target=_save_with_little_room, args=(path, theirs))
    child.start()
    child.join()
    assert ours.poll(), "nothing was raised"
    assert "File too large" in ours.recv()
    kept = load_checkpoint(path)
    assert kept is not None
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


def test_a_spoiled_checkpoint_is_named_with_the_way_out(spec: RunSpec, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        launch(spec, tmp_path / "run", workers=1, checkpoint_seconds=0, observer=Stops())
    path = checkpoint_path(tmp_path / "run", Cell(0, 0))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(RunError, match=r"rate0-seed0\.pt is no checkpoint .*delete it to train the cell anew"):
        launch(spec, tmp_path / "run", workers=1)
    path.unlink()
    assert len(launch(spec, tmp_path / "run", workers=1).records) == 4


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path / "cell.pt") is None
