"""A plain vision transformer with an open attention rule."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from timm.layers import PatchEmbed, trunc_normal_  # pyright: ignore[reportPrivateImportUsage]
from torch import nn

from multistep_bench.batch import TaskInfo
from multistep_bench.errors import ModelError, NotFound
from multistep_bench.models.attention.rule import block_rules
from multistep_bench.models.initial import draw_weights, weight_std
from multistep_bench.models.layout import image_shape, tile_side, token_regions
from multistep_bench.models.transformer import ALL, NORM_EPSILON, Block
from multistep_bench.registry import register_model


@dataclass(frozen=True)
class ViTSize:
    """patches_per_tile: patches along the side of one of the task's tiles. width: of all heads together."""

    patches_per_tile: int
    width: int
    depth: int
    heads: int
    mlp_ratio: float = 2.0
    drop_path: float = 0.0


SIZES = {
    "tiny": ViTSize(patches_per_tile=1, width=32, depth=3, heads=2),
    "small": ViTSize(patches_per_tile=4, width=128, depth=5, heads=4),
    "paper": ViTSize(patches_per_tile=7, width=256, depth=7, heads=4, drop_path=0.1),
}
TIMM_STD = 0.02


class ViT(nn.Module):
    """Applies pre-norm blocks to patches and a class token; logits from the class token.

    With the rule "softmax" it computes what timm's `VisionTransformer` computes (no bias on q, k, v; learned
    positions; LayerNorm eps 1e-6), has its parameters' names and is initialised as it is, except that the last
    block, where the rule allows it, computes only the class token: the others are not read.

    rules: one attention rule for each block. regions: [regions, tokens] bool, see `token_regions`.
    """

    regions: torch.Tensor

    def __init__(self, info: TaskInfo, size: ViTSize, rules: list[nn.Module], *, regions: torch.Tensor) -> None:
        super().__init__()
        channels, height, width = image_shape(info)
        patch = tile_side(info) // size.patches_per_tile
        self.register_buffer("regions", regions, persistent=False)
        self.patch_embed = PatchEmbed((height, width), patch, channels, size.width)
        self.cls_token = nn.Parameter(torch.empty(1, 1, size.width, dtype=torch.float32))
        self.pos_embed = nn.Parameter(torch.empty(1, regions.shape[1], size.width, dtype=torch.float32))
        rates = [size.drop_path * index / max(size.depth - 1, 1) for index in range(size.depth)]
        self.blocks = nn.ModuleList(
            Block(size.width, size.heads, rule, mlp_ratio=size.mlp_ratio, drop_path=rate)
            for rule, rate in zip(rules, rates, strict=True)
        )
        self.norm = nn.LayerNorm(size.width, eps=NORM_EPSILON)
        self.head = nn.Linear(size.width, info.num_classes)
        self._initialise()

    def _initialise(self) -> None:
        """As timm: linear weights and positions truncated normal; the patch projection keeps torch's default."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                trunc_normal_(module.weight, std=TIMM_STD)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        trunc_normal_(self.pos_embed, std=TIMM_STD)
        nn.init.normal_(self.cls_token, std=1e-6)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """[B, C, H, W] → logits [B, K]."""
        return self.logits(images)

    def logits(self, images: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """[B, C, H, W] → logits [B, K]; mask: bool, broadcastable to [B, heads, tokens, tokens]."""
        x = self.patch_embed(images)  # B, patches, width
        x = torch.cat((self.cls_token.expand(len(x), -1, -1), x), dim=1) + self.pos_embed
        last = len(self.blocks) - 1
        for index, block in enumerate(self.blocks):
            x = block(x, mask, queries=slice(1) if index == last else ALL)
        return self.head(self.norm(x[:, 0]))

    def no_weight_decay(self) -> set[str]:
        """Parameters of two or more dimensions that do not decay; biases and norms never do."""
        return {"pos_embed", "cls_token"}


@register_model("vit")
def build(
    info: TaskInfo,
    *,
    size: str | None = None,
    attention: str = "softmax",
    attention_options: Mapping[str, Any] | None = None,
    patches_per_tile: int | None = None,
    width: int | None = None,
    depth: int | None = None,
    heads: int | None = None,
    mlp_ratio: float | None = None,
    drop_path: float | None = None,
    init_std: float | Literal["scaled"] | None = None,
) -> ViT:
    """A `ViT` for an image task.

    size: a preset of `SIZES`, by default the task's; the options named as its fields replace its values.
    attention: a rule's name or import path; attention_options: its keyword arguments.
    init_std: standard deviation of every weight, with biases 0, see `models.initial`; by default as timm.
    Raises `ModelError` or `NotFound` for what does not fit the task.
    """
    changes = {
        "patches_per_tile": patches_per_tile,
        "width": width,
        "depth": depth,
        "heads": heads,
        "mlp_ratio": mlp_ratio,
        "drop_path": drop_path,
    }
    preset = size or info.size
    if preset not in SIZES:
        raise NotFound("size of vit", preset, SIZES, f"sizes: {', '.join(SIZES)}")
    shape = replace(SIZES[preset], **{name: value for name, value in changes.items() if value is not None})
    _check(shape, info)
    std = weight_std(init_std, shape.width, "vit")
    regions = token_regions(info, shape.patches_per_tile)
    rules = block_rules(
        attention,
        attention_options,
        depth=shape.depth,
        heads=shape.heads,
        tokens=regions.shape[1],
        head_dim=shape.width // shape.heads,
        regions=regions,
    )
    model = ViT(info, shape, rules, regions=regions)
    if std is not None:
        draw_weights(model, std, model.cls_token, model.pos_embed)
    return model


def _check(shape: ViTSize, info: TaskInfo) -> None:
    if min(shape.patches_per_tile, shape.width, shape.depth, shape.heads) < 1:
        raise ModelError(f"a vit of {shape} has no parts to build; set every number to 1 or more")
    if shape.width % shape.heads:
        raise ModelError(f"width {shape.width} of vit is not a multiple of its {shape.heads} heads")
    side = tile_side(info)
    if side % shape.patches_per_tile:
        raise ModelError(
            f"patches_per_tile {shape.patches_per_tile} of vit does not divide the {side}-pixel tiles of {info.id}"
        )
