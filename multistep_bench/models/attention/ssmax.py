"""Scalable softmax: logits that grow with the number of keys."""

import math
from typing import Literal

import torch
from torch import nn

from multistep_bench.errors import ModelError
from multistep_bench.models.attention.dot_product import dot_product_attention
from multistep_bench.registry import register_attention


@register_attention("ssmax")
class SSMax(nn.Module):
    """softmax(f(n)·q·kᵀ/√head_dim)·v, n the number of keys a query sees (Nakanishi 2025, arXiv 2501.19399).

    scale: "learned", f(n) = s·ln n with one s for each layer (one for each head in the source, which a rule does not
    know the number of); or "fixed", f(n) = √ln n, the rate at which n independent normal logits keep a largest weight.
    start: s before training, 0.43 as in the source's figure 1; 1/ln n would begin at plain softmax.

    Queries are multiplied by f(n), so the memory is that of softmax. Where all queries see n keys and s = 1/ln n, this
    is plain softmax; under a causal mask n grows from query to query.
    """

    rowwise = True

    def __init__(self, scale: Literal["learned", "fixed"] = "learned", start: float = 0.43) -> None:
        super().__init__()
        if scale not in ("learned", "fixed"):
            raise ModelError(f"scale '{scale}' of attention rule 'ssmax' is neither 'learned' nor 'fixed'")
        if not 0 < start < math.inf:
            raise ModelError(f"start {start} of attention rule 'ssmax' is not a number above 0")
        self.s = nn.Parameter(torch.tensor(start, dtype=torch.float32)) if scale == "learned" else None

    def forward(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        visible = torch.full((), k.shape[-2], device=q.device) if mask is None else mask.sum(-1, keepdim=True)
        log = visible.to(q.dtype).log()
        factor = log.sqrt() if self.s is None else self.s * log
        return dot_product_attention((q * factor).to(q.dtype), k, v, mask, q.shape[-1] ** -0.5)
