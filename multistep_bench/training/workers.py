"""Spreads groups of cells over processes of one thread each, or trains them in this process."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection, wait

import torch

from multistep_bench.runs.events import Outcome
from multistep_bench.runs.machine import killed_for_memory
from multistep_bench.runs.spec import Cell
from multistep_bench.training.group import Group, Job, Message, train
from multistep_bench.training.randomness import own_randomness


def train_here(job: Job, groups: list[Group], relay: Callable[[Message], None]) -> None:
    """Cells in turn in this process; on a CPU with one thread, as everywhere, for the same curves."""
    threads = torch.get_num_threads()
    device = torch.device(job.device)
    try:
        if device.type == "cpu":
            torch.set_num_threads(1)
        with own_randomness(device):
            for group in groups:
                for message in train(job, group):
                    relay(message)
    finally:
        torch.set_num_threads(threads)


def train_in_processes(job: Job, groups: list[Group], count: int, relay: Callable[[Message], None]) -> None:
    """Groups spread over processes of one thread; a process that dies takes only its group with it."""
    waiting = list(groups)
    workers = [_Worker(job) for _ in range(count)]
    try:
        for worker in workers:
            worker.give(waiting.pop(0))
        while busy := {worker.connection: worker for worker in workers if worker.cells}:
            for ready in wait(list(busy)):
                worker = busy[ready]  # type: ignore[index]
                for message in worker.receive():
                    relay(message)
                if not worker.cells and waiting:
                    if not worker.alive:
                        worker = _replaced(workers, worker, job)
                    worker.give(waiting.pop(0))
    finally:
        for worker in workers:
            worker.stop()


class _Worker:
    """A process that trains the groups it is given, one after another; `cells` are those not ended yet."""

    def __init__(self, job: Job) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(job, theirs), daemon=True)
        self.process.start()
        theirs.close()
        self.finished = job.finished
        self.killed_before = killed_for_memory()
        self.cells: set[Cell] = set()
        self.began = False  # whether it ever said anything
        self.alive = True

    def give(self, group: Group) -> None:
        self.cells = set(group) - self.finished
        with contextlib.suppress(BrokenPipeError):  # it died: `receive` says so
            self.connection.send(group)

    def receive(self) -> list[Message]:
        """What it did last; if it died, a failed outcome for each of its cells, whose records stay unfinished."""
        try:
            message: Message = self.connection.recv()
        except (EOFError, ConnectionResetError):
            return self._post_mortem()
        self.began = True
        if isinstance(message.event, Outcome):
            self.cells.discard(message.cell)
        return [message]

    def _post_mortem(self) -> list[Message]:
        self.process.join()
        self.alive = False
        reason = _how_it_ended(self.process.exitcode, killed_for_memory() > self.killed_before)
        if not self.began:
            reason += (
                "; it ended before it began: where a script starts the run, put the call under"
                " `if __name__ == '__main__':` in a file, or give workers=1"
            )
        outcome = Outcome(status="failed", reason=reason, samples=0, seconds=0.0)
        lost, self.cells = sorted(self.cells), set()
        return [Message(cell, outcome, 0) for cell in lost]

    def stop(self) -> None:
        self.connection.close()
        self.process.terminate()
        self.process.join()


def _how_it_ended(code: int | None, for_memory: bool) -> str:
    """What the system says of a process that is gone."""
    if code is not None and code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:  # no signal of this system
            name = f"signal {-code}"
        memory = ", for the system had run out of memory" if for_memory else ""
        return f"its process was ended by {name} in the middle of the cell{memory}"
    return f"its process ended with exit code {code} in the middle of the cell"


def _replaced(workers: list[_Worker], dead: _Worker, job: Job) -> _Worker:
    dead.stop()
    workers[workers.index(dead)] = fresh = _Worker(job)
    return fresh


def _work(job: Job, connection: Connection) -> None:
    """Body of a worker process. Ctrl-C is the parent's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    with contextlib.suppress(EOFError, BrokenPipeError):  # the parent is gone
        while True:
            for message in train(job, connection.recv()):
                connection.send(message)


def _end_with_parent() -> None:
    """Ends this process as soon as its parent is gone, whatever it is doing: nobody holds the run's lock any more."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
