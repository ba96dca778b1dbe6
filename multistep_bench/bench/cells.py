"""Many cells at once as the suite trains them, against the same cells one after another in plain PyTorch."""

import contextlib
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import torch

from multistep_bench.bench.plain import PlainCell
from multistep_bench.bench.quick import quick_spec
from multistep_bench.bench.result import Measured
from multistep_bench.bench.timing import Measure, interleaved, speedup, timed
from multistep_bench.errors import RunError
from multistep_bench.models.build import build
from multistep_bench.runs.events import Evaluation, Outcome
from multistep_bench.runs.machine import available_cores
from multistep_bench.runs.spec import Cell, RunSpec
from multistep_bench.training.launch import launch
from multistep_bench.training.plan import task_of
from multistep_bench.training.relay import NullObserver
from multistep_bench.training.stacked import StackedTrainer

COUNTS = (1, 2, 4, 8, 16, 32, 64)
ENDLESS = {"protocol.budget": 25_600_000, "protocol.evaluations": 20_000}  # quick, an interval as long, never done


@dataclass(frozen=True)
class CellsRow:
    """A number of cells; samples a second of all of them together, evaluation included.

    ratio: over plain PyTorch with torch's default threads; ratio_one_thread: over plain PyTorch with one.
    """

    cells: int
    engine: str
    samples_per_second: float
    reference_samples_per_second: float
    ratio: float
    ratio_range: tuple[float, float]
    ratio_one_thread: float
    ratio_one_thread_range: tuple[float, float]
    repeats: int


def measure_cells(seconds: float, device: torch.device, counts: Sequence[int] | None = None) -> Measured:
    """Samples a second over numbers of cells.

    On a GPU the cells are stacked. On a CPU they are spread over processes of one thread, one a core: more cells
    than cores wait for their turn, so the counts end at the number of cores.
    """
    if counts is None:
        cores = available_cores()
        counts = COUNTS if device.type == "cuda" else sorted({*(n for n in COUNTS if n < cores), cores})
    spec = quick_spec()
    plain = PlainCell(spec, spec.cells()[0], task_of(spec), device)

    def one_interval() -> None:
        plain.train_interval()
        plain.evaluate()

    reference = {
        "default threads": timed(one_interval, device),
        "one thread": timed(one_interval, device, threads=1),
    }
    rows = [_row(count, reference, seconds, device) for count in counts]
    return Measured(
        reference="the bare loop of the benchmark quick, one cell after another: as many samples a second for any"
        " number of cells, so one cell is timed",
        settings={"task": spec.task.id, "batch_size": spec.protocol.batch_size, "threads": torch.get_num_threads()},
        rows=tuple(rows),
    )


def cells_at_once(count: int, seconds: float, device: torch.device) -> tuple[str, Measure]:
    """The suite's engine for that many cells on a device, and a measure of its seconds per sample."""
    spec = quick_spec(count, **ENDLESS)
    if device.type == "cuda":
        return "stacked", stacked_cost(spec, device)
    return "processes", lambda: launched_cost(spec, seconds)


def stacked_cost(spec: RunSpec, device: torch.device) -> Measure:
    """Seconds per sample of all cells of a specification as one group, an interval and an evaluation at a time."""
    task = task_of(spec)
    trainer = StackedTrainer(spec, spec.cells(), task, lambda: build(spec.model.card(), task.info), device)

    def interval() -> None:
        trainer.train_interval(0)
        trainer.evaluate()

    once = timed(interval, device)
    return lambda: once() / (spec.protocol.interval * len(trainer.cells))


def launched_cost(spec: RunSpec, seconds: float) -> float:
    """Seconds per sample of a run in a process a cell, timed from when every process has trained an interval."""
    window = _Window(len(spec.cells()), seconds)
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(_Enough):
        launch(spec, f"{folder}/run", device="cpu", workers=len(spec.cells()), observer=window)
    return window.elapsed / (window.intervals * spec.protocol.interval)


class _Enough(Exception):
    """Ends a run that has been watched for long enough."""


class _Window(NullObserver):
    """Counts the intervals that all cells train together in a number of seconds."""

    def __init__(self, cells: int, seconds: float) -> None:
        self.waiting = cells
        self.seconds = seconds
        self.since = self.elapsed = 0.0
        self.intervals = 0
        self.started: set[Cell] = set()

    def evaluated(self, cell: Cell, evaluation: Evaluation, items: int) -> None:
        if len(self.started) == self.waiting:
            self.intervals += 1
            self.elapsed = time.perf_counter() - self.since
            if self.elapsed >= self.seconds:
                raise _Enough
        elif evaluation.samples:
            self.started.add(cell)
            self.since = time.perf_counter()

    def ended(self, cell: Cell, outcome: Outcome) -> None:
        reason = outcome.reason or outcome.status
        raise RunError(f"{cell.name} ended after {outcome.samples} samples, while it was timed: {reason}; try again")


def _row(count: int, reference: dict[str, Measure], seconds: float, device: torch.device) -> CellsRow:
    engine, suite = cells_at_once(count, seconds, device)
    interval = quick_spec().protocol.interval
    times = interleaved({"suite": suite, **reference}, seconds)
    default, one_thread = ([each / interval for each in times[name]] for name in reference)  # seconds per sample
    ratio, ratio_range = speedup(times["suite"], default)
    ratio_one_thread, ratio_one_thread_range = speedup(times["suite"], one_thread)
    return CellsRow(
        cells=count,
        engine=engine,
        samples_per_second=1 / median(times["suite"]),
        reference_samples_per_second=1 / median(default),
        ratio=ratio,
        ratio_range=ratio_range,
        ratio_one_thread=ratio_one_thread,
        ratio_one_thread_range=ratio_one_thread_range,
        repeats=len(times["suite"]),
    )
