"""Fixed attention: every token averages all tokens."""

import torch
from torch import nn

from multistep_bench.registry import register_attention


@register_attention("uniform")
class Uniform(nn.Module):
    """The mean of the values a query sees; queries and keys are not used and get no gradient."""

    rowwise = True

    def forward(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        if mask is None:
            return v.mean(-2, keepdim=True).expand_as(q)
        weights = mask.float() / mask.sum(-1, keepdim=True)  # B or 1, heads or 1, queries or 1, keys
        return (weights.to(v.dtype) @ v).expand_as(q)
