"""The optimisers that protocols name: one table, name → how it is made for one cell and for stacked cells.

adamw, sgd:  torch's, for one cell; stacked, the same update for each cell.
timm/NAME:   what timm's factory makes, one cell at a time.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from multistep_bench.errors import CardError
from multistep_bench.protocol import TIMM_OPTIMIZER, Protocol
from multistep_bench.training.decay import decayed_names
from multistep_bench.training.optimizer_options import check_options
from multistep_bench.training.stacked_optimizers import StackedAdamW, StackedOptimizer, StackedSGD

Groups = list[dict[str, Any]]


@dataclass(frozen=True)
class OptimizerKind:
    """single: from parameter groups, the protocol and its options. stacked: None where it cannot be.

    options: those that both take, with their defaults. betas: whether the protocol's `betas` are its own.
    """

    single: Callable[..., torch.optim.Optimizer]
    stacked: type[StackedOptimizer] | None
    options: Mapping[str, Any]
    betas: bool


def _adamw(groups: Groups, protocol: Protocol, options: Mapping[str, Any]) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, betas=protocol.betas, fused=True, **options)


def _sgd(groups: Groups, protocol: Protocol, options: Mapping[str, Any]) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, lr=protocol.learning_rates[-1], **options)


OPTIMIZER_KINDS = {
    "adamw": OptimizerKind(_adamw, StackedAdamW, StackedAdamW.OPTIONS, betas=True),
    "sgd": OptimizerKind(_sgd, StackedSGD, StackedSGD.OPTIONS, betas=False),
}


def optimizer_names() -> list[str]:
    """Every name that a protocol's `optimizer` takes."""
    from multistep_bench.training import timm_optimizers  # timm takes seconds to import

    return [*OPTIMIZER_KINDS, *timm_optimizers.names()]


def make_optimizer(model: nn.Module, protocol: Protocol) -> torch.optim.Optimizer:
    """The protocol's optimiser of one model, with weight decay on what `decayed_names` says.

    Raises `NotFound` or `CardError` for an optimiser or an option that there is not.
    """
    if protocol.optimizer.startswith(TIMM_OPTIMIZER):
        from multistep_bench.training import timm_optimizers

        return timm_optimizers.make(model, protocol)
    kind = _checked(protocol)
    return kind.single(parameter_groups(model, protocol), protocol, protocol.optimizer_options)


def make_stacked_optimizer(
    model: nn.Module, parameters: dict[str, torch.Tensor], protocol: Protocol
) -> StackedOptimizer:
    """The protocol's optimiser of parameters stacked over cells; `model` is one of these cells."""
    kind = _checked(protocol)
    if kind.stacked is None:
        raise CardError(f"optimizer '{protocol.optimizer}' cannot be stacked; train with --stack 1")
    return kind.stacked(parameters, decayed_names(model), protocol)


def why_not_stacked(protocol: Protocol) -> str | None:
    """Why the cells of a protocol's optimiser train one at a time, or None if they can be stacked."""
    kind = OPTIMIZER_KINDS.get(protocol.optimizer)
    if kind is None or kind.stacked is None:
        return f"optimizer '{protocol.optimizer}' cannot be stacked"
    return None


def parameter_groups(model: nn.Module, protocol: Protocol) -> Groups:
    """The trainable parameters in two groups: without weight decay, and with the protocol's."""
    decayed = decayed_names(model)
    trainable = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    return [
        {"params": [parameter for name, parameter in trainable if name not in decayed], "weight_decay": 0.0},
        {
            "params": [parameter for name, parameter in trainable if name in decayed],
            "weight_decay": protocol.weight_decay,
        },
    ]


def _checked(protocol: Protocol) -> OptimizerKind:
    kind = OPTIMIZER_KINDS[protocol.optimizer]
    check_options(protocol, kind.options, betas=kind.betas)
    return kind


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate
