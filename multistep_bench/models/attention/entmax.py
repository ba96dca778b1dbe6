"""Entmax: attention weights that can be exactly 0."""

import torch
from torch import nn

from multistep_bench.registry import register_attention

HIDDEN = -2.0  # no logit this far below the largest, after halving, has a weight: the threshold is at least −1


@register_attention("entmax")
class Entmax(nn.Module):
    """1.5-entmax(q·kᵀ/√head_dim)·v: weights max(z/2 − τ, 0)², τ such that they sum to 1 (Peters et al. 2019, §3).

    τ is found exactly by sorting, not by bisection, and gradients flow through it. Equal logits give equal weights, and
    with more spread more keys get weight 0, where softmax (α = 1) gives them some. Logits and a few more matrices of
    their size [B, heads, queries, keys] are stored.
    """

    rowwise = True

    def forward(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        logits = q @ k.mT * (q.shape[-1] ** -0.5)  # B, heads, queries, keys
        return entmax15(logits, mask).to(v.dtype) @ v


def entmax15(logits: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """1.5-entmax over the last dimension of [..., N], 0 where `mask` is False; at least one entry of a row is True.

    A row is shifted so that its largest entry is 0, which changes no weight. For the K largest of x = z/2, of mean M
    and sum of squared deviations S, Σ (x − τ)² = 1 gives τ = M − √((1 − S)/K). The support is the largest K whose
    smallest entry is not below its τ.
    """
    half = logits / 2
    if mask is not None:
        half = half.masked_fill(~mask, -torch.inf)
    x = half - half.detach().amax(-1, keepdim=True)
    x = x.clamp(min=HIDDEN)  # −inf too; weights and their gradients are 0 there either way
    with torch.no_grad():
        support = x >= _smallest_of_support(x)
    count = support.sum(-1, keepdim=True)
    mean = torch.where(support, x, 0.0).sum(-1, keepdim=True) / count
    deviations = torch.where(support, x - mean, 0.0).square().sum(-1, keepdim=True)
    threshold = mean - ((1 - deviations) / count).sqrt()
    return (x - threshold).clamp(min=0.0).square()


def _smallest_of_support(x: torch.Tensor) -> torch.Tensor:
    """The smallest entry of each row [..., N] that gets a weight, [..., 1]."""
    descending = x.sort(dim=-1, descending=True).values
    counts = torch.arange(1, x.shape[-1] + 1, device=x.device, dtype=x.dtype)
    mean = descending.cumsum(-1) / counts
    deviations = descending.square().cumsum(-1) - counts * mean.square()
    threshold = mean - ((1 - deviations) / counts).clamp(min=0.0).sqrt()
    count = (threshold <= descending).sum(-1, keepdim=True)
    return descending.gather(-1, count - 1)
