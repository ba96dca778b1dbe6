"""Doubly stochastic attention (Sinkformers)."""

import math

import torch
from torch import nn

from multistep_bench.errors import ModelError
from multistep_bench.registry import register_attention

HIDDEN = -1e9  # a logit whose weight is 0, finite, so that a key that no query sees gives no NaN


@register_attention("sinkhorn")
class Sinkhorn(nn.Module):
    """exp(q·kᵀ/√head_dim), its rows and columns normalised to sum 1 in turn, times v (Sander et al. 2022).

    normalisations: how many, rows first and last; 1 is softmax. Keys that a query does not see keep weight 0. Columns
    sum over queries, so outputs depend on later queries: a causal model refuses this rule.
    """

    rowwise = False

    def __init__(self, normalisations: int = 5) -> None:
        super().__init__()
        if normalisations < 1 or normalisations % 2 == 0:
            raise ModelError(f"normalisations {normalisations} of attention rule 'sinkhorn' is not odd: 1, 3, 5, …")
        self.normalisations = normalisations

    def forward(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        logits = q @ k.mT / math.sqrt(q.shape[-1])  # B, heads, queries, keys
        for index in range(self.normalisations):
            if mask is not None:
                logits = torch.where(mask, logits, HIDDEN)
            logits = logits.log_softmax(-1 if index % 2 == 0 else -2)
        return logits.exp() @ v
