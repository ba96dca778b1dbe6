"""Records the figures of a module on a fixed batch of held-out items, leaving the module and all randomness alone."""

import copy
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from multistep_bench import seeds
from multistep_bench.batch import Batch
from multistep_bench.diagnostics.attention import attention_figures
from multistep_bench.diagnostics.capture import Captured, captured, labels
from multistep_bench.diagnostics.gradients import differentiated, projection_norms, region_norms
from multistep_bench.diagnostics.layers import ATTRIBUTE, Projections, find_projections, find_rules
from multistep_bench.diagnostics.logits import logits_std, residual_norm
from multistep_bench.diagnostics.options import DiagnosticOptions
from multistep_bench.diagnostics.regions import batch_regions, reading_tokens, region_names
from multistep_bench.diagnostics.split import ELSEWHERE, split_by_parameter, split_norms
from multistep_bench.errors import ModelError
from multistep_bench.generators.base import TaskGenerator
from multistep_bench.models.build import logits
from multistep_bench.training.losses import at_least_float32, flat_cross_entropy
from multistep_bench.training.randomness import own_randomness

ITEMS = 64  # of the diagnostic batch

Figures = dict[str, np.ndarray]


class Recorder:
    """Figures of any module of one task. The batch is the same for every cell and every model of the task.

    It holds `ITEMS` held-out items from a stream of its own. The loss is the plain cross-entropy, in evaluation mode,
    without label smoothing and mixed precision.
    """

    def __init__(self, options: DiagnosticOptions, task: TaskGenerator, device: torch.device) -> None:
        self.options = options
        self.task = task
        self.device = device
        rng = seeds.generator(seeds.derive("diagnostics", task.info.id), device)
        self.batch = task.sample(ITEMS, split="eval", rng=rng)
        self.regions = region_names(task.info)
        self.masks: dict[int, torch.Tensor | None] = {}  # number of tokens → their regions

    def record(self, model: nn.Module) -> Figures:
        """Named figures as float64 arrays, and as text arrays what their axes stand for; README, "Look inside".

        Works on a copy: parameters, `.grad`, buffers, mode and hooks of `model`, and every random state, stay as they
        are. Raises `ModelError` where the module cannot be copied or a kind of figures cannot be taken of it.
        """
        with own_randomness(self.device), torch.set_grad_enabled("gradients" in self.options.kinds):
            model = _copied(model).eval()
            layers = find_projections(model)
            self._check(model, layers)
            with captured(model, layers if "gradients" in self.options.kinds else ()) as seen:
                answer = logits(model, self.batch)
            if "attention" in self.options.kinds and not seen.rules:
                raise ModelError(
                    f"--diagnostics attention: {type(model).__name__} calls no attention rule in evaluation mode;"
                    " leave attention out"
                )
            figures: dict[str, torch.Tensor] = {}
            if "gradients" in self.options.kinds:
                figures |= self._gradients(answer, model, layers, seen)
            if "attention" in self.options.kinds:
                figures |= self._attention(seen)
            if "logits" in self.options.kinds:
                figures |= _logits(seen)
        named = {name: np.asarray(values.detach().double().cpu().numpy()) for name, values in figures.items()}
        return named | self._names(seen, layers)

    def _check(self, model: nn.Module, layers: list[Projections]) -> None:
        name, kinds = type(model).__name__, self.options.kinds
        if not find_rules(model):
            for kind in ("attention", "logits"):
                if kind in kinds:
                    raise ModelError(
                        f"--diagnostics {kind}: {name} holds none of the suite's attention rules, through which"
                        f" {kind} would be seen; leave {kind} out, or call a rule of make_attention in the model"
                    )
        if "gradients" in kinds and not layers:
            raise ModelError(
                f"--diagnostics gradients: no projections W_Q, W_K and W_V were found in {name}; leave gradients out,"
                f" or name them in an attribute {ATTRIBUTE} = {{'q': path, 'k': path, 'v': path}} of a module"
            )

    def _gradients(
        self, answer: torch.Tensor, model: nn.Module, layers: list[Projections], seen: Captured
    ) -> dict[str, torch.Tensor]:
        """Norms by projection, and where the task has regions by the tokens of each, before and in projections."""
        blocks = [call for _, call in seen.blocks]
        loss = _loss(answer, self.batch)
        tensors = [*(call.entering for call in blocks), *(call.leaving for call in seen.projections)]
        by_parameter, by_tensor = differentiated(loss, model, layers, tensors)
        figures = projection_norms(by_parameter, layers)
        count = len(self.regions)
        if count:
            by_block, by_call = by_tensor[: len(blocks)], by_tensor[len(blocks) :]
            if blocks:
                figures["regions"] = torch.stack([self._norms(gradient) for gradient in by_block])
            tokens = {call.entering.shape[1] for call in seen.projections if call.entering.ndim == 3}
            masks = {number: mask for number in tokens if (mask := self._masks(number)) is not None}
            figures |= split_norms(split_by_parameter(seen.projections, by_call, masks), layers, count)
        return {f"gradients.{name}": values for name, values in figures.items()}

    def _norms(self, gradient: torch.Tensor | None) -> torch.Tensor:
        """[R], NaN where the tokens of a block do not match the layout, or depend on no parameter."""
        masks = None if gradient is None else self._masks(gradient.shape[1])
        if gradient is None or masks is None:
            return torch.full((len(self.regions),), torch.nan, dtype=torch.float64)
        return region_norms(gradient, masks).double()

    def _masks(self, tokens: int) -> torch.Tensor | None:
        if tokens not in self.masks:
            self.masks[tokens] = batch_regions(self.task.info, self.batch, tokens)
        return self.masks[tokens]

    def _attention(self, seen: Captured) -> dict[str, torch.Tensor]:
        info = self.task.info
        layers = [
            attention_figures(call, reading_tokens(info, self.batch, call.q.shape[2]), self._masks(call.k.shape[2]))
            for _, call in seen.rules
        ]
        names = dict.fromkeys(name for layer in layers for name in layer)
        return {f"attention.{name}": _by_layer([layer.get(name) for layer in layers]) for name in names}

    def _names(self, seen: Captured, layers: list[Projections]) -> Figures:
        kinds = self.options.kinds
        names: dict[str, Sequence[str]] = {}
        if self.regions:
            names["regions"] = self.regions
        if "gradients" in kinds:
            names["gradients.layers"] = [layer.layer for layer in layers]
            if self.regions:
                names["gradients.tokens"] = [*self.regions, ELSEWHERE]
        if seen.blocks:
            names["blocks"] = labels([name for name, _ in seen.blocks])
        if "attention" in kinds or "logits" in kinds:
            names["attention.layers"] = labels([name for name, _ in seen.rules])
        return {name: np.array(values, dtype=np.str_) for name, values in names.items()}


def _copied(model: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(model)
    except Exception as error:  # a user's module may hold anything
        raise ModelError(
            f"--diagnostics: {type(model).__name__} cannot be copied, and figures are taken of a copy:"
            f" {type(error).__name__}: {error}; keep no tensors with a graph, files or locks in the module"
        ) from error


def _loss(answer: torch.Tensor, batch: Batch) -> torch.Tensor:
    return flat_cross_entropy(at_least_float32(answer), batch.targets)


def _logits(seen: Captured) -> dict[str, torch.Tensor]:
    figures = {"logits.std": _by_layer([logits_std(call) for _, call in seen.rules])}
    if seen.blocks:
        figures["logits.residual"] = torch.stack([residual_norm(call) for _, call in seen.blocks])
    return figures


def _by_layer(layers: list[torch.Tensor | None]) -> torch.Tensor:
    """[layers, heads, ...] of the figures of each layer, NaN where a layer has fewer heads or no such figure."""
    known = [layer for layer in layers if layer is not None]
    shape = (len(layers), max(len(layer) for layer in known), *known[0].shape[1:])
    whole = torch.full(shape, torch.nan, dtype=torch.float64)
    for row, layer in zip(whole, layers, strict=True):
        if layer is not None:
            row[: len(layer)] = layer
    return whole
