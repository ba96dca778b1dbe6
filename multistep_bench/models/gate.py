"""Transformers whose heads pass a gate before they are projected."""

from typing import Any

import torch
from timm.layers import trunc_normal_  # pyright: ignore[reportPrivateImportUsage]
from torch import nn

from multistep_bench.batch import TaskInfo
from multistep_bench.models import sequence, vit
from multistep_bench.models.initial import weight_std
from multistep_bench.models.transformer import ALL, Attention
from multistep_bench.registry import register_model


class GatedAttention(nn.Module):
    """proj(heads ∘ σ(W_g·x)), x what the attention reads (Qiu et al. 2025, arXiv 2505.06708; their position G1).

    heads: the outputs of all heads side by side, [B, queries, width]. The gate has one entry for each channel of each
    head and no bias. With W_g = 0 it halves the heads, which is what it starts near.
    attention: becomes a part of this module, which takes over its projection.
    """

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        self.proj = attention.proj
        self.gate = nn.Linear(attention.qkv.in_features, attention.qkv.in_features, bias=False)
        attention.proj = nn.Identity()  # pyright: ignore[reportAttributeAccessIssue]
        self.heads = attention

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None, queries: slice = ALL) -> torch.Tensor:
        """[B, N, width] → [B, queries, width], as `Attention`."""
        return self.proj(self.heads(x, mask, queries) * torch.sigmoid(self.gate(x[:, queries])))


def add_gates(model: nn.Module, width_of: str, **options: Any) -> list[nn.Linear]:
    """Puts a `GatedAttention` in place of the attention of every block of `model`, and returns the gates.

    Their weights are drawn from N(0, init_std²) where the options say so, and else by torch's default.
    width_of: the model as messages name it.
    """
    gates = []
    for block in model.get_submodule("blocks").children():
        gated = GatedAttention(block.attn)  # pyright: ignore[reportArgumentType]
        block.attn = gated
        gates.append(gated.gate)
    std = weight_std(options.get("init_std"), gates[0].in_features, width_of)
    if std is not None:
        for gate in gates:
            nn.init.normal_(gate.weight, std=std)
    return gates


@register_model("gated_vit")
def build_vit(info: TaskInfo, **options: Any) -> vit.ViT:
    """A `ViT` for an image task with gated heads; `options` are those of the model "vit"."""
    model = vit.build(info, **options)
    for gate in add_gates(model, "gated_vit", **options):
        if options.get("init_std") is None:
            trunc_normal_(gate.weight, std=vit.TIMM_STD)  # as the ViT's other linear layers
    return model


@register_model("gated_sequence")
def build_sequence(info: TaskInfo, **options: Any) -> sequence.Sequence:
    """A `Sequence` for a task of tokens or episodes with gated heads; `options` are those of the model "sequence"."""
    model = sequence.build(info, **options)
    add_gates(model, "gated_sequence", **options)
    return model
