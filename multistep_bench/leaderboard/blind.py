"""Trains a cell where the model can neither look up the answers nor tell which cell it is.

The model lives in a process of its own. It gets the numbers that its weights and noise are drawn from, the training
batches one by one, and the inputs of the evaluation items; the seeds, the generator's streams and the answers stay
here, where its logits are judged. So nothing in the frames around the model's forward pass answers for it, and a
control run on shuffled answers looks like any other. The numbers are those of training: an honest cell has the same
curve as ever, bit for bit.
"""

import multiprocessing
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch

from multistep_bench import seeds
from multistep_bench.batch import IGNORED, Batch, Inputs, TaskInfo
from multistep_bench.errors import BenchError
from multistep_bench.generators.base import Split
from multistep_bench.models.build import build
from multistep_bench.printable import ONE_LINE, printable
from multistep_bench.runs.events import Environment, Evaluation, EvaluationSet, Outcome
from multistep_bench.runs.machine import hardware, versions
from multistep_bench.runs.record import Record
from multistep_bench.runs.spec import Cell, RunSpec
from multistep_bench.training.data import EvaluationBatches, draw_auxiliary, draw_evaluation
from multistep_bench.training.device import one_thread
from multistep_bench.training.losses import measured
from multistep_bench.training.plan import task_of
from multistep_bench.training.randomness import seed_everything
from multistep_bench.training.trainer import SingleTrainer
from multistep_bench.training.workers import end_with_parent, how_it_ended

Watch = Callable[[Cell, Evaluation | Outcome], None]
CPU = torch.device("cpu")
Arrays = np.ndarray | dict[str, np.ndarray]


def watch_nothing(cell: Cell, event: Evaluation | Outcome) -> None:
    """Is told what happens, and does nothing."""


def train_blind(
    spec: RunSpec,
    cell: Cell,
    data_root: str | Path | None = None,
    watch: Watch = watch_nothing,
    order: torch.Generator | None = None,
) -> Record:
    """Trains one cell on the CPU with one thread; its record.

    order: of the answers to train on, which are then shuffled (a control run); without it they are the real ones.
    Raises `BenchError` where the model breaks or its process ends.
    """
    judge = _Judge(spec, cell, data_root, order)
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_train, args=(theirs,), daemon=True)
    process.start()
    theirs.close()
    evaluations: list[Evaluation] = []
    try:
        ours.send(judge.assignment())
        while True:
            kind, *content = ours.recv()
            if kind == "batch":
                ours.send(judge.batch(*content))
            elif kind == "answers":
                ours.send(judge.judged(*content))
            elif kind == "broke":
                raise BenchError(f"{cell.name} of {spec.task.id} broke here: {content[0]}")
            else:
                (event,) = content
                watch(cell, event)
                if isinstance(event, Outcome):
                    if event.status == "failed":
                        raise BenchError(f"{cell.name} of {spec.task.id} broke here: {event.reason}")
                    return judge.record(evaluations, event)
                evaluations.append(event)
    except (EOFError, ConnectionResetError, BrokenPipeError):
        process.join()
        raise BenchError(f"{cell.name} of {spec.task.id} broke here: {how_it_ended(process.exitcode)}") from None
    finally:
        ours.close()
        process.terminate()
        process.join()


class _Judge:
    """Holds what the model must not know of a cell: its seeds, its streams and the answers to its items."""

    def __init__(self, spec: RunSpec, cell: Cell, data_root: str | Path | None, order: torch.Generator | None) -> None:
        self.spec, self.cell, self.order = spec, cell, order
        self.task = task_of(spec, data_root)
        self.rng = seeds.generator(cell.seed(spec.task.id, "train"))
        self.items: dict[str | None, EvaluationBatches] = {None: draw_evaluation(spec, cell, self.task, CPU)}
        self.items |= draw_auxiliary(spec, cell, self.task, CPU)

    def assignment(self) -> "_Assignment":
        """What the model's process gets to know, whatever cell it is."""
        rates = (self.spec.learning_rate(self.cell),)
        protocol = self.spec.protocol.model_copy(update={"learning_rates": rates, "seeds": 1, "first_seed": 0})
        card = self.spec.task.model_copy(update={"protocols": {self.spec.protocol_name: protocol}})
        return _Assignment(
            spec=self.spec.model_copy(update={"task": card, "changes": {}}),
            info=self.task.info,
            init=self.cell.seed(self.spec.task.id, "init"),
            noise=self.cell.seed(self.spec.task.id, "noise"),
            items={
                name: [(_arrays(batch.inputs), (batch.targets != IGNORED).numpy()) for batch in its.batches]
                for name, its in self.items.items()
            },
        )

    def batch(self, n: int) -> tuple[Arrays, np.ndarray]:
        """The next n samples to train on."""
        batch = self.task.sample(n, split="train", rng=self.rng)
        targets = batch.targets if self.order is None else shuffled(batch.targets, self.order)
        return _arrays(batch.inputs), targets.numpy()

    def judged(self, name: str | None, answers: list[np.ndarray]) -> tuple[int, float]:
        """The count of correct answers and the mean loss of logits for every item of a set."""
        with one_thread():
            return measured(self.task, self.items[name], map(torch.from_numpy, answers))

    def record(self, evaluations: list[Evaluation], outcome: Outcome) -> Record:
        with one_thread():
            environment = Environment(engine=SingleTrainer.engine, versions=versions(), hardware=hardware("cpu"))
        sets = {name: its.description for name, its in self.items.items() if name is not None}
        primary = self.items[None].description
        return Record.of_events(self.cell, environment, 1, (primary, sets), evaluations, outcome)


@dataclass(frozen=True)
class _Assignment:
    """items: of each set, the inputs of every forward pass and where answers are scored."""

    spec: RunSpec
    info: TaskInfo
    init: int
    noise: int
    items: dict[str | None, list[tuple[Arrays, np.ndarray]]]


class _BlindTrainer(SingleTrainer):
    """Trains one cell on batches that it is sent, and has its answers judged."""

    def __init__(self, given: _Assignment, connection: Connection) -> None:
        self.connection = connection
        self.spec, self.cells, self.device = given.spec, [Cell(0, 0)], CPU
        self.task: Any = _Stream(given.info, connection)
        self.rngs = [torch.Generator()]
        sets = {name: _blank(pieces) for name, pieces in given.items.items()}
        self.items = [sets.pop(None)]
        self.auxiliary: list[dict[str, EvaluationBatches]] = [{str(name): its for name, its in sets.items()}]
        self.evaluations = {cell: [] for cell in self.cells}
        seed_everything(given.init)
        self.prepare([self._materialized(build(given.spec.model.card(), given.info).to(CPU))])
        if getattr(self.model, "uses_steps", False):
            raise BenchError("the model is given the intermediate variables, so nothing can be judged")
        seed_everything(given.noise)

    @torch.no_grad()
    def evaluate(self, name: str | None = None) -> list[tuple[int, float]]:
        self.model.eval()
        items = self.items[0] if name is None else self.auxiliary[0][name]
        self.connection.send(("answers", name, [self._logits(batch).numpy() for batch in items.batches]))
        return [self.connection.recv()]


class _Stream:
    """Stands in for a task where a trainer asks for batches."""

    def __init__(self, info: TaskInfo, connection: Connection) -> None:
        self.info = info
        self._connection = connection

    def sample(self, n: int, *, split: Split, rng: torch.Generator) -> Batch:
        self._connection.send(("batch", n))
        inputs, targets = self._connection.recv()
        return Batch(_tensors(inputs), torch.from_numpy(targets), {})


def _train(connection: Connection) -> None:
    """Body of the model's process."""
    end_with_parent()
    torch.set_num_threads(1)
    try:
        for _, event in _BlindTrainer(connection.recv(), connection).curve():
            connection.send(("event", event))
    except (Exception, SystemExit) as error:  # the model is the submitter's and may fail in any way
        connection.send(("broke", printable(f"{type(error).__name__}: {error}"[:300], ONE_LINE)))


def shuffled(targets: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """The targets [B] or [B, T] with those that are scored in another order, across samples and places."""
    scored = targets != IGNORED
    values = targets[scored]
    mixed = targets.clone()
    mixed[scored] = values[torch.randperm(len(values), generator=rng).to(values.device)]
    return mixed


def _blank(pieces: Iterable[tuple[Arrays, np.ndarray]]) -> EvaluationBatches:
    """Items whose answers are all 0 where they are scored."""
    batches = [
        Batch(_tensors(inputs), torch.where(torch.from_numpy(scored), 0, IGNORED), {}) for inputs, scored in pieces
    ]
    items = sum(int((batch.targets != IGNORED).sum()) for batch in batches)
    return EvaluationBatches(batches, EvaluationSet(items=items, sha256=""))


def _arrays(inputs: Inputs) -> Arrays:
    return {name: part.numpy() for name, part in inputs.items()} if isinstance(inputs, dict) else inputs.numpy()


def _tensors(inputs: Arrays) -> Inputs:
    if isinstance(inputs, dict):
        return {name: torch.from_numpy(part) for name, part in inputs.items()}
    return torch.from_numpy(inputs)
