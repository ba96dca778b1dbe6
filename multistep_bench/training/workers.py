"""Spreads groups of cells over processes of one thread each, or trains them in this process."""

import contextlib
import math
import multiprocessing
import os
import signal
import threading
import time
from multiprocessing.connection import Connection, wait

import torch

from multistep_bench.runs.events import Outcome
from multistep_bench.runs.machine import killed_for_memory
from multistep_bench.runs.spec import Cell
from multistep_bench.training.device import one_thread
from multistep_bench.training.group import Group, Job, Message, record_failure, train
from multistep_bench.training.randomness import own_randomness
from multistep_bench.training.relay import Relay


def train_here(job: Job, groups: list[Group], relay: Relay) -> None:
    """Cells in turn in this process; on a CPU with one thread, as everywhere, for the same curves."""
    device = torch.device(job.device)
    with own_randomness(device), one_thread() if device.type == "cpu" else contextlib.nullcontext():
        for group in groups:
            relay.began(job.unfinished(group))
            for message in train(job, group):
                relay.tell(message)


def train_in_processes(
    job: Job, groups: list[Group], count: int, relay: Relay, cell_timeout: float | None = None
) -> None:
    """Groups spread over processes of one thread; a process that dies takes only its group with it.

    cell_timeout: seconds without a word after which a process is ended and its cells are recorded as failed.
    """
    waiting = list(groups)
    workers = [_Worker(job) for _ in range(count)]
    try:
        for worker in workers:
            worker.give(waiting.pop(0), relay)
        while busy := {worker.connection: worker for worker in workers if worker.cells}:
            overdue = None if cell_timeout is None else min(worker.heard for worker in busy.values()) + cell_timeout
            patience = None if overdue is None or overdue == math.inf else max(0.0, overdue - time.monotonic())
            speaking = wait(list(busy), patience)
            for connection, worker in busy.items():
                if connection in speaking:
                    messages = worker.receive()
                elif cell_timeout is not None and time.monotonic() - worker.heard >= cell_timeout:
                    messages = worker.give_up(cell_timeout)
                else:
                    continue
                for message in messages:
                    relay.tell(message)
                if not worker.cells and waiting:
                    if not worker.alive:
                        worker = _replaced(workers, worker, job)
                    worker.give(waiting.pop(0), relay)
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
        self.job = job
        self.killed_before = killed_for_memory()
        self.cells: set[Cell] = set()
        self.began = False  # whether it ever said anything
        self.heard = math.inf  # when it last did, or was given a group; until it is ready, nothing is expected of it
        self.alive = True

    def give(self, group: Group, relay: Relay) -> None:
        """Has it train a group, of which the relay is told."""
        cells = self.job.unfinished(group)
        self.cells = set(cells)
        if self.began:
            self.heard = time.monotonic()
        relay.began(cells)
        with contextlib.suppress(BrokenPipeError):  # it died: `receive` says so
            self.connection.send(group)

    def receive(self) -> list[Message]:
        """What it did last; if it died, a failed outcome for each of its cells, whose records stay unfinished."""
        try:
            message: Message | None = self.connection.recv()
        except (EOFError, ConnectionResetError):
            return self._post_mortem()
        self.began, self.heard = True, time.monotonic()
        if message is None:  # it is ready
            return []
        if isinstance(message.event, Outcome):
            self.cells.discard(message.cell)
        return [message]

    def _post_mortem(self) -> list[Message]:
        self.process.join()
        self.alive = False
        reason = how_it_ended(self.process.exitcode, killed_for_memory() > self.killed_before)
        if not self.began:
            reason += (
                "; it ended before it began: where a script starts the run, put the call under"
                " `if __name__ == '__main__':` in a file, or give workers=1"
            )
        outcome = Outcome(status="failed", reason=reason, samples=0, seconds=0.0)
        lost, self.cells = sorted(self.cells), set()
        return [Message(cell, outcome, 0) for cell in lost]

    def give_up(self, seconds: float) -> list[Message]:
        """Ends a silent process; its cells are recorded as failed, so that a whole run needs no cell that hangs."""
        self.process.kill()
        self.process.join()
        self.alive = False
        reason = f"nothing was heard of it for {seconds:g} s (--cell-timeout), so its process was ended"
        lost, self.cells = sorted(self.cells), set()
        return [Message(cell, record_failure(self.job, cell, reason), 0) for cell in lost]

    def stop(self) -> None:
        self.connection.close()
        self.process.terminate()
        self.process.join()


def how_it_ended(code: int | None, for_memory: bool = False) -> str:
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
    """Body of a worker process."""
    end_with_parent()
    if torch.device(job.device).type == "cpu":
        torch.set_num_threads(1)
    with contextlib.suppress(EOFError, BrokenPipeError):  # the parent is gone
        connection.send(None)
        while True:
            for message in train(job, connection.recv()):
                connection.send(message)


def end_with_parent() -> None:
    """Has this process end as soon as its parent is gone, whatever it is doing: nobody holds the run's lock any more.

    Ctrl-C is the parent's to handle.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_wait_for_the_end, daemon=True).start()


def _wait_for_the_end() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
