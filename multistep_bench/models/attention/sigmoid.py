"""Sigmoid attention: every weight is computed independently."""

import math

import torch
from torch import nn

from multistep_bench.registry import register_attention


@register_attention("sigmoid")
class Sigmoid(nn.Module):
    """σ(q·kᵀ/√head_dim − log n)·v, n the number of keys a query sees (Ramapuram et al. 2024).

    The weights of a query need not add up to 1; the bias −log n brings them near 1 at the start of training.
    """

    rowwise = True

    def forward(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        logits = q @ k.mT / math.sqrt(q.shape[-1])  # B, heads, queries, keys
        if mask is None:
            return torch.sigmoid(logits - math.log(k.shape[-2])) @ v
        visible = mask.sum(-1, keepdim=True).to(logits.dtype)
        return (torch.sigmoid(logits - visible.log()) * mask) @ v
