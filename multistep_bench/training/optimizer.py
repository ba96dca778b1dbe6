"""AdamW as the protocols prescribe it, and the learning rate over a cell's budget."""

import math

import torch
from timm.optim import param_groups_weight_decay  # pyright: ignore[reportPrivateImportUsage]
from torch import nn

from multistep_bench.cards import Protocol


def adamw(model: nn.Module, protocol: Protocol) -> torch.optim.AdamW:
    """AdamW with no decay on biases, norms and what the model's `no_weight_decay()` names (as timm does)."""
    undecayed = getattr(model, "no_weight_decay", tuple)()
    groups = param_groups_weight_decay(model, protocol.weight_decay, no_weight_decay_list=tuple(undecayed))
    return torch.optim.AdamW(groups, betas=protocol.betas, fused=True)


def learning_rate(protocol: Protocol, peak: float, samples: int) -> float:
    """The rate of the batch drawn after `samples` samples, for a cell whose rate is `peak`.

    Linear warm-up from `warmup_rate`, then constant or η_f + ½(η − η_f)(1 + cos(π·samples/budget)): the
    cosine counts from the start of training, as timm's scheduler does. Both advance once a `schedule_period`.
    """
    if protocol.schedule_period:
        samples -= samples % protocol.schedule_period
    warmup = protocol.warmup * protocol.budget
    if samples < warmup:
        start = min(protocol.warmup_rate, peak)
        return start + (peak - start) * samples / warmup
    if protocol.schedule == "constant":
        return peak
    end = min(protocol.final_rate, peak)
    return end + 0.5 * (peak - end) * (1 + math.cos(math.pi * samples / protocol.budget))


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate
