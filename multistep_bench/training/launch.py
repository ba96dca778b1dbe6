"""Runs the unfinished cells of a specification: processes on a CPU, stacked groups on a GPU."""

import math
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack

import torch

from multistep_bench import seeds
from multistep_bench.cards import DEFAULT_PROTOCOL, DEFAULT_TASK
from multistep_bench.errors import RunError
from multistep_bench.models.build import build
from multistep_bench.runs.events import Outcome
from multistep_bench.runs.folder import RunFolder
from multistep_bench.runs.machine import available_cores, versions
from multistep_bench.runs.spec import Cell, RunSpec
from multistep_bench.runs.store import Run
from multistep_bench.training.checkpoint import read_checkpoint_header, set_aside
from multistep_bench.training.device import find_device
from multistep_bench.training.group import Group, Job
from multistep_bench.training.kept import check_count
from multistep_bench.training.optimizers import why_not_stacked
from multistep_bench.training.plan import default_folder, plan, task_of
from multistep_bench.training.randomness import own_randomness
from multistep_bench.training.relay import NullObserver, Observer, Relay
from multistep_bench.training.stackable import why_not_stackable
from multistep_bench.training.stacked import StackedTrainer, cells_that_fit
from multistep_bench.training.workers import train_here, train_in_processes

CHECKPOINT_SECONDS = 30.0


class Execution(TypedDict, total=False):
    """Where and how cells are trained; on a CPU nothing here changes a curve.

    device:      "auto" (a GPU if there is one), "cpu", "cuda" or "cuda:N".
    workers:     processes, on a CPU only, by default one a core; 1 trains in this process.
    stack:       cells trained at once as one program, by default 1 on a CPU and as many as fit on a GPU.
    checkpoint_seconds: how much work a killed run may lose; 0 saves at every evaluation.
    cell_timeout: seconds without an evaluation after which a cell is given up as failed and its process ended; None
                 waits for ever. A cell that is silent for long is named in any case, see `Observer.stalled`.
    keep_checkpoints: weights of each cell to keep at so many moments spaced over its budget, and just before and after
                 its Eureka-moment, for `load_model`; by default 0, none.
    observer:    what watches the run.
    """

    device: str
    workers: int | None
    stack: int | None
    checkpoint_seconds: float
    cell_timeout: float | None
    keep_checkpoints: int
    observer: Observer | None


def run(
    task: str | Path = DEFAULT_TASK,
    model: str | Path = "vit",
    protocol: str = DEFAULT_PROTOCOL,
    out: str | Path | None = None,
    *,
    changes: Mapping[str, Any] | None = None,
    data_root: str | Path | None = None,
    on_failure: Literal["raise", "keep"] = "raise",
    **execution: Unpack[Execution],
) -> Run:
    """Trains every cell of a task's protocol for a model, and resumes what an earlier call left.

    task, model: names, paths of cards; a model also "timm/NAME" or "package.module:build".
    out:         the run folder, by default one below ./runs named after the specification.
    changes:     see `plan`.
    execution:   see `Execution`.
    on_failure:  a cell whose program breaks is recorded as failed and the others go on; at the end that raises, or the
                 run is returned as it is ("keep").
    Returns the run as read back from its folder. Raises `BenchError` for what cannot be trained and, unless it is to be
    kept, for a run in which cells failed or are missing.
    """
    if on_failure not in ("raise", "keep"):
        raise RunError(f"on_failure={on_failure!r} is neither 'raise' nor 'keep'")
    spec = plan(task, model, protocol, changes, data_root)
    execution["observer"] = reasons = _Reasons(execution.get("observer") or NullObserver())
    done = launch(spec, out, data_root, **execution)
    unfinished = len(done.missing) + len(done.failed)
    if unfinished and on_failure == "raise":
        raise RunError(
            f"{unfinished} of {len(spec.cells())} cells did not finish ({'; '.join(sorted(reasons.found)[:3])});"
            f" the same call tries them again, and on_failure='keep' returns the run in {done.path} as it is"
        )
    return done


class _Reasons:
    """Passes on what happens, and remembers why cells failed."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self.found: set[str] = set()
        self.begin, self.evaluated, self.close = observer.begin, observer.evaluated, observer.close
        self.stalled = observer.stalled

    def ended(self, cell: Cell, outcome: Outcome) -> None:
        """A cell ended."""
        if outcome.status == "failed":
            self.found.add(outcome.reason or "no reason given")
        self._observer.ended(cell, outcome)


def launch(
    spec: RunSpec,
    out: str | Path | None = None,
    data_root: str | Path | None = None,
    *,
    device: str = "auto",
    workers: int | None = None,
    stack: int | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    cell_timeout: float | None = None,
    keep_checkpoints: int = 0,
    observer: Observer | None = None,
) -> Run:
    """Trains the unfinished cells of a specification; see `run` and `Execution`."""
    place = find_device(device)
    if cell_timeout is not None and not cell_timeout > 0:
        raise RunError(f"--cell-timeout {cell_timeout}: more than 0 seconds are needed")
    for option, value in (("--workers", workers), ("--stack", stack)):
        if value is not None and value < 1:
            raise RunError(f"{option} {value}: at least 1 is needed")
    check_count(keep_checkpoints, spec)
    if workers is not None and place.type != "cpu":
        raise RunError(f"--workers {workers}: cells on {place} are stacked, not spread over processes; use --stack")
    folder = Path(out) if out is not None else default_folder(spec)
    observer = observer or NullObserver()
    with _the_only_run(), RunFolder(folder, spec) as held:
        finished = held.finished()
        root = str(data_root) if data_root else None
        job = Job(
            spec=spec,
            folder=folder,
            device=str(place),
            data_root=root,
            checkpoint_seconds=checkpoint_seconds,
            versions=versions(),
            finished=frozenset(finished),
            attempts=held.attempts(),
            keep=keep_checkpoints,
        )
        todo = [cell for cell in spec.cells() if cell not in finished]
        job, groups = _grouped(job, todo, held.checkpoints(), stack)
        count = min(workers or available_cores(), len(groups)) if place.type == "cpu" else min(1, len(groups))
        observer.begin(spec, folder, finished)
        try:
            with Relay(observer) as relay:
                if count > 1 or cell_timeout is not None:  # only another process can be ended
                    train_in_processes(job, groups, count, relay, cell_timeout)
                else:
                    train_here(job, groups, relay)
        finally:
            observer.close()
        return held.pack()


_TRAINING = threading.Lock()


@contextmanager
def _the_only_run() -> Iterator[None]:
    """A process trains one run at a time: its random states are one, and another thread would draw from them."""
    if not _TRAINING.acquire(blocking=False):
        raise RunError(
            "another run trains in this process, and both would draw from its random states;"
            " run them in turn, or each in a process of its own"
        )
    try:
        yield
    finally:
        _TRAINING.release()


def _grouped(job: Job, todo: list[Cell], checkpoints: list[Path], stack: int | None) -> tuple[Job, list[Group]]:
    """The groups to train: those of checkpoints as they were, the other cells stacked as far as they can be."""
    groups: list[Group] = []
    for path in checkpoints:
        try:
            header = read_checkpoint_header(path)
        except RunError as error:  # of a finished cell it blocks nothing
            set_aside(path, error)
            continue
        group = tuple(Cell(rate_index, seed_index) for rate_index, seed_index in header.cells)
        if header.identity == job.spec.identity() and not set(group).isdisjoint(todo):
            groups.append(group)
    begun = {cell for group in groups for cell in group}
    rest = [cell for cell in todo if cell not in begun]
    on_gpu = torch.device(job.device).type == "cuda"
    size = 1
    if rest and (stack or on_gpu) and stack != 1:
        job, size = _stack_size(job, rest, stack)
    each = math.ceil(len(rest) / math.ceil(len(rest) / size)) if rest else 1  # groups of about one size
    return job, groups + [tuple(rest[first : first + each]) for first in range(0, len(rest), each)]


def _stack_size(job: Job, cells: list[Cell], stack: int | None) -> tuple[Job, int]:
    """How many cells to train at once; where a model cannot be stacked, 1, and the job says why."""
    if stack is not None and (reason := why_not_stacked(job.spec.protocol)) is not None:
        raise RunError(f"--stack {stack}: {reason}; leave --stack out, and cells train one at a time")
    device = torch.device(job.device)
    task = task_of(job.spec, job.data_root)
    inputs = task.sample(2, split="eval", rng=seeds.generator(seeds.derive("plan"), device)).inputs
    with own_randomness(device):
        reason = why_not_stackable(job.spec, build(job.spec.model.card(), task.info).to(device), inputs)
        if reason is not None:
            return replace(job, note=f"not stacked because {reason}"), 1
        if stack is not None:
            return job, stack
        probe = StackedTrainer(job.spec, cells[:2], task, lambda: build(job.spec.model.card(), task.info), device)
        return job, cells_that_fit(probe)
