"""Groups of cells as tasks of Ray: what they stream is written to the run folders by the process that started them."""

import math
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, cast

import ray  # pyright: ignore[reportMissingImports]
import torch
from ray import exceptions  # pyright: ignore[reportMissingImports]

from multistep_bench.errors import RunError
from multistep_bench.printable import ONE_LINE, printable
from multistep_bench.runs.events import Outcome
from multistep_bench.runs.folder import RecordWriter
from multistep_bench.runs.spec import Cell
from multistep_bench.training.group import REASON_LENGTH, Job
from multistep_bench.training.grouping import stack_size_here
from multistep_bench.training.launchers.installation import installation
from multistep_bench.training.launchers.node import Update, files_of, train_and_send
from multistep_bench.training.share import Share

TICK = 1.0  # seconds between two looks at cells that may have timed out, and at what the cluster has
AHEAD = 16  # updates that a task may be ahead of the process that writes them


def resources(device: torch.device, gpus: float) -> dict[str, float]:
    """What Ray sets aside for a group: a core, and on a GPU a share of it."""
    return {"num_cpus": 1} | ({"num_gpus": gpus} if device.type == "cuda" else {})


class RayPool:
    """See `demand.Pool`. workers: groups at once; by default as many as the machines of the cluster have room for."""

    def __init__(self, device: torch.device, gpus: float, workers: int | None, cell_timeout: float | None) -> None:
        self.device, self.gpus, self.workers, self.cell_timeout = device, gpus, workers, cell_timeout
        self._options: dict[str, Any] = {"max_retries": 0, **resources(device, gpus)}

    def stack_size(self, job: Job, cells: list[Cell], stack: int | None) -> tuple[Job, int]:
        """See `grouping.StackSize`: asked of a machine that has the device."""
        remote: Any = ray.remote(stack_size_here)
        return ray.get(remote.options(**self._options).remote(job, cells, stack))

    def train(self, shares: Sequence[Share]) -> None:
        """See `demand.Pool`."""
        remote: Any = ray.remote(train_and_send)
        remote = remote.options(num_returns="streaming", _generator_backpressure_num_objects=AHEAD, **self._options)
        waiting = list(shares)
        tasks: dict[Any, _Task] = {}
        try:
            while waiting or tasks:
                room = self._room() - len(tasks)
                for share in waiting[: max(0, room)]:
                    task = _Task(share, remote)
                    tasks[task.stream] = task
                del waiting[: max(0, room)]
                ready, _ = ray.wait(list(tasks), timeout=TICK)
                for stream in ready:
                    again = tasks[stream].listen()
                    waiting[:0] = [] if again is None else [again]
                for task in tasks.values():
                    task.end_if_silent(self.cell_timeout)
                tasks = {stream: task for stream, task in tasks.items() if not task.over}
        finally:
            for task in tasks.values():
                task.cancel()

    def _room(self) -> int:
        """How many groups the cluster can train at once; at least one, for machines may join later."""
        there = ray.cluster_resources()
        room = int(there.get("CPU", 0))
        if self.device.type == "cuda":
            room = min(room, int(there.get("GPU", 0) / self.gpus + 1e-9))
        return max(1, room if self.workers is None else min(room, self.workers))


class _Task:
    """A share in training somewhere; `cells` are those not ended yet, and `over` says that no more comes of it."""

    def __init__(self, share: Share, remote: Any) -> None:
        self.share = share
        self.cells = set(share.job.unfinished(share.group))
        self.over = False
        self.heard = math.inf  # when it last said something; until it begins, nothing is expected of it
        self._writers: dict[Cell, RecordWriter] = {}
        files = files_of(share.job.folder, share.group)
        self.stream = remote.remote(share.job, share.group, files, installation())

    def listen(self) -> Share | None:
        """Writes what came next. If the task died: what to try again; nothing where its cells are recorded failed."""
        try:
            update: Update = cast(Any, ray.get(next(self.stream)))
        except StopIteration:
            self.over = True
            return self._died("its task ended before it did") if self.cells else None
        except exceptions.RayError as error:
            return self._died(how_it_died(error))
        if update.refusal is not None:
            raise RunError(f"a machine of the cluster cannot train this: {update.refusal}")
        if self.heard == math.inf:
            self.share.relay.began(self.share.job.unfinished(self.share.group))
        self.heard = time.monotonic()
        if update.message is not None:
            try:
                self._write(update)
            except OSError as error:  # a full disk, say; the other runs may have room
                self._give_up(f"{type(error).__name__}: {error}")
        return None

    def end_if_silent(self, timeout: float | None) -> None:
        """Ends a task of which nothing was heard for so many seconds; its cells are recorded as failed."""
        if not self.over and timeout is not None and time.monotonic() - self.heard >= timeout:
            self._give_up(f"nothing was heard of it for {timeout:g} s (--cell-timeout), so its process was ended")

    def cancel(self) -> None:
        """Ends its process."""
        with suppress(exceptions.RayError, ValueError):
            ray.cancel(self.stream, force=True)

    def _write(self, update: Update) -> None:
        """Files first: a record that is whole has its weights and diagnostics."""
        message, folder = update.message, self.share.job.folder
        assert message is not None
        for change in update.files:
            change.apply(folder)
        if update.header is not None:
            self._writers[message.cell] = RecordWriter(folder, message.cell, update.header)
        self._writers[message.cell].write(message.event)
        self.share.relay.tell(message)
        if isinstance(message.event, Outcome):
            self.cells.discard(message.cell)
            if not self.cells:
                self.share.ended()

    def _died(self, reason: str) -> Share | None:
        self.over = True
        again = self.share.retry(self.cells, reason) if self.cells else None
        if self.cells and again is None:
            self.share.fail(self.cells, reason)
        return again

    def _give_up(self, reason: str) -> None:
        self.over = True
        self.cancel()
        self.share.fail(self.cells, reason)


def how_it_died(error: Exception) -> str:
    """What Ray says of a task that is gone, in one line."""
    if isinstance(error, exceptions.OutOfMemoryError):
        return "Ray ended its process in the middle of the cell, for its machine had run out of memory"
    if isinstance(error, exceptions.WorkerCrashedError):
        return "its process on the cluster ended in the middle of the cell"
    if isinstance(error, exceptions.NodeDiedError | exceptions.ObjectLostError):
        where = next((word.strip(".,") for word in str(error).partition("node ID: ")[2].split()), "")
        return f"its machine {where[:12]} left the cluster in the middle of the cell".replace("  ", " ")
    cause = getattr(error, "cause", None) or error
    return printable(" ".join(f"{type(cause).__name__}: {cause}".split())[:REASON_LENGTH], ONE_LINE)
