"""Trains a group of cells at once: their parameters stacked on a leading axis, one program for all of them."""

import copy
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from multistep_bench.batch import IGNORED, Batch, Inputs
from multistep_bench.models.answers import obvious_logits
from multistep_bench.models.build import own_inputs
from multistep_bench.runs.spec import Cell
from multistep_bench.training.clipping import clip_stacked
from multistep_bench.training.data import EvaluationBatches, training_batches
from multistep_bench.training.losses import at_least_float32, training_loss
from multistep_bench.training.multipliers import scaled_updates, update_factors
from multistep_bench.training.optimizers import make_stacked_optimizer
from multistep_bench.training.progress import progress_setter
from multistep_bench.training.schedules import learning_rate
from multistep_bench.training.trainer import Trainer
from multistep_bench.training.weights import on_cpu

MEMORY_SHARE = 0.7  # of a GPU's free memory that a group may take


class StackedTrainer(Trainer):
    """G cells of one model, each with its own weights, data, learning rate and items.

    Data and weights come from the same streams as when a cell is trained alone, so the curves agree up to
    rounding; dropout and drop-path draw from one stream for the whole group.
    """

    engine = "cells stacked"

    def prepare(self, models: list[nn.Module]) -> None:
        self.skeleton = models[0]
        self.parameters, self.buffers = stack_module_state(models)  # name → [G, ...]
        self.optimizer = make_stacked_optimizer(self.skeleton, self.parameters, self.spec.protocol)
        self.factors = update_factors(self.skeleton, self.spec.model.recipe.learning_rate_multipliers)
        self.set_progress = progress_setter(self.skeleton)
        self.evaluation_batches: dict[str | None, list[Batch]] = {None: _stacked_pieces(self.items)}
        for name in self.auxiliary[0]:
            self.evaluation_batches[name] = _stacked_pieces([each[name] for each in self.auxiliary])

    def train_interval(self, samples: int) -> list[float]:
        protocol = self.spec.protocol
        total = torch.zeros(len(self.cells), dtype=torch.float32, device=self.device)
        rates = self._rates(samples)
        self.skeleton.train()
        streams = [training_batches(self.task, protocol, rng) for rng in self.rngs]
        for step, batches in enumerate(zip(*streams, strict=True)):
            self.set_progress(samples / protocol.budget)
            batch = stack(list(batches))
            logits = self._logits(batch.inputs)
            losses = _losses(logits, batch.targets, protocol.label_smoothing)
            losses.sum().backward()  # each cell's parameters see the gradient of its own loss alone
            self._update(rates[step])
            total += losses.detach()
            samples += protocol.batch_size
        self.set_progress(samples / protocol.budget)
        return (total / protocol.steps_per_evaluation).tolist()

    def _update(self, rates: torch.Tensor) -> None:
        """One step of every cell from its gradients; rates [G]."""
        if (largest := self.spec.protocol.max_grad_norm) is not None:
            clip_stacked(self.parameters.values(), largest)
        with scaled_updates(self.parameters, self.factors):
            self.optimizer.step(rates)

    @torch.no_grad()
    def evaluate(self, name: str | None = None) -> list[tuple[int, float]]:
        self.skeleton.eval()
        correct = torch.zeros(len(self.cells), dtype=torch.int64, device=self.device)
        loss = torch.zeros(len(self.cells), dtype=torch.float64, device=self.device)
        items = torch.zeros_like(correct)
        for batch in self.evaluation_batches[name]:
            logits = self._logits(batch.inputs)
            correct += self.task.correct(logits, batch).flatten(1).sum(1)
            items += (scored := (batch.targets != IGNORED).flatten(1).sum(1))
            loss += _losses(logits, batch.targets) * scored
        return list(zip(correct.tolist(), (loss / items).tolist(), strict=True))

    def _logits(self, inputs: Inputs) -> torch.Tensor:
        """[G, B, ..., K]"""
        with self.mixed_precision(), attention_that_stacks(self.device):
            logits = vmap(self._forward, randomness="different")(self.parameters, self.buffers, own_inputs(inputs))
            return at_least_float32(logits)

    def _forward(
        self, parameters: dict[str, torch.Tensor], buffers: dict[str, torch.Tensor], inputs: Inputs
    ) -> torch.Tensor:
        return obvious_logits(functional_call(self.skeleton, (parameters, buffers), (inputs,)))

    def _rates(self, samples: int) -> torch.Tensor:
        """The learning rates of one interval's steps, [steps, G], in one transfer to the device."""
        protocol = self.spec.protocol
        peaks = [self.spec.learning_rate(cell) for cell in self.cells]
        positions = [samples + step * protocol.batch_size for step in range(protocol.steps_per_evaluation)]
        rates = [[learning_rate(protocol, peak, position) for peak in peaks] for position in positions]
        return torch.tensor(rates, dtype=torch.float64).to(self.device)

    def model_of(self, place: int) -> nn.Module:
        model = copy.deepcopy(self.skeleton)
        tensors = {**self.parameters, **self.buffers}
        with torch.no_grad():
            for name, mine in (*model.named_parameters(), *model.named_buffers()):
                mine.copy_(tensors[name][place])
        return model

    def learned_state(self) -> dict[str, Any]:
        return {"parameters": self.parameters, "buffers": self.buffers, "optimizer": self.optimizer.state_dict()}

    @torch.no_grad()
    def load_learned_state(self, state: dict[str, Any]) -> None:
        for mine, saved in ((self.parameters, state["parameters"]), (self.buffers, state["buffers"])):
            for name, tensor in mine.items():
                tensor.copy_(saved[name])
        self.optimizer.load_state_dict(state["optimizer"])

    def weights(self, cell: Cell) -> dict[str, Any]:
        place = self.cells.index(cell)
        stacks = {**self.parameters, **self.buffers}
        first = {id(tensor): name for name, tensor in self._named(remove_duplicate=True)}
        names = {name: first[id(tensor)] for name, tensor in self._named(remove_duplicate=False)}  # tied: several
        return {
            "model": {name: on_cpu(stacks[names[name]][place]) for name in self.skeleton.state_dict()},
            "buffers": {name: on_cpu(tensor[place]) for name, tensor in self.buffers.items()},
        }

    def _named(self, remove_duplicate: bool) -> list[tuple[str, torch.Tensor]]:
        skeleton = self.skeleton
        buffers = skeleton.named_buffers(remove_duplicate=remove_duplicate)
        return [*skeleton.named_parameters(remove_duplicate=remove_duplicate), *buffers]


def attention_that_stacks(device: torch.device) -> AbstractContextManager[object]:
    """torch's attention as products and a softmax: on CUDA the fused kernels' backward pass fails under vmap.

    It raises "LSE is not correctly aligned" (torch 2.11 on an H200) whatever the number of tokens, heads and cells.
    """
    return sdpa_kernel(SDPBackend.MATH) if device.type == "cuda" else nullcontext()


def _stacked_pieces(items: list[EvaluationBatches]) -> list[Batch]:
    return [stack(list(pieces)) for pieces in zip(*(each.batches for each in items), strict=True)]


def stack(batches: list[Batch]) -> Batch:
    """Batches of one shape as one batch with a leading cell axis; the steps, which no model sees, are left out."""
    first = batches[0].inputs
    if isinstance(first, dict):
        inputs: Inputs = {name: torch.stack([batch.inputs[name] for batch in batches]) for name in first}  # type: ignore[index]
    else:
        inputs = torch.stack([batch.inputs for batch in batches])  # type: ignore[arg-type]
    return Batch(inputs, torch.stack([batch.targets for batch in batches]), {})


def _losses(logits: torch.Tensor, targets: torch.Tensor, label_smoothing: float = 0.0) -> torch.Tensor:
    """Mean cross-entropy of each cell, [G], of logits [G, B, ..., K] and targets [G, B, ...]."""
    return vmap(partial(training_loss, label_smoothing=label_smoothing))(logits, targets)


def cells_that_fit(trainer: StackedTrainer) -> int:
    """How many cells a GPU has room for, by the peak memory of one interval of `trainer`'s group, which it trains."""
    torch.cuda.reset_peak_memory_stats(trainer.device)
    before = torch.cuda.memory_allocated(trainer.device)
    trainer.train_interval(0)
    trainer.evaluate()
    used = torch.cuda.max_memory_allocated(trainer.device) - before
    free, _ = torch.cuda.mem_get_info(trainer.device)
    return max(1, int(MEMORY_SHARE * free * len(trainer.cells) / max(used, 1)))
