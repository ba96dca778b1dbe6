"""Trains one group of cells and writes their records: what a worker does."""

import contextlib
import itertools
import os
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from multistep_bench.models.build import build
from multistep_bench.runs.folder import RecordWriter, attempts, checkpoint_path, is_finished
from multistep_bench.runs.machine import hardware
from multistep_bench.runs.record import CellReference, Evaluation, Header, Outcome, TaskReference
from multistep_bench.runs.spec import Cell, RunSpec
from multistep_bench.training.checkpoint import load_checkpoint, save_checkpoint
from multistep_bench.training.plan import task_of
from multistep_bench.training.stacked import StackedTrainer
from multistep_bench.training.trainer import SingleTrainer, Trainer

Group = tuple[Cell, ...]


@dataclass(frozen=True)
class Job:
    """What a worker needs to train any group of a run; `note` is why cells are not stacked where they might be."""

    spec: RunSpec
    folder: Path
    device: str
    data_root: str | None
    checkpoint_seconds: float
    versions: dict[str, str]
    note: str | None = None


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
        if (state := load_checkpoint(checkpoint)) is not None:
            trainer.load(state)
        for cell, its in zip(cells, trainer.items, strict=True):
            items[cell] = its.description.items
            if is_finished(job.folder, cell):  # one of a resumed group that ended before the others
                del going[cell]
            else:
                writers[cell] = RecordWriter(job.folder, cell, _header(job, trainer, cell))
        resumed = [(cell, evaluation) for cell in going for evaluation in trainer.evaluations[cell]]
        saved, at_the_end = time.monotonic(), False
        for cell, event in itertools.chain(resumed, trainer.curve()):
            if cell not in writers:
                continue
            if isinstance(event, Outcome) and event.status == "completed" and not at_the_end:
                save_checkpoint(checkpoint, trainer.state())  # before the record is whole: a whole one has its weights
                at_the_end = True
            writers[cell].write(event)
            going[cell] = event.samples
            yield Message(cell, event, items[cell])
            if isinstance(event, Outcome):
                del going[cell]
            elif cell == list(going)[-1] and time.monotonic() - saved >= job.checkpoint_seconds:
                save_checkpoint(checkpoint, trainer.state())
                saved = time.monotonic()
    except Exception as error:  # the model is the user's and may fail in any way
        if os.environ.get("MULTISTEP_BENCH_DEBUG"):
            traceback.print_exc()
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:500]
        for cell, samples in going.items():
            outcome = Outcome(status="failed", reason=reason, samples=samples, seconds=0.0)
            if cell in writers:
                with contextlib.suppress(OSError):  # a full disk: the record stays unfinished, the reason is shown
                    writers[cell].write(outcome)
            yield Message(cell, outcome, items[cell])


def _trainer(job: Job, cells: Group) -> Trainer:
    task = task_of(job.spec, job.data_root)
    kind = SingleTrainer if len(cells) == 1 else StackedTrainer
    return kind(job.spec, list(cells), task, lambda: build(job.spec.model.card(), task.info), torch.device(job.device))


def _header(job: Job, trainer: Trainer, cell: Cell) -> Header:
    spec = job.spec
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
        evaluation=trainer.items[trainer.cells.index(cell)].description,
        auxiliary={name: its.description for name, its in trainer.auxiliary[trainer.cells.index(cell)].items()},
        engine=f"{trainer.engine}: {job.note}" if job.note else trainer.engine,
        versions=job.versions,
        hardware=hardware(job.device),
        attempts=attempts(job.folder, cell) + 1,
    )
