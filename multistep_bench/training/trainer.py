"""Trains one cell: data, optimiser, schedule and evaluation grid belong to the harness, the model is any module."""

import hashlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from multistep_bench import seeds
from multistep_bench.batch import IGNORED, Batch
from multistep_bench.cards import Protocol
from multistep_bench.generators.base import Generator
from multistep_bench.training.cells import Cell, RunSpec
from multistep_bench.training.optimizer import adamw, learning_rate, set_learning_rate
from multistep_bench.training.record import Evaluation, EvaluationSet, Outcome
from multistep_bench.training.rescale import rescale_gradients

EVALUATION_CHUNK = 512  # items of one forward pass of an evaluation
DRAW_SAMPLES = 2048  # training samples drawn at a time


@dataclass(frozen=True)
class EvaluationBatches:
    """The held-out items of a cell, drawn once; `description` goes into the record."""

    batches: list[Batch]
    description: EvaluationSet


class CellTrainer:
    """One cell from its first weights to its budget.

    build: makes the untrained model; called once, right after torch's global generator is seeded with the
    cell's "init" stream. From then on that generator is the cell's "noise" stream (dropout, drop-path).
    Callers that care about their own global stream wrap the use in `torch.random.fork_rng()`.
    """

    def __init__(
        self, spec: RunSpec, cell: Cell, task: Generator, build: Callable[[], nn.Module], device: torch.device
    ) -> None:
        self.spec = spec
        self.cell = cell
        self.task = task
        self.device = device
        self.rate = spec.learning_rate(cell)
        self.rng = seeds.generator(cell.seed(spec.task.id, "train"), device)
        self.evaluation = draw_evaluation(spec, cell, task, device)
        torch.manual_seed(cell.seed(spec.task.id, "init"))
        self.model = build().to(device)
        self.optimizer = adamw(self.model, spec.protocol)
        self.set_progress: Callable[[float], None] = getattr(self.model, "set_progress", lambda fraction: None)
        torch.manual_seed(cell.seed(spec.task.id, "noise"))
        self.evaluations: list[Evaluation] = []

    def state(self) -> dict[str, Any]:
        """Everything the rest of the curve depends on, as tensors and plain data; taken between two evaluations."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "data": self.rng.get_state(),
            "noise": torch.get_rng_state(),
            "noise_cuda": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
            "evaluations": [evaluation.model_dump() for evaluation in self.evaluations],
        }

    def load(self, state: dict[str, Any]) -> None:
        """Goes on from where `state` was taken."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.rng.set_state(state["data"])
        torch.set_rng_state(state["noise"])
        if self.device.type == "cuda" and state["noise_cuda"] is not None:
            torch.cuda.set_rng_state(state["noise_cuda"], self.device)
        self.evaluations = [Evaluation.model_validate(evaluation) for evaluation in state["evaluations"]]

    def curve(self) -> Iterator[Evaluation | Outcome]:
        """Trains on from the evaluations made so far, yielding each further one and the outcome last."""
        protocol = self.spec.protocol
        before = self.evaluations[-1].seconds if self.evaluations else 0.0
        begin = time.perf_counter() - before
        for index in range(len(self.evaluations), protocol.evaluations + 1):
            samples = index * protocol.interval
            train_loss = self._train(samples - protocol.interval) if index else None
            correct, loss = self._evaluate()
            seconds = round(time.perf_counter() - begin, 3)
            broken = [value for value in (loss, train_loss) if value is not None and not math.isfinite(value)]
            self.evaluations.append(
                Evaluation(
                    samples=samples,
                    correct=correct if math.isfinite(loss) else None,
                    loss=_finite(loss),
                    train_loss=_finite(train_loss),
                    seconds=seconds,
                )
            )
            yield self.evaluations[-1]
            if broken:
                reason = f"the loss is {broken[0]} after {samples} samples"
                yield Outcome(status="diverged", reason=reason, samples=samples, seconds=seconds)
                return
        yield Outcome(status="completed", samples=protocol.budget, seconds=self.evaluations[-1].seconds)

    def _train(self, samples: int) -> float:
        """Trains for one interval from `samples` on; the mean training loss over it."""
        protocol = self.spec.protocol
        total = torch.zeros((), device=self.device)
        self.model.train()
        for batch in training_batches(self.task, protocol, self.rng):
            self.set_progress(samples / protocol.budget)
            set_learning_rate(self.optimizer, learning_rate(protocol, self.rate, samples))
            total += self._step(batch)
            samples += protocol.batch_size
        self.set_progress(samples / protocol.budget)
        return total.item() / protocol.steps_per_evaluation

    def _step(self, batch: Batch) -> torch.Tensor:
        loss = flat_cross_entropy(
            self._logits(batch), batch.targets, label_smoothing=self.spec.protocol.label_smoothing
        )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        rescaling = self.spec.model.recipe.gradient_rescaling
        if rescaling is not None:
            rescale_gradients(self.model, rescaling)
        self.optimizer.step()
        return loss.detach()

    @torch.inference_mode()
    def _evaluate(self) -> tuple[int, float]:
        """Correct answers among the evaluation set's items, and the mean cross-entropy over them."""
        self.model.eval()
        correct = torch.zeros((), dtype=torch.int64, device=self.device)
        loss = torch.zeros((), dtype=torch.float64, device=self.device)
        for batch in self.evaluation.batches:
            logits = self._logits(batch)
            correct += (logits.argmax(-1) == batch.targets).sum()  # an ignored target, -100, equals no class
            loss += flat_cross_entropy(logits, batch.targets, reduction="sum")
        return int(correct), loss.item() / self.evaluation.description.items

    def _logits(self, batch: Batch) -> torch.Tensor:
        mixed = self.spec.protocol.precision == "bfloat16"
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=mixed):
            return self.model(batch.inputs).float()


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def flat_cross_entropy(logits: torch.Tensor, targets: torch.Tensor, **options: object) -> torch.Tensor:
    """Cross-entropy of logits [..., K] against targets [...], ignoring what is not scored."""
    return cross_entropy(logits.flatten(0, -2), targets.flatten(), ignore_index=IGNORED, **options)  # type: ignore[arg-type]


def training_batches(task: Generator, protocol: Protocol, rng: torch.Generator) -> Iterator[Batch]:
    """The batches of one interval between evaluations, several drawn at a time: a small draw costs as much."""
    size, remaining = protocol.batch_size, protocol.steps_per_evaluation
    while remaining:
        count = min(max(1, DRAW_SAMPLES // size), remaining)
        drawn = task.sample(count * size, split="train", rng=rng)
        for first in range(0, count * size, size):
            yield drawn.each(lambda tensor, first=first: tensor[first : first + size])
        remaining -= count


def draw_evaluation(spec: RunSpec, cell: Cell, task: Generator, device: torch.device) -> EvaluationBatches:
    """The cell's held-out items, in chunks, from its "eval" stream."""
    rng = seeds.generator(cell.seed(spec.task.id, "eval"), device)
    remaining = spec.protocol.evaluation_items
    batches = []
    while remaining:
        chunk = min(remaining, EVALUATION_CHUNK)
        batches.append(task.sample(chunk, split="eval", rng=rng))
        remaining -= chunk
    digest = hashlib.sha256()
    for batch in batches:
        for tensor in batch.tensors().values():
            digest.update(tensor.cpu().contiguous().numpy().tobytes())
    items = int(sum((batch.targets != IGNORED).sum() for batch in batches))
    return EvaluationBatches(batches, EvaluationSet(items=items, sha256=digest.hexdigest()))
