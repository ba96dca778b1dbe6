"""Fixed attention: each head averages one region of the task's layout."""

import torch
from torch import nn

from multistep_bench.errors import ModelError
from multistep_bench.registry import register_attention


@register_attention("regions")
class Regions(nn.Module):
    """Head h averages the values of region h, cycling through regions if there are more heads than regions.

    Queries and keys are not used and get no gradient.
    """

    rowwise = True
    weights: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weights", torch.empty(0, 0, dtype=torch.float32), persistent=False)  # regions, tokens

    def set_regions(self, regions: torch.Tensor) -> None:
        """regions: [regions, tokens] bool; each holds at least one token."""
        self.weights = regions.float() / regions.sum(-1, keepdim=True)

    def forward(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        if mask is not None or not len(self.weights):
            raise ModelError(
                "attention rule 'regions' takes no mask and needs a model that calls set_regions; use model 'vit'"
            )
        heads = torch.arange(q.shape[1], device=q.device) % len(self.weights)
        weights = self.weights[heads].unsqueeze(1)  # heads, 1, tokens
        return (weights.to(v.dtype) @ v).expand_as(q)
