"""Trains one group of cells and writes their records: what a worker does."""

import contextlib
import itertools
import os
import time
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch

from multistep_bench.atomic import write_atomically
from multistep_bench.diagnostics.options import DiagnosticOptions
from multistep_bench.diagnostics.recorder import Recorder
from multistep_bench.errors import RunError
from multistep_bench.models.build import build
from multistep_bench.printable import LINES, ONE_LINE, printable
from multistep_bench.runs.diagnostics import save_diagnostics
from multistep_bench.runs.events import Environment, Evaluation, EvaluationSet, Outcome
from multistep_bench.runs.folder import RecordWriter, checkpoint_path, close_abandoned, traceback_path
from multistep_bench.runs.machine import hardware
from multistep_bench.runs.spec import Cell, RunSpec
from multistep_bench.runs.store import CellHeader
from multistep_bench.training.checkpoint import load_checkpoint, save_checkpoint, set_aside
from multistep_bench.training.kept import WeightsKeeper
from multistep_bench.training.plan import task_of
from multistep_bench.training.stacked import StackedTrainer
from multistep_bench.training.trainer import SingleTrainer, Trainer

Group = tuple[Cell, ...]
REASON_LENGTH = 300  # of an error, before what does not show in it is written out


@dataclass(frozen=True)
class Job:
    """What a worker needs to train any group of a run.

    finished: cells that need no more training. attempts: how often cells were started before.
    note:     why cells are not stacked where they might be.
    diagnostics: what is recorded beside the curves. keep: see `training.kept`.
    """

    spec: RunSpec
    folder: Path
    device: str
    data_root: str | None
    checkpoint_seconds: float
    versions: dict[str, str]
    finished: frozenset[Cell] = frozenset()
    attempts: dict[Cell, int] = field(default_factory=dict)
    note: str | None = None
    diagnostics: DiagnosticOptions | None = None
    keep: int = 0

    def unfinished(self, cells: Group) -> Group:
        """The cells of a group that need training: a resumed one may hold some that ended before the others."""
        return tuple(cell for cell in cells if cell not in self.finished)


@dataclass(frozen=True)
class Message:
    """An evaluation or the outcome of a cell; `items` is the size of its evaluation set."""

    cell: Cell
    event: Evaluation | Outcome
    items: int


def train(job: Job, cells: Group) -> Iterator[Message]:
    """Trains one group of cells, writes their records and yields what happens, each cell's outcome last.

    An error of the model or the data becomes a failed outcome: cells of other groups go on.
    """
    writers: dict[Cell, RecordWriter] = {}
    going = dict.fromkeys(cells, 0)  # cell → samples so far
    items = dict.fromkeys(cells, 0)
    try:
        trainer = _trainer(job, cells)
        checkpoint = checkpoint_path(job.folder, cells[0])
        _resume(trainer, checkpoint)
        for cell, its in zip(cells, trainer.items, strict=True):
            items[cell] = its.description.items
            if cell in job.finished:  # one of a resumed group that ended before the others
                del going[cell]
            else:
                traceback_path(job.folder, cell).unlink(missing_ok=True)  # of an attempt before
                writers[cell] = RecordWriter(job.folder, cell, _header(job, trainer, cell))
        resumed = [(cell, evaluation) for cell in going for evaluation in trainer.evaluations[cell]]
        keeper = WeightsKeeper(job.spec, job.folder, job.keep)
        saved, at_the_end = time.monotonic(), False
        for cell, event in itertools.chain(resumed, trainer.curve()):
            if cell not in writers:
                continue
            if isinstance(event, Outcome) and event.status == "completed" and not at_the_end:
                _save(trainer, checkpoint)  # before the record is whole: a whole one has its weights
                at_the_end = True
            if isinstance(event, Outcome):
                keeper.ended(cell, trainer, event)
                if trainer.recordings[cell]:  # before the record is whole, as the weights
                    save_diagnostics(job.folder, cell, trainer.recordings[cell])
            elif event is trainer.evaluations[cell][-1]:  # the trainer has its weights
                keeper.evaluated(cell, trainer)
            writers[cell].write(event)
            going[cell] = event.samples
            yield Message(cell, event, items[cell])
            if isinstance(event, Outcome):
                del going[cell]
            elif cell == list(going)[-1] and time.monotonic() - saved >= job.checkpoint_seconds:
                _save(trainer, checkpoint)
                saved = time.monotonic()
    except (Exception, SystemExit) as error:  # the model is the user's and may fail in any way
        if os.environ.get("MULTISTEP_BENCH_DEBUG"):
            traceback.print_exc()
        reason = printable(" ".join(f"{type(error).__name__}: {error}".split())[:REASON_LENGTH], ONE_LINE)
        _keep_traceback(job.folder, going)
        for cell, samples in going.items():
            outcome = Outcome(status="failed", reason=reason, samples=samples, seconds=0.0)
            with contextlib.suppress(OSError):  # a full disk: the record stays unfinished, the reason is shown
                writer = writers.get(cell) or RecordWriter(job.folder, cell, _header(job, None, cell))
                writer.write(outcome)
            yield Message(cell, outcome, items[cell])


def _keep_traceback(folder: Path, cells: Iterable[Cell]) -> None:
    """Writes the present error's traceback beside the records of the cells that it ended."""
    text = printable(traceback.format_exc(), LINES).encode()
    for cell in cells:
        with contextlib.suppress(OSError):  # a full disk: the reason is shown all the same
            path = traceback_path(folder, cell)
            path.parent.mkdir(exist_ok=True)
            write_atomically(path, text)


def record_failure(job: Job, cell: Cell, reason: str) -> Outcome:
    """Records a cell as failed whose process is gone; what it wrote of its curve is kept."""
    outcome = close_abandoned(job.folder, cell, reason)
    if outcome is None:  # it had not begun to write
        outcome = Outcome(status="failed", reason=reason, samples=0, seconds=0.0)
        with contextlib.suppress(OSError):  # a full disk: there is no record, the reason is shown
            RecordWriter(job.folder, cell, _header(job, None, cell)).write(outcome)
    return outcome


def _trainer(job: Job, cells: Group) -> Trainer:
    task = task_of(job.spec, job.data_root)
    kind = SingleTrainer if len(cells) == 1 else StackedTrainer
    device = torch.device(job.device)
    trainer = kind(job.spec, list(cells), task, lambda: build(job.spec.model.card(), task.info), device)
    if job.diagnostics is not None:
        trainer.recorder = Recorder(job.diagnostics, task, device)
    return trainer


def _save(trainer: Trainer, path: Path) -> None:
    save_checkpoint(path, trainer.spec.identity(), trainer.cells, trainer.state_dict())


def _resume(trainer: Trainer, path: Path) -> None:
    """Takes over the checkpoint of the trainer's cells, if there is one that is whole and theirs."""
    if not path.exists():
        return
    try:
        state = load_checkpoint(path, trainer.spec.identity())
        trainer.load_state_dict(state)
    except RunError as error:
        set_aside(path, error)


def _header(job: Job, trainer: Trainer | None, cell: Cell) -> CellHeader:
    """trainer: None where none could be made, so that no items were drawn either."""
    engine, items, auxiliary = "no training", EvaluationSet(items=job.spec.protocol.evaluation_items, sha256=""), {}
    if trainer is not None:
        place = trainer.cells.index(cell)
        engine, items = trainer.engine, trainer.items[place].description
        auxiliary = {name: its.description for name, its in trainer.auxiliary[place].items()}
    return CellHeader(
        identity=job.spec.identity(),
        cell=(cell.rate_index, cell.seed_index),
        environment=Environment(
            engine=f"{engine}: {job.note}" if job.note else engine,
            versions=job.versions,
            hardware=hardware(job.device),
        ),
        evaluation=items,
        auxiliary=auxiliary,
        attempts=job.attempts.get(cell, 0) + 1,
    )
