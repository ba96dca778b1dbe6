"""The pre-norm transformer block of the reference models, with the attention rule left open."""

from collections.abc import Callable

import torch
from timm.layers import DropPath, Mlp  # pyright: ignore[reportPrivateImportUsage]
from torch import nn

NORM_EPSILON = 1e-6
ALL = slice(None)

Rotation = Callable[[torch.Tensor], torch.Tensor]


class Attention(nn.Module):
    """Multi-head self-attention with one projection for q, k and v, without bias, as in timm.

    rule:   weighs the values; see `models.attention`.
    rotate: turns queries and keys [B, heads, N, head_dim] by their positions, or None.
    """

    def __init__(self, width: int, heads: int, rule: nn.Module, rotate: Rotation | None = None) -> None:
        super().__init__()
        self.num_heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.rule = rule
        self.rotate = rotate
        self.proj = nn.Linear(width, width)
        self.rowwise = getattr(rule, "rowwise", False)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None, queries: slice = ALL) -> torch.Tensor:
        """[B, N, width] → [B, queries, width], by default of all N tokens.

        mask: bool, True where a query may attend, broadcastable to [B, heads, N, N].
        """
        batch, tokens, _ = x.shape
        qkv = self.qkv(x).view(batch, tokens, 3, self.num_heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # B, heads, N, head_dim
        if self.rotate is not None:
            q, k = self.rotate(q), self.rotate(k)
        if self.rowwise:
            out = self.rule(q[:, :, queries], k, v, mask if mask is None else mask[..., queries, :])
        else:
            out = self.rule(q, k, v, mask)[:, :, queries]
        return self.proj(out.transpose(1, 2).flatten(2))  # B, queries, width


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)); parameters are named as in timm's block."""

    def __init__(
        self,
        width: int,
        heads: int,
        rule: nn.Module,
        *,
        mlp_ratio: float,
        drop_path: float = 0.0,
        rotate: Rotation | None = None,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=NORM_EPSILON)
        self.attn = Attention(width, heads, rule, rotate)
        self.norm2 = nn.LayerNorm(width, eps=NORM_EPSILON)
        self.mlp = Mlp(width, int(width * mlp_ratio))
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None, queries: slice = ALL) -> torch.Tensor:
        """[B, N, width] → [B, queries, width]; `mask` and `queries` as in `Attention`."""
        x = x[:, queries] + self.drop_path(self.attn(self.norm1(x), mask, queries))
        return x + self.drop_path(self.mlp(self.norm2(x)))
