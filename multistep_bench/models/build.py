"""From what a user calls a model to an `nn.Module` that keeps the contract."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from multistep_bench import registry
from multistep_bench.batch import Batch, Inputs, TaskInfo
from multistep_bench.cards import BaselineCard, is_card_path, list_baselines, list_models, load_baseline
from multistep_bench.errors import ModelError, NotFound
from multistep_bench.models.answers import obvious_logits
from multistep_bench.models.construct import construct
from multistep_bench.models.libraries import library_names, library_of
from multistep_bench.models.local import Model, local_name, name_of
from multistep_bench.models.spectral import make_spectral
from multistep_bench.strict import changed


def resolve_model(name: Model) -> BaselineCard:
    """The card of a model.

    name: a baseline card's name or path, a registered model, "timm/NAME", "hf/NAME" or "package.module:build"; or the
    class or function itself that builds the model, see `models.local`. A model without a card gets one without options.
    Raises `NotFound` with the closest match, `CardError` for a broken card, `BenchError` for a path that cannot be
    imported, `ModelError` for an object that is no model.
    """
    name = name_of(name)
    if is_card_path(name) or name in list_baselines():
        return load_baseline(name)
    name = str(name)
    if ":" not in name and library_of(name) is None and name not in registry.models.names():
        known = [*list_models(), *library_names()]
        hint = "mstep-bench list models; or timm/NAME, hf/NAME, package.module:build, a card"
        raise NotFound("model", name, known, hint)
    summary = inspect.getdoc(_definition(name)) or "A model without a card."
    shown = local_name(name)
    return BaselineCard(name=shown, title=shown, summary=summary, source="given by name", model=name)


def builder(model: str) -> Callable[..., Any]:
    """What builds a model from a TaskInfo and options: behind a registered name, a library's name or an import path."""
    library = library_of(model)
    if library is not None:
        return library.builder(model)
    return registry.models.get(model)


def make_model(name: Model, info: TaskInfo, **config: Any) -> nn.Module:
    """A model for a task, untrained, its weights drawn from torch's global generator.

    name: as in `resolve_model`. config: options of the builder; they override those of the card.
    Raises `NotFound` or `ModelError`.
    """
    card = resolve_model(name)
    return build(changed(card, {"config": {**card.config, **config}}, f"model {card.name}"), info)


def build(card: BaselineCard, info: TaskInfo) -> nn.Module:
    """The model of a card for a task; everything random comes from torch's global generator.

    Linear layers are as the card's recipe has them.
    Weights are float32 whatever torch's default is, which other libraries may have changed.
    """
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        model = construct(builder(card.model), (info,), card.config, what=f"model '{card.name}'")
        return make_spectral(model) if card.recipe.linear_layers == "spectral" else model
    finally:
        torch.set_default_dtype(default)


def logits(model: nn.Module, batch: Batch) -> torch.Tensor:
    """The model's logits for a batch: [B, K], or [B, T, K] for tokens.

    The model gets inputs of its own, which it may change in place: a batch of evaluation items is shown again. It may
    answer with an object whose logits are obvious, see `models.answers`.
    A model with `uses_steps = True` is an upper bound: it also receives the intermediate variables.
    """
    inputs = own_inputs(batch.inputs)
    if getattr(model, "uses_steps", False):
        return obvious_logits(model(inputs, dict(batch.steps)))
    return obvious_logits(model(inputs))


def own_inputs(inputs: Inputs) -> Inputs:
    """A copy of a batch's inputs."""
    if isinstance(inputs, dict):
        return {name: tensor.clone() for name, tensor in inputs.items()}
    return inputs.clone()


def check_contract(model: nn.Module, info: TaskInfo, batch: Batch) -> None:
    """Raises `ModelError` unless the model, in evaluation mode, answers a batch with logits of the right shape."""
    wanted = (*batch.targets.shape, info.num_classes)
    name = type(model).__name__
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            answer = logits(model, batch)
    except Exception as error:  # a user's code may fail in any way
        raise ModelError(
            f"{name} cannot take inputs of shape {_shapes(batch.inputs)} of {info.id}:"
            f" {type(error).__name__}: {error}; choose or write a model that fits observation_space"
        ) from error
    finally:
        model.train(training)
    if not isinstance(answer, torch.Tensor):
        raise ModelError(f"{name} answers with a {type(answer).__name__}; return logits, a tensor of shape {wanted}")
    if tuple(answer.shape) != wanted or not answer.is_floating_point():
        raise ModelError(
            f"{name} answers a batch of {info.id} with {answer.dtype} of shape {tuple(answer.shape)};"
            f" floating-point logits of shape {wanted} are wanted"
        )


def _shapes(inputs: Inputs) -> str:
    if isinstance(inputs, dict):
        return ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in inputs.items())
    return str(tuple(inputs.shape))


def count_parameters(model: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def _definition(model: str) -> Callable[..., Any]:
    """The function or class that defines a model: its builder, or what the library has of its name."""
    factory = builder(model)
    library = library_of(model)
    if library is not None:
        return library.source(model)
    while isinstance(factory, functools.partial):
        factory = factory.func
    return factory
