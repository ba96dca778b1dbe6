"""softmax(scale·q·kᵀ)·v, which several rules compute in the end, by the faster of two ways."""

import torch
from torch.nn.functional import scaled_dot_product_attention

FEW_TOKENS = 32  # up to here, on a CPU, plain products take about half the time of torch's fused kernel


def dot_product_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None, scale: float
) -> torch.Tensor:
    """[B, heads, queries, head_dim], [B, heads, keys, head_dim] twice → like q; `mask`: True where a query attends."""
    if mask is None and q.device.type == "cpu" and 1 < q.shape[-2] <= FEW_TOKENS:
        return torch.softmax((q * scale) @ k.mT, dim=-1) @ v
    return scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)
