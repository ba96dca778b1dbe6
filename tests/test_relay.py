"""A cell from which nothing is heard is named, once and again as its silence doubles, and given up if asked for."""

import time
from pathlib import Path

import pytest
from test_launch import SMALL, TASK

from multistep_bench.errors import RunError
from multistep_bench.runs.events import Evaluation, Outcome
from multistep_bench.runs.spec import Cell
from multistep_bench.runs.store import read_run
from multistep_bench.training.group import Message
from multistep_bench.training.launch import launch
from multistep_bench.training.plan import plan
from multistep_bench.training.relay import QUIET, USUAL, NullObserver, Relay

FIRST, SECOND = Cell(0, 0), Cell(0, 1)


class Listener(NullObserver):
    def __init__(self) -> None:
        self.heard: list[tuple[Cell, float]] = []

    def stalled(self, cell: Cell, seconds: float) -> None:
        self.heard.append((cell, seconds))


class Story:
    """A relay whose clock the test sets."""

    def __init__(self) -> None:
        self.now = 0.0
        self.listener = Listener()
        self.relay = Relay(self.listener, lambda: self.now)

    def at(self, now: float) -> list[tuple[Cell, float]]:
        """What the listener is told at a time."""
        self.now = now
        self.listener.heard = []
        self.relay.look()
        return self.listener.heard

    def evaluation(self, cell: Cell, now: float) -> None:
        self.now = now
        event = Evaluation(samples=0, correct=1, loss=1.0, train_loss=None, seconds=0.0)
        self.relay.tell(Message(cell, event, 10))


def test_a_cell_that_says_nothing_is_named_when_its_silence_is_long_and_when_it_has_doubled() -> None:
    story = Story()
    story.relay.began((FIRST,))
    assert story.at(QUIET - 1) == []
    assert story.at(QUIET) == [(FIRST, QUIET)]
    assert story.at(2 * QUIET - 1) == []
    assert story.at(2 * QUIET) == [(FIRST, 2 * QUIET)]


def test_only_the_silent_cell_is_named_and_not_once_it_speaks_or_ends() -> None:
    story = Story()
    story.relay.began((FIRST, SECOND))
    story.evaluation(FIRST, 1.0)
    assert story.at(QUIET) == [(SECOND, QUIET)]
    story.evaluation(SECOND, QUIET + 1)
    ended = Outcome(status="completed", samples=1, seconds=1.0)
    story.relay.tell(Message(FIRST, ended, 10))
    assert story.at(QUIET + 2) == []
    assert story.at(1e6) == [(SECOND, 1e6 - QUIET - 1)]


def test_where_evaluations_take_long_silence_is_measured_by_them() -> None:
    story = Story()
    story.relay.began((FIRST,))
    story.evaluation(FIRST, 50.0)
    assert story.at(50 + USUAL * 50 - 1) == []
    assert story.at(50 + USUAL * 50) == [(FIRST, USUAL * 50)]


def test_the_observer_is_told_while_training_hangs_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    listener = Listener()
    monkeypatch.setattr("multistep_bench.training.relay.QUIET", 0.2)
    monkeypatch.setattr("multistep_bench.training.relay.TICK", 0.05)
    with Relay(listener) as relay:
        relay.began((FIRST,))
        deadline = time.monotonic() + 30
        while not listener.heard and time.monotonic() < deadline:
            time.sleep(0.02)
    assert listener.heard[0][0] == FIRST


HANGING = """
import multiprocessing, time
from torch import nn
import user_models
class Hangs(nn.Module):
    def __init__(self, info):
        super().__init__()
        self.net = user_models.linear(info)
        self.steps = 0
    def forward(self, x):
        self.steps += self.training
        if self.steps > {steps} and multiprocessing.parent_process() is not None and self.here({when}):
            time.sleep(600)
        return self.net(x)
    def here(self, when):
        import pathlib
        return not pathlib.Path(when).exists()
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_a_cell_that_hangs_is_given_up_keeps_its_curve_and_is_tried_again(
    workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = tmp_path / "go on"
    (tmp_path / "hanging.py").write_text(HANGING.format(steps=40, when=repr(str(go_on))), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    spec = plan(TASK, "hanging:Hangs", "smoke", SMALL | {"protocol.learning_rates": [1e-3], "protocol.seeds": workers})
    folder = tmp_path / "run"
    done = launch(spec, folder, workers=workers, cell_timeout=15)
    assert not done.missing
    assert {record.reason for record in done.failed} == {
        "nothing was heard of it for 15 s (--cell-timeout), so its process was ended"
    }
    assert len(done.failed) == len(spec.cells())
    assert all(1 < len(record) < spec.protocol.evaluations for record in done.failed)
    go_on.touch()
    again = launch(spec, folder, workers=1)
    assert [record.status for record in again.records] == ["completed"] * len(spec.cells())
    assert [record.attempts for record in read_run(folder).records] == [2] * len(spec.cells())


def test_a_timeout_must_be_positive(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="--cell-timeout 0: more than 0 seconds"):
        launch(plan(TASK, "user_models:linear", "smoke", SMALL), tmp_path, cell_timeout=0)
