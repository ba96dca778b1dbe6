"""Attention on normalised queries and keys."""

import math

import torch
from torch import nn
from torch.nn.functional import normalize

from multistep_bench.models.attention.dot_product import dot_product_attention
from multistep_bench.registry import register_attention


@register_attention("qknorm")
class QKNorm(nn.Module):
    """softmax(g·q̂·k̂ᵀ)·v with unit vectors q̂ and k̂, and g learned (Henry et al. 2020, Query-Key Normalization).

    start: g before training, 10 as in Swin V2 (Liu et al. 2022); g is learned as its logarithm, so it stays positive.
    """

    rowwise = True

    def __init__(self, start: float = 10.0) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(math.log(start), dtype=torch.float32))

    def forward(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        q = normalize(q, dim=-1) * self.log_scale.exp()
        k = normalize(k, dim=-1)
        return dot_product_attention(q, k, v, mask, 1.0)
