"""Trains cells of any module; data, optimiser, learning rates and evaluation schedule belong to the harness."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.parameter import UninitializedParameter
from torch.utils._pytree import tree_map_only

from multistep_bench import seeds
from multistep_bench.batch import Batch
from multistep_bench.generators.base import TaskGenerator
from multistep_bench.models.build import logits
from multistep_bench.runs.events import Evaluation, Metrics, Outcome, as_float32
from multistep_bench.runs.spec import Cell, RunSpec
from multistep_bench.training.data import draw_auxiliary, draw_evaluation, training_batches
from multistep_bench.training.losses import at_least_float32, measured, training_loss
from multistep_bench.training.multipliers import scaled_updates, update_factors
from multistep_bench.training.optimizers import make_optimizer, set_learning_rate
from multistep_bench.training.progress import progress_setter
from multistep_bench.training.randomness import random_state, seed_everything, set_random_state
from multistep_bench.training.recordings import Recordings, plain_recordings, restored_recordings
from multistep_bench.training.rescale import rescale_gradients
from multistep_bench.training.schedules import learning_rate
from multistep_bench.training.untrained import knows_too_much
from multistep_bench.training.weights import on_cpu, set_weights

if TYPE_CHECKING:
    from multistep_bench.diagnostics.recorder import Recorder

Build = Callable[[], nn.Module]


class Trainer(ABC):
    """Cells from their first weights to their budget; a subclass trains and evaluates them.

    build: makes an untrained model; called once a cell, right after the process's random states are seeded with the
    cell's "init" stream. From then on they are the "noise" stream (dropout, drop-path) of the first cell. Callers that
    care about their own states use `own_randomness` around it all.
    recorder: set after that, it takes figures of each cell's model at evaluations; `recordings` are those so far, each
    with the samples that the cell had seen. Curves do not depend on it.
    """

    engine: str  # goes into the record

    recorder: "Recorder | None" = None

    def __init__(
        self, spec: RunSpec, cells: list[Cell], task: TaskGenerator, build: Build, device: torch.device
    ) -> None:
        self.spec = spec
        self.cells = cells
        self.task = task
        self.device = device
        id = spec.task.id
        self.rngs = [seeds.generator(cell.seed(id, "train"), device) for cell in cells]
        self.items = [draw_evaluation(spec, cell, task, device) for cell in cells]
        self.auxiliary = [draw_auxiliary(spec, cell, task, device) for cell in cells]
        self.evaluations: dict[Cell, list[Evaluation]] = {cell: [] for cell in cells}
        self.recordings: dict[Cell, Recordings] = {cell: [] for cell in cells}
        models = []
        for cell in cells:
            seed_everything(cell.seed(id, "init"))
            models.append(self._materialized(build().to(device)))
        self.prepare(models)
        seed_everything(cells[0].seed(id, "noise"))

    def _materialized(self, model: nn.Module) -> nn.Module:
        """The model, whose lazy parameters, if any, were given their shapes by a first forward pass."""
        if any(isinstance(parameter, UninitializedParameter) for parameter in model.parameters()):
            (items, *_) = self.items[0].batches
            training = model.training
            with torch.no_grad():
                logits(model.eval(), next(iter(items.split(2))))
            model.train(training)
        return model

    @abstractmethod
    def prepare(self, models: list[nn.Module]) -> None:
        """Takes over the untrained models, one a cell."""

    @abstractmethod
    def train_interval(self, samples: int) -> list[float]:
        """Trains every cell from `samples` to the next evaluation; the mean training loss of each."""

    @abstractmethod
    def evaluate(self, name: str | None = None) -> list[tuple[int, float]]:
        """Each cell's correct answers among its items, or those of a auxiliary set, and the mean cross-entropy."""

    @abstractmethod
    def model_of(self, place: int) -> nn.Module:
        """The model of the cell at that place in `cells` as it is now, for reading only."""

    @abstractmethod
    def learned_state(self) -> dict[str, Any]:
        """Parameters, buffers and the optimiser's state, as tensors and plain data."""

    @abstractmethod
    def load_learned_state(self, state: dict[str, Any]) -> None:
        """Takes over what `learned_state` gave."""

    @abstractmethod
    def weights(self, cell: Cell) -> dict[str, Any]:
        """One cell's model as `set_weights` takes it, copied to the CPU."""

    def curve(self) -> Iterator[tuple[Cell, Evaluation | Outcome]]:
        """Trains on from the evaluations made so far, yielding each further one and every cell's outcome.

        A cell that diverged, or that knows the task before training, gets its outcome at once and no evaluation after
        it.
        """
        protocol = self.spec.protocol
        going = [cell for cell in self.cells if self._early_end(cell) is None]
        for cell in self.cells:
            if (outcome := self._early_end(cell)) is not None:  # just before the state was taken that it resumes from
                yield cell, outcome
        done = len(self.evaluations[going[0]]) if going else protocol.evaluations + 1
        begin = time.perf_counter() - (self.evaluations[going[0]][-1].seconds if done and going else 0.0)
        for index in range(done, protocol.evaluations + 1):
            samples = index * protocol.interval
            train_losses = self.train_interval(samples - protocol.interval) if index else [None] * len(self.cells)
            results = self._metrics(None)
            further = {name: self._metrics(name) for name in self.auxiliary[0]}
            seconds = round(time.perf_counter() - begin, 3)
            if self.recorder is not None and self.recorder.options.due(index, protocol.evaluations):
                for cell in going:
                    self.recordings[cell].append((samples, self.recorder.record(self.model_of(self.cells.index(cell)))))
            for place, cell in enumerate(self.cells):
                if cell not in going:
                    continue
                evaluation = Evaluation(
                    samples=samples,
                    correct=results[place].correct,
                    loss=results[place].loss,
                    train_loss=as_float32(train_losses[place]),
                    seconds=seconds,
                    auxiliary={name: metrics[place] for name, metrics in further.items()},
                )
                self.evaluations[cell].append(evaluation)
                yield cell, evaluation
            for cell in list(going):
                if (outcome := self._early_end(cell)) is not None:
                    going.remove(cell)
                    yield cell, outcome
            if not going:
                return
        for cell in going:
            seconds = self.evaluations[cell][-1].seconds
            yield cell, Outcome(status="completed", samples=protocol.budget, seconds=seconds)

    def _early_end(self, cell: Cell) -> Outcome | None:
        """How a cell ended with its last evaluation, or None if it goes on."""
        evaluations = self.evaluations[cell]
        if not evaluations:
            return None
        last = evaluations[-1]
        if _diverged(last):
            reason = f"the loss is not finite after {last.samples} samples"
            return Outcome(status="diverged", reason=reason, samples=last.samples, seconds=last.seconds)
        items = self.items[self.cells.index(cell)].description.items
        if len(evaluations) == 1 and (reason := knows_too_much(self.spec, last, items)):
            return Outcome(status="failed", reason=reason, samples=last.samples, seconds=last.seconds)
        return None

    def _metrics(self, name: str | None) -> list[Metrics]:
        found = [(correct, as_float32(loss)) for correct, loss in self.evaluate(name)]
        return [Metrics(correct=None if loss is None else correct, loss=loss) for correct, loss in found]

    def state_dict(self) -> dict[str, Any]:
        """Everything the rest of the curves depends on, as tensors and plain data; taken between evaluations."""
        return {
            "learned": self.learned_state(),
            "data": [rng.get_state() for rng in self.rngs],
            "noise": random_state(self.device),
            "evaluations": [[each.model_dump() for each in self.evaluations[cell]] for cell in self.cells],
            "recordings": [plain_recordings(self.recordings[cell]) for cell in self.cells],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resumes from where `state_dict` was called."""
        self.load_learned_state(state["learned"])
        for rng, saved in zip(self.rngs, state["data"], strict=True):
            rng.set_state(saved)
        set_random_state(state["noise"], self.device)
        for cell, saved in zip(self.cells, state["evaluations"], strict=True):
            self.evaluations[cell] = [Evaluation.model_validate(each) for each in saved]
        for cell, saved in zip(self.cells, state.get("recordings", [[]] * len(self.cells)), strict=True):
            self.recordings[cell] = restored_recordings(saved)

    def mixed_precision(self) -> torch.autocast:
        """The context of every forward pass."""
        mixed = self.spec.protocol.precision == "bfloat16"
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=mixed)


class SingleTrainer(Trainer):
    """One cell at a time, for any module: the model as it is, with any optimiser."""

    engine = "one cell at a time"

    def prepare(self, models: list[nn.Module]) -> None:
        (self.model,) = models
        (self.cell,) = self.cells
        self.rate = self.spec.learning_rate(self.cell)
        self.optimizer = make_optimizer(self.model, self.spec.protocol)
        self.factors = update_factors(self.model, self.spec.model.recipe.learning_rate_multipliers)
        self.set_progress = progress_setter(self.model)

    def train_interval(self, samples: int) -> list[float]:
        protocol = self.spec.protocol
        total = torch.zeros((), dtype=torch.float32, device=self.device)
        self.model.train()
        for batch in training_batches(self.task, protocol, self.rngs[0]):
            self.set_progress(samples / protocol.budget)
            set_learning_rate(self.optimizer, learning_rate(protocol, self.rate, samples))
            total += self.train_step(batch)
            samples += protocol.batch_size
        self.set_progress(samples / protocol.budget)
        return [total.item() / protocol.steps_per_evaluation]

    def train_step(self, batch: Batch) -> torch.Tensor:
        """One update on a batch; its mean loss, detached."""
        smoothing = self.spec.protocol.label_smoothing
        loss = training_loss(self._logits(batch), batch.targets, smoothing)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        rescaling = self.spec.model.recipe.gradient_rescaling
        if rescaling is not None:
            rescale_gradients(self.model, rescaling)
        if (largest := self.spec.protocol.max_grad_norm) is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), largest)
        with scaled_updates(dict(self.model.named_parameters()) if self.factors else {}, self.factors):
            self.optimizer.step()
        return loss.detach()

    @torch.no_grad()  # not inference_mode: what a model caches here, it uses in training
    def evaluate(self, name: str | None = None) -> list[tuple[int, float]]:
        self.model.eval()
        items = self.items[0] if name is None else self.auxiliary[0][name]
        return [measured(self.task, items, map(self._logits, items.batches))]

    def _logits(self, batch: Batch) -> torch.Tensor:
        with self.mixed_precision():
            return at_least_float32(logits(self.model, batch))

    def model_of(self, place: int) -> nn.Module:
        return self.model

    def learned_state(self) -> dict[str, Any]:
        buffers = {name: buffer for name, buffer in self.model.named_buffers() if buffer is not None}
        return {"model": self.model.state_dict(), "buffers": buffers, "optimizer": self.optimizer.state_dict()}

    def load_learned_state(self, state: dict[str, Any]) -> None:
        set_weights(self.model, state)
        self.optimizer.load_state_dict(state["optimizer"])

    def weights(self, cell: Cell) -> dict[str, Any]:
        state = self.learned_state()
        return tree_map_only(torch.Tensor, on_cpu, {"model": dict(state["model"]), "buffers": state["buffers"]})


def _diverged(last: Evaluation) -> bool:
    """Whether an evaluation, or the training before it, was not finite."""
    return last.loss is None or (last.samples > 0 and last.train_loss is None)
