"""LASER: attention that averages exponentials of values."""

import torch
from torch import nn

from multistep_bench.models.attention.dot_product import dot_product_attention
from multistep_bench.registry import register_attention

RANGE = 60.0  # in nats, below a channel's largest value; exp(−60) is far above the smallest float32


@register_attention("laser")
class Laser(nn.Module):
    """log(softmax(q·kᵀ/√head_dim)·exp(v)) (Duvvuri and Dhillon 2025, arXiv 2411.03493).

    Computed as m + log(softmax(q·kᵀ/√head_dim)·exp(v − m)), m the maximum of a channel over the keys that some query
    sees; what lies more than `RANGE` below m counts as m − `RANGE`, so that no logarithm is of 0. The result does not
    depend on m. It lies between softmax attention and the largest value a query sees, and equals softmax attention
    where the values of a channel are close together. The memory is that of softmax.
    """

    rowwise = True

    def forward(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        seen = v if mask is None else v.masked_fill(~mask.any(-2).unsqueeze(-1), -torch.inf)
        largest = seen.detach().amax(-2, keepdim=True)  # B, heads, 1, head_dim
        below = seen - largest
        values = torch.where(below > -RANGE, below, -RANGE).exp()  # not clamp, which has no gradient at the maximum
        out = dot_product_attention(q, k, values.to(v.dtype), mask, q.shape[-1] ** -0.5)
        return largest + out.log()
