"""Softmax attention with a temperature."""

import math

import torch
from torch import nn

from multistep_bench.errors import ModelError
from multistep_bench.models.attention.dot_product import dot_product_attention
from multistep_bench.registry import register_attention


@register_attention("softmax")
class Softmax(nn.Module):
    """softmax(q·kᵀ / τ)·v.

    temperature: τ, by default √head_dim (Vaswani et al. 2017, equation 1). Hoffmann et al. (2024) lower it to ⅓,
    which is softmax(3·q·kᵀ).
    """

    rowwise = True

    def __init__(self, temperature: float | None = None) -> None:
        super().__init__()
        if temperature is not None and not temperature > 0:
            raise ModelError(f"temperature {temperature} of attention rule 'softmax' is not above 0")
        self.temperature = temperature

    def forward(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        return dot_product_attention(q, k, v, mask, 1 / (self.temperature or math.sqrt(q.shape[-1])))
