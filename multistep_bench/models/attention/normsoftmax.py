"""NormSoftmax: logits divided by their standard deviation or variance."""

import math
from typing import Literal

import torch
from torch import nn
from torch.linalg import vecdot
from torch.nn.functional import scaled_dot_product_attention

from multistep_bench.errors import ModelError
from multistep_bench.registry import register_attention

FLOOR = 1e-6  # of s: keeps a row of equal logits finite, and is far below any spread that training produces


@register_attention("normsoftmax")
class NormSoftmax(nn.Module):
    """softmax(q·kᵀ / min(√head_dim, s))·v, s the spread of a query's unscaled logits over the keys it sees.

    statistic: "std", the unbiased standard deviation (Jiang et al. 2023, NormSoftmax), or "var", the unbiased
    variance (Hoffmann et al. 2024). Gradients flow through s.

    Without a mask the memory is linear in the number of tokens. The logits of a query q have variance
    qᵀ·cov(k)·q, so with many tokens q is divided by s and the matrix of logits is never stored; with few tokens
    that matrix is smaller than what the covariance needs, and using it takes half the time.
    """

    rowwise = True

    def __init__(self, statistic: Literal["std", "var"] = "std") -> None:
        super().__init__()
        if statistic not in ("std", "var"):
            raise ModelError(f"statistic '{statistic}' of attention rule 'normsoftmax' is neither 'std' nor 'var'")
        self.statistic = statistic

    def forward(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        if mask is not None:
            return self._masked(q, k, v, mask)
        keys, head_dim = k.shape[-2:]
        # A shift of all keys shifts all logits of a query alike: same weights, same gradients, less rounding.
        k = k - k.detach().mean(-2, keepdim=True)
        if min(q.shape[-2], keys) > 3 * head_dim:
            covariance = k.mT @ k / (keys - 1)  # B, heads, head_dim, head_dim
            variance = vecdot(q @ covariance, q).unsqueeze(-1)  # B, heads, queries, 1
            return scaled_dot_product_attention(q * self._factor(variance, head_dim), k, v, scale=1.0)
        logits = q @ k.mT  # B, heads, queries, keys
        variance = vecdot(logits, logits).unsqueeze(-1) / max(keys - 1, 1)
        return torch.softmax(logits * self._factor(variance, head_dim), dim=-1) @ v

    def _masked(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        logits = q @ k.mT  # B, heads, queries, keys
        visible = mask.sum(-1, keepdim=True)
        mean = (logits * mask).sum(-1, keepdim=True) / visible
        centred = (logits - mean) * mask
        variance = vecdot(centred, centred).unsqueeze(-1) / (visible - 1).clamp(min=1)
        weights = torch.softmax((centred * self._factor(variance, q.shape[-1])).masked_fill(~mask, -math.inf), dim=-1)
        return weights @ v

    def _factor(self, variance: torch.Tensor, head_dim: int) -> torch.Tensor:
        """1 / min(√head_dim, s)."""
        if self.statistic == "std":
            return variance.clamp(FLOOR**2, head_dim).rsqrt()
        return variance.clamp(FLOOR, math.sqrt(head_dim)).reciprocal()
