"""AdamW as the protocols prescribe it, and the learning rate over a cell's budget."""
# pyright: reportPrivateImportUsage=false
# torch's _foreach functions and timm's optim functions are public in all but name.

import math
from typing import Any

import torch
from timm.optim import param_groups_weight_decay
from torch import nn

from multistep_bench.cards import Protocol


def adamw(model: nn.Module, protocol: Protocol) -> torch.optim.AdamW:
    """AdamW with no decay on biases, norms and what the model's `no_weight_decay()` names (as timm does)."""
    undecayed = getattr(model, "no_weight_decay", tuple)()
    groups = param_groups_weight_decay(model, protocol.weight_decay, no_weight_decay_list=tuple(undecayed))
    return torch.optim.AdamW(groups, betas=protocol.betas, fused=True)


class StackedAdamW:
    """AdamW over parameters stacked on a leading cell axis, with a learning rate per cell.

    For each cell the same update as `torch.optim.AdamW` (Loshchilov and Hutter 2019, algorithm 2).
    parameters: name → [G, ...], the stacks of G cells; `decayed` names those that decay.
    """

    EPSILON = 1e-8  # torch's default

    def __init__(self, parameters: dict[str, torch.Tensor], decayed: set[str], protocol: Protocol) -> None:
        self.parameters = list(parameters.values())
        self.decayed = [tensor for name, tensor in parameters.items() if name in decayed]
        self.betas = protocol.betas
        self.weight_decay = protocol.weight_decay
        self.steps = 0
        self.means = [torch.zeros_like(tensor) for tensor in self.parameters]
        self.squares = [torch.zeros_like(tensor) for tensor in self.parameters]

    @torch.no_grad()
    def step(self, rates: torch.Tensor) -> None:
        """One update from the parameters' gradients, which are then cleared; rates [G]."""
        gradients = [tensor.grad if tensor.grad is not None else torch.zeros_like(tensor) for tensor in self.parameters]
        first, second = self.betas
        self.steps += 1
        if self.decayed:  # torch's functions take no empty list
            kept = [_along(1 - rates * self.weight_decay, tensor) for tensor in self.decayed]
            torch._foreach_mul_(self.decayed, kept)
        torch._foreach_lerp_(self.means, gradients, 1 - first)
        torch._foreach_mul_(self.squares, second)
        torch._foreach_addcmul_(self.squares, gradients, gradients, 1 - second)
        deviations = torch._foreach_sqrt(self.squares)
        torch._foreach_div_(deviations, math.sqrt(1 - second**self.steps))
        torch._foreach_add_(deviations, self.EPSILON)
        updates = torch._foreach_div(self.means, deviations)
        scales = rates / (1 - first**self.steps)
        torch._foreach_mul_(updates, [_along(scales, tensor) for tensor in updates])
        torch._foreach_sub_(self.parameters, updates)
        for tensor in self.parameters:
            tensor.grad = None

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps, "means": self.means, "squares": self.squares}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.steps = state["steps"]
        for mine, saved in ((self.means, state["means"]), (self.squares, state["squares"])):
            for tensor, value in zip(mine, saved, strict=True):
                tensor.copy_(value)


def _along(rates: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    """rates [G] shaped to multiply `tensor` [G, ...] cell by cell, in its type."""
    return rates.to(tensor.dtype).view(-1, *[1] * (tensor.ndim - 1))


def decayed_names(model: nn.Module, protocol: Protocol) -> set[str]:
    """Names of the parameters that `adamw` lets decay."""
    decayed = {id(p) for group in adamw(model, protocol).param_groups if group["weight_decay"] for p in group["params"]}
    return {name for name, parameter in model.named_parameters() if id(parameter) in decayed}


def learning_rate(protocol: Protocol, peak: float, samples: int) -> float:
    """The rate of the batch drawn after `samples` samples, for a cell whose rate is `peak`.

    Linear warm-up from `warmup_rate`, then constant; or η_f + ½(η − η_f)(1 + cos(π·samples/budget)), where the
    cosine counts from the start of training, as timm's scheduler does; or a line from the end of the warm-up to η_f
    at the budget (Liu et al. 2019, RoBERTa); or η·√(warm-up/samples) (Vaswani et al. 2017, section 5.3). All advance
    once a `schedule_period`.
    """
    if protocol.schedule_period:
        samples -= samples % protocol.schedule_period
    warmup = protocol.warmup * protocol.budget
    if samples < warmup:
        start = min(protocol.warmup_rate, peak)
        return start + (peak - start) * samples / warmup
    if protocol.schedule == "constant":
        return peak
    if protocol.schedule == "inverse_sqrt":
        return peak * math.sqrt(warmup / samples)
    end = min(protocol.final_rate, peak)
    if protocol.schedule == "linear":
        return peak + (end - peak) * (samples - warmup) / (protocol.budget - warmup)
    return end + 0.5 * (peak - end) * (1 + math.cos(math.pi * samples / protocol.budget))


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate
