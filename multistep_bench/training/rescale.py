"""Gradient rescaling: what softmax starves W_Q and W_K of, given back by hand."""

from typing import Any, Literal

import torch
from torch import nn

from multistep_bench.errors import ModelError

Mode = Literal["layer", "head"]
SMALLEST = 1e-30  # a mean magnitude that counts as zero; small enough for any gradient, large enough to divide by


def rescale_gradients(model: nn.Module, mode: Mode) -> None:
    """Scales the gradients of W_Q, W_K and W_V of each attention layer to one mean magnitude, in place.

    A layer is a module with a fused projection `qkv` and `num_heads`, as here and in timm.
    mode: see `rescaled`. Raises `ModelError` for a model without such a layer.
    """
    layers: list[Any] = [each for each in model.modules() if hasattr(each, "qkv") and hasattr(each, "num_heads")]
    if not layers:
        raise ModelError(
            f"gradient rescaling needs attention layers with `qkv` and `num_heads`; {type(model).__name__} has none"
        )
    for layer in layers:
        gradient = layer.qkv.weight.grad
        gradient.copy_(rescaled(gradient, layer.num_heads, mode))


def rescaled(gradient: torch.Tensor, heads: int, mode: Mode) -> torch.Tensor:
    """The gradient of a fused projection's weight [..., 3·width, width], rescaled (Hoffmann et al. 2024).

    mode "layer": W_Q, W_K and W_V each to the mean of their three mean absolute values; "head": in each head, W_Q and
    W_K to the mean absolute value of that head's W_V. A gradient of zeros stays so.
    """
    parts = gradient.unflatten(-2, (3, heads, -1))  # ..., q k v, heads, head_dim, width
    magnitude = parts.abs().mean((-2, -1), keepdim=True)
    if mode == "layer":
        magnitude = magnitude.mean(-3, keepdim=True)
        target = magnitude.mean(-4, keepdim=True)
    else:
        target = magnitude[..., 2:, :, :, :]
    return (parts * (target / magnitude.clamp(min=SMALLEST))).flatten(-4, -2)
