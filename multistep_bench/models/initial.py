"""Initial weights of the transformers: one standard deviation for all of them, as BERT and GPT-2 have it."""

import math
from typing import Literal

from timm.layers import PatchEmbed  # pyright: ignore[reportPrivateImportUsage]
from torch import nn

from multistep_bench.errors import ModelError
from multistep_bench.models.transformer import Attention

PAPER_STD = 0.02  # of the paper's ViT, BERT and GPT-2
PAPER_WIDTH = 256  # of the paper's ViT


def weight_std(init_std: float | Literal["scaled"] | None, width: int, model: str) -> float | None:
    """The standard deviation that the option `init_std` asks for; None leaves a model its own initialisation.

    "scaled" is 0.02·√(256/width), with which the logits of attention start as in the paper's ViT at any width.
    model: as the message names it. Raises `ModelError` for what is neither a number above 0 nor "scaled".
    """
    if init_std is None:
        return None
    if init_std == "scaled":
        return PAPER_STD * math.sqrt(PAPER_WIDTH / width)
    if isinstance(init_std, bool) or not isinstance(init_std, int | float) or not 0 < init_std < math.inf:
        raise ModelError(
            f"init_std {init_std!r} of {model} is neither a number above 0 nor 'scaled'; leave it out for the default"
        )
    return float(init_std)


def draw_weights(model: nn.Module, std: float, *others: nn.Parameter | None) -> None:
    """Draws weights from N(0, std²) by torch's global generator, and sets the biases beside them to 0.

    Drawn are linear layers, embeddings and the projection of patches, and `others`: positions, a class token. Norms
    keep 1 and 0; attention rules and the ResNet's convolutions that embed images of episodes keep their own.
    """
    rules = {part for module in model.modules() if isinstance(module, Attention) for part in module.rule.modules()}
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Embedding | PatchEmbed) and module not in rules:
            layer = module.proj if isinstance(module, PatchEmbed) else module
            nn.init.normal_(layer.get_parameter("weight"), std=std)
            if getattr(layer, "bias", None) is not None:
                nn.init.zeros_(layer.get_parameter("bias"))
    for parameter in others:
        if parameter is not None:
            nn.init.normal_(parameter, std=std)
