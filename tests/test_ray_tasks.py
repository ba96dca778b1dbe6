"""A group in training on a cluster, whatever its task says or fails to say; Ray is played by an object."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import records

from multistep_bench.errors import RunError
from multistep_bench.runs.events import Evaluation, Outcome
from multistep_bench.runs.folder import RunFolder
from multistep_bench.runs.spec import Cell
from multistep_bench.runs.store import read_run
from multistep_bench.training.group import Job, Message
from multistep_bench.training.launchers.node import Update
from multistep_bench.training.share import Share

pytest.importorskip("ray", reason="the extra ray is not installed")

from ray import exceptions  # pyright: ignore[reportMissingImports]

from multistep_bench.training.launchers import ray_tasks

ONE, TWO = Cell(0, 0), Cell(0, 1)


class Heard:
    """What the relay of a share is told."""

    def __init__(self) -> None:
        self.begun: list[tuple[Cell, ...]] = []
        self.ends: list[tuple[Cell, str, str | None]] = []
        self.over = 0

    def began(self, cells: tuple[Cell, ...]) -> None:
        self.begun.append(cells)

    def tell(self, message: Message) -> None:
        if isinstance(message.event, Outcome):
            self.ends.append((message.cell, message.event.status, message.event.reason))

    def ended(self) -> None:
        self.over += 1


class Play:
    """A task of two cells whose stream gives these answers, an exception where one is given."""

    def __init__(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, *answers: Any, deaths: tuple[str, ...] = ()
    ) -> None:
        self.heard, self.cancelled = Heard(), 0
        self.now = 100.0
        spec = records.make_spec(seeds=2)
        job = Job(spec, folder, "cpu", None, 0.0, {})
        share = Share(job, (ONE, TWO), self.heard, self.heard.ended, deaths)  # type: ignore[arg-type]
        monkeypatch.setattr(ray_tasks.ray, "get", self.get)
        monkeypatch.setattr(ray_tasks.ray, "cancel", self.cancel)
        monkeypatch.setattr(ray_tasks.time, "monotonic", lambda: self.now)
        self.task = ray_tasks._Task(share, SimpleNamespace(remote=lambda *asked: iter(answers)))

    def get(self, answer: Any) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    def cancel(self, stream: Any, *, force: bool) -> None:
        assert force
        self.cancelled += 1


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with RunFolder(tmp_path / "run", records.make_spec(seeds=2)):
        pass
    return tmp_path / "run"


def test_a_task_that_dies_is_tried_again_with_what_it_died_of(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    play = Play(folder, monkeypatch, Update(), exceptions.WorkerCrashedError())
    assert play.task.listen() is None
    assert play.heard.begun == [(ONE, TWO)]
    again = play.task.listen()
    assert again is not None
    assert again.deaths == ("its process on the cluster ended in the middle of the cell",)
    assert again.job.attempts == {ONE: 1, TWO: 1}
    assert play.task.over
    assert (play.heard.ends, play.heard.over) == ([], 0)


def test_a_task_that_dies_twice_of_one_thing_has_failed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reason = "its process on the cluster ended in the middle of the cell"
    play = Play(folder, monkeypatch, exceptions.WorkerCrashedError(), deaths=(reason,))
    assert play.task.listen() is None
    assert play.heard.ends == [(ONE, "failed", reason), (TWO, "failed", reason)]
    assert (play.task.over, play.heard.over) == (True, 1)
    assert [record.reason for record in read_run(folder).failed] == [reason, reason]


def test_a_task_that_ends_before_its_cells_is_tried_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    play = Play(folder, monkeypatch)
    again = play.task.listen()
    assert again is not None
    assert again.deaths == ("its task ended before it did",)


def test_a_task_that_ends_after_its_cells_is_over(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    play = Play(folder, monkeypatch)
    play.task.cells.clear()
    assert play.task.listen() is None
    assert (play.task.over, play.heard.ends) == (True, [])


def test_a_machine_that_refuses_stops_the_whole(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    play = Play(folder, monkeypatch, Update(refusal="it has torch 1"))
    with pytest.raises(RunError, match=r"^a machine of the cluster cannot train this: it has torch 1$"):
        play.task.listen()
    assert not play.heard.begun


def test_a_task_is_given_up_when_it_was_silent_so_long_since_it_began(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    play = Play(folder, monkeypatch, Update(), Update())
    play.now = 1e6
    play.task.end_if_silent(5.0)  # it waits for a machine, and nothing is expected of it
    assert (play.task.over, play.task.heard) == (False, math.inf)
    play.task.listen()
    play.now += 4.5
    play.task.listen()
    play.now += 4.5
    play.task.end_if_silent(5.0)
    play.task.end_if_silent(None)
    assert not play.task.over
    assert play.heard.begun == [(ONE, TWO)]  # once
    play.now += 0.5
    play.task.end_if_silent(5.0)
    reason = "nothing was heard of it for 5 s (--cell-timeout), so its process was ended"
    assert play.heard.ends == [(ONE, "failed", reason), (TWO, "failed", reason)]
    assert (play.cancelled, play.heard.over) == (1, 1)
    play.task.end_if_silent(5.0)
    assert (play.cancelled, play.heard.over) == (1, 1)  # once is enough


def test_a_share_ends_with_its_last_cell(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[tuple[Cell, Any]] = []

    class Writer:
        def __init__(self, folder: Path, cell: Cell, header: Any) -> None:
            self.cell = cell

        def write(self, event: Any) -> None:
            written.append((self.cell, event))

    monkeypatch.setattr(ray_tasks, "RecordWriter", Writer)
    end, header = Outcome(status="completed", samples=1, seconds=1.0), object()
    updates = [Update(Message(cell, end, 10), header) for cell in (TWO, ONE)]  # type: ignore[arg-type]
    play = Play(folder, monkeypatch, *updates)
    play.task.listen()
    assert (play.task.cells, play.heard.over) == ({ONE}, 0)
    play.task.listen()
    assert (play.task.cells, play.heard.over) == (set(), 1)
    assert written == [(TWO, end), (ONE, end)]
    assert play.task.listen() is None
    assert play.heard.over == 1


def test_a_full_disk_fails_the_cells_and_ends_the_task(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    event = Evaluation(samples=0, correct=1, loss=1.0, train_loss=None, seconds=0.0)
    play = Play(folder, monkeypatch, Update(Message(ONE, event, 10)))
    monkeypatch.setattr(play.task, "_write", full)
    assert play.task.listen() is None
    assert (play.task.over, play.cancelled) == (True, 1)
    assert {reason for _, _, reason in play.heard.ends} == {"OSError: [Errno 28] No space left on device"}


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            exceptions.OutOfMemoryError("big"),
            "Ray ended its process in the middle of the cell, for its machine had run",
        ),
        (
            exceptions.NodeDiedError("The node ID: 0123456789abcdef, is dead"),
            "its machine 0123456789ab left the cluster",
        ),
        (exceptions.NodeDiedError("who knows"), "its machine left the cluster in the middle of the cell"),
        (exceptions.RayError("odd\n\x1b[31m"), r"RayError: odd \x1b[31m"),
        (exceptions.RayTaskError("f", "trace", ValueError("no  room")), "ValueError: no room"),
    ],
)
def test_a_death_is_told_in_a_line(error: Exception, sentence: str) -> None:
    told = ray_tasks.how_it_died(error)
    assert told.startswith(sentence)
    assert told.isprintable()
