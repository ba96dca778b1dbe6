"""Optimisers of timm's factory: Muon, Lion, LAMB, Adafactor and whatever else the installed timm makes."""
# pyright: reportPrivateImportUsage=false

import inspect
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from timm.optim import create_optimizer_v2, get_optimizer_class, get_optimizer_info, list_optimizers
from torch import nn

from multistep_bench.errors import CardError, NotFound
from multistep_bench.protocol import OPTIMIZERS, TIMM_OPTIMIZER, Protocol
from multistep_bench.training.decay import decayed_names, embedding_names
from multistep_bench.training.optimizer_options import check_options

CLOSED = ("apex.", "bitsandbytes.")  # libraries of their own, for CUDA alone
# Options that choose an implementation and change nothing that a curve should depend on, or that take no plain value.
HIDDEN = {"params", "lr", "weight_decay", "betas", "foreach", "capturable", "maximize", "differentiable", "fused"}
UNFIT = ("adahessian", "kron", "kronc", "kronw")  # they draw from generators of their own, which no checkpoint keeps


@cache
def names() -> tuple[str, ...]:
    """The names that a protocol takes, as "timm/NAME"."""
    return tuple(
        TIMM_OPTIMIZER + name
        for name in map(str, list_optimizers())
        if name not in UNFIT and not str(get_optimizer_info(name).opt_class).startswith(CLOSED)
    )


def make(model: nn.Module, protocol: Protocol) -> torch.optim.Optimizer:
    """timm's optimiser of a model's trainable parameters, with weight decay on what `decayed_names` says.

    Positions, class tokens and embeddings are no matrices that map one space to another: optimisers with a fallback
    for what is none (Muon) use it for them, as for vectors (Jordan et al. 2024).
    Raises `NotFound` for a name timm does not have, `CardError` for an option that the optimiser does not take.
    """
    name = protocol.optimizer.removeprefix(TIMM_OPTIMIZER)
    if name in UNFIT:
        raise CardError(
            f"optimizer '{protocol.optimizer}' cannot be resumed: it draws from a generator of its own; choose another"
        )
    if protocol.optimizer not in names():
        raise NotFound("optimizer", protocol.optimizer, [*OPTIMIZERS, *names()], "mstep-bench list optimizers")
    known = options(name)
    betas = get_optimizer_info(name).has_betas
    check_options(protocol, known, betas=betas)
    changed = protocol.betas != Protocol.model_fields["betas"].default
    arguments: dict[str, Any] = {"betas": protocol.betas} if changed else {}
    arguments.update(protocol.optimizer_options)
    try:
        return create_optimizer_v2(
            _groups(model, protocol), opt=name, lr=protocol.learning_rates[-1], weight_decay=0.0, **arguments
        )
    except Exception as error:  # each checks its values in its own way
        raise CardError(
            f"optimizer '{protocol.optimizer}' cannot be made: {type(error).__name__}: {error};"
            " correct protocol.optimizer_options"
        ) from error


def options(name: str) -> Mapping[str, Any]:
    """The options of an optimiser and their defaults, from the signature of its class."""
    signature = inspect.signature(get_optimizer_class(name, bind_defaults=False))
    bound = dict(get_optimizer_info(name).defaults or {})
    return {
        key: bound.get(key, parameter.default)
        for key, parameter in signature.parameters.items()
        if key not in HIDDEN and parameter.kind is not inspect.Parameter.VAR_KEYWORD
    }


def _groups(model: nn.Module, protocol: Protocol) -> list[dict[str, Any]]:
    """The trainable parameters: without decay, without decay and no matrices, with decay, with it and no matrices."""
    decayed, embeddings = decayed_names(model), embedding_names(model)
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            no_matrix = parameter.ndim >= 2 and (name in embeddings or name not in decayed)
            groups.setdefault((name in decayed, no_matrix), []).append(parameter)
    return [
        {
            "params": groups[decays, no_matrix],
            "weight_decay": protocol.weight_decay if decays else 0.0,
            **({"use_fallback": True} if no_matrix else {}),
        }
        for decays, no_matrix in sorted(groups)
    ]
