"""An upper bound: a ViT that is given the location of the target."""

from typing import Any

import torch
from torch import nn

from multistep_bench.batch import TaskInfo
from multistep_bench.errors import ModelError
from multistep_bench.models import vit
from multistep_bench.registry import register_model

STEP = "target_location"


class Oracle(nn.Module):
    """A `ViT` whose tokens attend only to the tokens of one tile, the one whose number is the step "target_location".

    `uses_steps` marks a model that is given the intermediate variables, and excludes it from the leaderboard.
    """

    uses_steps = True

    def __init__(self, model: vit.ViT) -> None:
        super().__init__()
        self.vit = model

    def forward(self, images: torch.Tensor, steps: dict[str, torch.Tensor]) -> torch.Tensor:
        """[B, C, H, W] and steps, each [B] → logits [B, K]."""
        seen = self.vit.regions[steps[STEP]]  # B, tokens
        return self.vit.logits(images, mask=seen[:, None, None])


@register_model("vit_oracle")
def build(info: TaskInfo, **options: Any) -> Oracle:
    """An `Oracle` for an image task whose steps say where the target is; `options` are those of the model "vit"."""
    if STEP not in info.steps or not info.layout:
        raise ModelError(
            f"model 'vit_oracle' needs a layout and the step '{STEP}', which {info.id} lacks; choose another task"
        )
    return Oracle(vit.build(info, **options))
