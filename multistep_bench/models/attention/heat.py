"""Heat Treatment: a temperature that rises during the first half of training."""

import math

import torch
from torch import nn

from multistep_bench.models.attention.dot_product import dot_product_attention
from multistep_bench.registry import register_attention

DURATION = 0.5  # fraction of the budget over which the temperature rises


@register_attention("heat")
class Heat(nn.Module):
    """softmax(m·q·kᵀ)·v, m going from `start` to 1/√head_dim by half a cosine (Hoffmann et al. 2024).

    m = m₁ + ½(m₀ − m₁)(1 + cos(π·f/½)) at fraction f ≤ ½ of the budget, m₁ after that.
    """

    rowwise = True

    def __init__(self, start: float = 3.0) -> None:
        super().__init__()
        self.start = start
        self.warmth = 1.0  # 1 where m = m₀, 0 where m = m₁

    def set_progress(self, fraction: float) -> None:
        """Sets m for a fraction of the budget in [0, 1]."""
        self.warmth = 0.5 * (1 + math.cos(math.pi * min(fraction / DURATION, 1.0)))

    def get_extra_state(self) -> torch.Tensor:
        """Part of `state_dict`, so that a trained model is loaded with the m it was trained with."""
        return torch.tensor(self.warmth, dtype=torch.float64)

    def set_extra_state(self, state: torch.Tensor) -> None:
        self.warmth = state.item()

    def forward(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        end = q.shape[-1] ** -0.5
        return dot_product_attention(q, k, v, mask, end + (self.start - end) * self.warmth)
