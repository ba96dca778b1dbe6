"""Differential attention: one softmax less a share of another."""

import torch
from torch import nn

from multistep_bench.errors import ModelError
from multistep_bench.models.attention.dot_product import dot_product_attention
from multistep_bench.registry import register_attention

EPSILON = 1e-5  # of the normalisation, as in the source


@register_attention("differential")
class Differential(nn.Module):
    """(1 − λ₀)·rmsnorm((softmax(q₁·k₁ᵀ/√h) − λ·softmax(q₂·k₂ᵀ/√h))·v), h = head_dim/2 (Ye et al. 2024, §2.1).

    q₁ and k₁ are the even channels, q₂ and k₂ the odd ones: every rotary pair stays whole where h is even.
    λ = exp(a) − exp(b) + λ₀ with a and b learned, 0 before training; in the source (arXiv 2410.05258) each is an inner
    product of two learned vectors. start: λ₀, in the source 0.8 − 0.6·exp(−0.3·(layer − 1)), so 0.8 in deep layers.
    The source has a learned gain after the norm of each head, which the projection that follows makes superfluous.

    λ = 0 gives softmax attention on the even channels, normalised. The memory is that of two softmax attentions.
    """

    rowwise = True

    def __init__(self, start: float = 0.8) -> None:
        super().__init__()
        if not 0 <= start < 1:
            raise ModelError(
                f"start {start} of attention rule 'differential' is not in [0, 1): outputs shrink by 1 − λ₀"
            )
        self.start = start
        self.a = nn.Parameter(torch.zeros((), dtype=torch.float32))
        self.b = nn.Parameter(torch.zeros((), dtype=torch.float32))

    def forward(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        head_dim = q.shape[-1]
        if head_dim % 2:
            raise ModelError(
                f"attention rule 'differential' halves the channels of a head, and {head_dim} is odd;"
                " change width or heads"
            )
        odd = torch.arange(head_dim, device=q.device) % 2
        scale = (head_dim // 2) ** -0.5
        # 0 in place of the other half: with channels cut off, torch's fused kernels refuse q and k narrower than v.
        first, second = (dot_product_attention(q * half.to(q.dtype), k, v, mask, scale) for half in (1 - odd, odd))
        share = self.a.exp() - self.b.exp() + self.start
        out = first - share * second  # B, heads, queries, head_dim
        norm = (out.square().mean(-1, keepdim=True) + EPSILON).rsqrt()
        return ((1 - self.start) * out * norm).to(v.dtype)
