"""Runs the cells of a specification: in parallel processes of one thread on a CPU, in turn on a GPU."""

import contextlib
import itertools
import multiprocessing
import os
import platform
import signal
import subprocess
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Protocol

import torch

from multistep_bench import __version__
from multistep_bench.cards import DEFAULT_PROTOCOL, DEFAULT_TASK
from multistep_bench.errors import RunError
from multistep_bench.models.build import build
from multistep_bench.training.cells import Cell, RunSpec
from multistep_bench.training.checkpoint import load_checkpoint, save_checkpoint
from multistep_bench.training.folder import RecordWriter, RunFolder, attempts, checkpoint_path
from multistep_bench.training.plan import available_cores, default_folder, plan, task_of
from multistep_bench.training.record import (
    CellReference,
    Evaluation,
    Header,
    Outcome,
    Record,
    Run,
    TaskReference,
    read_run,
)
from multistep_bench.training.trainer import CellTrainer

CHECKPOINT_SECONDS = 30.0


class Observer(Protocol):
    """What watches a run; called in the process that started it."""

    def begin(self, spec: RunSpec, folder: Path, finished: Mapping[Cell, Record]) -> None: ...

    def evaluated(self, cell: Cell, evaluation: Evaluation, items: int) -> None: ...

    def ended(self, cell: Cell, outcome: Outcome) -> None: ...

    def close(self) -> None: ...


class Silent:
    """Watches nothing."""

    def begin(self, spec: RunSpec, folder: Path, finished: Mapping[Cell, Record]) -> None:
        """A run starts."""

    def evaluated(self, cell: Cell, evaluation: Evaluation, items: int) -> None:
        """A cell was evaluated."""

    def ended(self, cell: Cell, outcome: Outcome) -> None:
        """A cell ended."""

    def close(self) -> None:
        """The run is over."""


def run(
    task: str | Path = DEFAULT_TASK,
    model: str | Path = "vit",
    protocol: str = DEFAULT_PROTOCOL,
    out: str | Path | None = None,
    *,
    changes: Mapping[str, Any] | None = None,
    device: str = "auto",
    workers: int | None = None,
    data_root: str | Path | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    observer: Observer | None = None,
) -> Run:
    """Trains every cell of a task's protocol for a model, and resumes what an earlier call left.

    task, model: names, paths of cards; a model also "timm/NAME" or "package.module:build".
    out:         the run folder, by default one below ./runs named after the specification.
    changes:     see `plan`.
    device:      "auto" (a GPU if there is one), "cpu", "cuda" or "cuda:N".
    workers:     processes on a CPU, by default one a core; 1 trains in this process.
    checkpoint_seconds: how much work of a cell a killed run may lose; 0 saves at every evaluation.
    Returns the run as read back from its folder. Raises `BenchError` for what cannot be trained; a cell
    whose program breaks is recorded as failed and the others go on.
    """
    spec = plan(task, model, protocol, changes, data_root)
    return launch(
        spec,
        out,
        device=device,
        workers=workers,
        data_root=data_root,
        checkpoint_seconds=checkpoint_seconds,
        observer=observer,
    )


def launch(
    spec: RunSpec,
    out: str | Path | None = None,
    *,
    device: str = "auto",
    workers: int | None = None,
    data_root: str | Path | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    observer: Observer | None = None,
) -> Run:
    """Trains the unfinished cells of a specification; see `run`."""
    place = find_device(device)
    if workers is not None and workers < 1:
        raise RunError(f"--workers {workers}: at least one process is needed")
    folder = Path(out) if out is not None else default_folder(spec)
    observer = observer or Silent()
    with RunFolder(folder, spec) as held:
        finished = held.finished()
        todo = [cell for cell in spec.cells() if cell not in finished]
        job = Job(spec, folder, str(place), str(data_root) if data_root else None, checkpoint_seconds, versions())
        count = min(workers or available_cores(), len(todo)) if place.type == "cpu" else 1
        relay = _relay_to(observer)
        observer.begin(spec, folder, finished)
        try:
            if count > 1:
                _run_in_processes(job, todo, count, relay)
            else:
                _run_here(job, todo, relay)
        finally:
            observer.close()
        return read_run(folder)


@dataclass(frozen=True)
class Job:
    """What a worker needs to train any cell of a run."""

    spec: RunSpec
    folder: Path
    device: str
    data_root: str | None
    checkpoint_seconds: float
    versions: dict[str, str]


def find_device(name: str) -> torch.device:
    """The device of a name; raises `RunError` where this machine has none such."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise RunError(f"--device {name} is none of auto, cpu, cuda, cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise RunError(f"--device {name} is none of auto, cpu, cuda, cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise RunError(f"--device {name}: torch sees {torch.cuda.device_count()} GPUs here; use --device cpu")
    return device


@dataclass(frozen=True)
class Message:
    """An evaluation or the outcome of a cell; `items` is the size of its evaluation set."""

    cell: Cell
    event: Evaluation | Outcome
    items: int


def train_cell(job: Job, cell: Cell) -> Iterator[Message]:
    """Trains one cell, writes its record and yields what happens, the outcome last.

    An error of the model or the data becomes a failed outcome: the other cells go on.
    """
    spec = job.spec
    writer: RecordWriter | None = None
    samples = items = 0
    try:
        task = task_of(spec, job.data_root)
        trainer = CellTrainer(spec, cell, task, lambda: build(spec.model.card(), task.info), torch.device(job.device))
        items = trainer.evaluation.description.items
        checkpoint = checkpoint_path(job.folder, cell)
        if (state := load_checkpoint(checkpoint)) is not None:
            trainer.load(state)
        writer = RecordWriter(job.folder, cell, _header(job, trainer))
        saved = time.monotonic()
        for event in itertools.chain(list(trainer.evaluations), trainer.curve()):
            samples = event.samples
            writer.write(event)
            yield Message(cell, event, items)
            if isinstance(event, Evaluation) and time.monotonic() - saved >= job.checkpoint_seconds:
                save_checkpoint(checkpoint, trainer.state())
                saved = time.monotonic()
        checkpoint.unlink(missing_ok=True)
    except Exception as error:  # the model is the user's and may fail in any way
        if os.environ.get("MULTISTEP_BENCH_DEBUG"):
            traceback.print_exc()
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:500]
        outcome = Outcome(status="failed", reason=reason, samples=samples, seconds=0.0)
        if writer is not None:
            with contextlib.suppress(OSError):  # a full disk: the record stays unfinished, the reason is shown
                writer.write(outcome)
        yield Message(cell, outcome, items)


def _header(job: Job, trainer: CellTrainer) -> Header:
    spec, cell = job.spec, trainer.cell
    return Header(
        spec_sha256=spec.sha256(),
        task=TaskReference(id=spec.task.id, sha256=spec.task.sha256(), protocol=spec.protocol_name),
        protocol=spec.protocol,
        model=spec.model,
        cell=CellReference(
            rate_index=cell.rate_index,
            learning_rate=spec.learning_rate(cell),
            seed_index=cell.seed_index,
            seed=cell.seed(spec.task.id, "init"),
        ),
        evaluation=trainer.evaluation.description,
        engine="one cell at a time",
        versions=job.versions,
        hardware=hardware(job.device),
        attempts=attempts(job.folder, cell) + 1,
    )


def _run_here(job: Job, cells: list[Cell], relay: Callable[[Message], None]) -> None:
    """Cells in turn in this process; on a CPU with one thread, as everywhere, for the same curves."""
    threads = torch.get_num_threads()
    device = torch.device(job.device)
    try:
        if device.type == "cpu":
            torch.set_num_threads(1)
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            for cell in cells:
                for message in train_cell(job, cell):
                    relay(message)
    finally:
        torch.set_num_threads(threads)


def _run_in_processes(job: Job, cells: list[Cell], count: int, relay: Callable[[Message], None]) -> None:
    """Cells spread over processes of one thread; a process that dies takes only its cell with it."""
    waiting = list(cells)
    workers = [_Worker(job) for _ in range(count)]
    try:
        for worker in workers:
            worker.give(waiting.pop(0))
        while busy := {worker.connection: worker for worker in workers if worker.cell is not None}:
            for connection in wait(list(busy)):
                worker = busy[connection]  # type: ignore[index]
                message = worker.receive()
                relay(message)
                if isinstance(message.event, Outcome):
                    worker = worker if worker.alive else _replace(workers, worker, job)
                    worker.give(waiting.pop(0) if waiting else None)
    finally:
        for worker in workers:
            worker.stop()


class _Worker:
    """A process that trains the cells it is given, one after another."""

    def __init__(self, job: Job) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(target=_work, args=(job, theirs), daemon=True)
        self.process.start()
        theirs.close()
        self.cell: Cell | None = None
        self.alive = True

    def give(self, cell: Cell | None) -> None:
        """Hands over the next cell; None means there is none."""
        self.cell = cell
        if cell is not None:
            with contextlib.suppress(BrokenPipeError):  # it died: `receive` says so
                self.connection.send(cell)

    def receive(self) -> Message:
        """What it did last; if it died, a failed outcome of its cell, whose record stays unfinished."""
        assert self.cell is not None
        try:
            return self.connection.recv()
        except (EOFError, ConnectionResetError):
            self.process.join()
            self.alive = False
            reason = f"its process died with exit code {self.process.exitcode} (out of memory?)"
            return Message(self.cell, Outcome(status="failed", reason=reason, samples=0, seconds=0.0), 0)

    def stop(self) -> None:
        self.connection.close()
        self.process.terminate()
        self.process.join()


def _replace(workers: list[_Worker], dead: _Worker, job: Job) -> _Worker:
    dead.stop()
    workers[workers.index(dead)] = fresh = _Worker(job)
    return fresh


def _work(job: Job, connection: Connection) -> None:
    """Body of a worker process. Ctrl-C is the parent's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    with contextlib.suppress(EOFError, BrokenPipeError):  # the parent is gone
        while True:
            for message in train_cell(job, connection.recv()):
                connection.send(message)


def _relay_to(observer: Observer) -> Callable[[Message], None]:
    def relay(message: Message) -> None:
        if isinstance(message.event, Outcome):
            observer.ended(message.cell, message.event)
        else:
            observer.evaluated(message.cell, message.event, message.items)

    return relay


def versions() -> dict[str, str]:
    """Versions that decide a curve: of the harness (with its git commit in a checkout), torch and Python."""
    found = {"multistep_bench": __version__, "torch": torch.__version__, "python": platform.python_version()}
    package = Path(__file__).resolve().parents[1]
    if (package.parent / ".git").exists():
        command = ["git", "-C", str(package), "describe", "--always", "--dirty", "--abbrev=40"]
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            found["git"] = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return found


def hardware(device: str) -> dict[str, Any]:
    """The machine a cell is trained on."""
    found: dict[str, Any] = {"device": device, "machine": platform.machine(), "cores": available_cores()}
    if torch.device(device).type == "cuda":
        found["gpu"] = torch.cuda.get_device_name(device)
    else:
        found["processor"] = _processor()
        found["threads"] = torch.get_num_threads()
    return found


def _processor() -> str:
    with contextlib.suppress(OSError):
        for entry in Path("/proc/cpuinfo").read_text().splitlines():
            if entry.startswith("model name"):
                return entry.partition(":")[2].strip()
    return platform.processor() or "unknown"
