"""Spreads groups of cells over processes of one thread each, or trains them in this process."""

import contextlib
import math
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait

import torch

from multistep_bench.runs.events import Outcome
from multistep_bench.runs.machine import killed_for_memory
from multistep_bench.runs.spec import Cell
from multistep_bench.training.device import one_thread
from multistep_bench.training.group import Group, Job, Message, train
from multistep_bench.training.main_module import Luggage, pack, start_without_main
from multistep_bench.training.randomness import own_randomness
from multistep_bench.training.share import Share


def train_here(shares: Sequence[Share]) -> None:
    """Groups of cells in turn in this process; on a CPU with one thread, as everywhere, for the same curves."""
    for share in shares:
        device = torch.device(share.job.device)
        with own_randomness(device), one_thread() if device.type == "cpu" else contextlib.nullcontext():
            share.relay.began(share.job.unfinished(share.group))
            for message in train(share.job, share.group):
                share.relay.tell(message)
        share.ended()


Work = Callable[[Job, Group], Iterator[Message]]  # what a process does with a group, as `group.train`


def train_in_processes(
    shares: Sequence[Share], count: int, cell_timeout: float | None = None, work: Work = train
) -> None:
    """Groups of cells, in this order, over processes of one thread; a process that dies takes only its group with it.

    A group whose process died is tried again from its checkpoint, unless one died for the same reason before.
    cell_timeout: seconds without a word after which a process is ended and its cells are recorded as failed.
    """
    waiting = list(shares)
    luggage = pack(share.job.spec for share in shares)
    workers = [_Worker(work, luggage) for _ in range(count)]
    try:
        for worker in workers:
            worker.give(waiting.pop(0))
        while busy := {worker.connection: worker for worker in workers if worker.cells}:
            overdue = None if cell_timeout is None else min(worker.heard for worker in busy.values()) + cell_timeout
            patience = None if overdue is None or overdue == math.inf else max(0.0, overdue - time.monotonic())
            speaking = wait(list(busy), patience)
            for connection, worker in busy.items():
                if connection in speaking:
                    again = worker.listen()
                    waiting[:0] = [] if again is None else [again]
                elif cell_timeout is not None and time.monotonic() - worker.heard >= cell_timeout:
                    worker.give_up(cell_timeout)
                if not worker.cells and waiting:
                    if not worker.alive:
                        worker = _replaced(workers, worker)
                    worker.give(waiting.pop(0))
    finally:
        for worker in workers:
            worker.stop()


class _Worker:
    """A process that trains the groups it is given, one after another; `cells` are those not ended yet."""

    def __init__(self, work: Work, luggage: Luggage) -> None:
        context = multiprocessing.get_context("spawn")
        self.work, self.luggage = work, luggage
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, work, luggage), daemon=True)
        start_without_main(self.process.start, luggage)
        theirs.close()
        self.killed_before = killed_for_memory()
        self.cells: set[Cell] = set()
        self.began = False  # whether it ever said anything
        self.heard = math.inf  # when it last did, or was given a group; until it is ready, nothing is expected of it
        self.alive = True

    def give(self, share: Share) -> None:
        """Has it train a group, of which the relay is told."""
        self.share = share
        cells = share.job.unfinished(share.group)
        self.cells = set(cells)
        if self.began:
            self.heard = time.monotonic()
        share.relay.began(cells)
        with contextlib.suppress(BrokenPipeError):  # it died: `listen` finds out
            self.connection.send((share.job, share.group))

    def listen(self) -> Share | None:
        """Passes on what it did last. If it died: what to try again, or nothing, its cells being recorded as failed."""
        try:
            message: Message | None = self.connection.recv()
        except (EOFError, ConnectionResetError):
            return self._post_mortem()
        self.began, self.heard = True, time.monotonic()
        if message is not None:  # else it is ready
            self._tell(message)
        return None

    def _tell(self, message: Message) -> None:
        self.share.relay.tell(message)
        if isinstance(message.event, Outcome):
            self.cells.discard(message.cell)
            if not self.cells:
                self.share.ended()

    def _post_mortem(self) -> Share | None:
        self.process.join()
        self.alive = False
        reason = how_it_ended(self.process.exitcode, killed_for_memory() > self.killed_before)
        if self.began and (again := self.share.retry(self.cells, reason)) is not None:
            self.cells = set()
            return again
        if not self.began:
            reason += "; it ended before it began, so give workers=1 to train in this process"
            if self.luggage.needs_main:
                reason += (
                    ", or put the call under `if __name__ == '__main__':` in a file: the worker imports the script,"
                    " for the run names something as __main__:NAME"
                )
        self._fail(reason)
        return None

    def give_up(self, seconds: float) -> None:
        """Ends a silent process; its cells are recorded as failed, so that a whole run needs no cell that hangs."""
        self.process.kill()
        self.process.join()
        self.alive = False
        self._fail(f"nothing was heard of it for {seconds:g} s (--cell-timeout), so its process was ended")

    def _fail(self, reason: str) -> None:
        left, self.cells = self.cells, set()
        self.share.fail(left, reason)

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


def _replaced(workers: list[_Worker], dead: _Worker) -> _Worker:
    dead.stop()
    workers[workers.index(dead)] = fresh = _Worker(dead.work, dead.luggage)
    return fresh


def _work(connection: Connection, work: Work, luggage: Luggage) -> None:
    """Body of a worker process."""
    end_with_parent()
    luggage.unpack()
    with contextlib.suppress(EOFError, BrokenPipeError):  # the parent is gone
        connection.send(None)
        while True:
            job, group = connection.recv()
            if torch.device(job.device).type == "cpu":
                torch.set_num_threads(1)
            for message in work(job, group):
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
