"""Norms of the loss's gradient: by W_Q, W_K, W_V of each layer, and by the tokens of each region that enter a block."""

from collections.abc import Sequence

import torch
from torch import nn

from multistep_bench.diagnostics.layers import Projections


def projection_norms(gradients: dict[str, torch.Tensor], layers: list[Projections]) -> dict[str, torch.Tensor]:
    """l1 (sum of absolute values) and l2, each [layers, 3] for W_Q, W_K, W_V; gradients by the parameter's name."""
    parts = [[gradients[name][rows].double() for name, rows in layer.parts] for layer in layers]
    norms = {"l1": 1, "l2": 2}
    return {
        name: torch.stack([torch.stack([part.flatten().norm(p=p) for part in layer]) for layer in parts]).cpu()
        for name, p in norms.items()
    }


def region_norms(gradient: torch.Tensor, regions: torch.Tensor) -> torch.Tensor:
    """[R]: L2 norm over the tokens of each region and their channels, its mean over the batch (compare Hoffmann et al.
    2024, figure 5).

    gradient: [B, N, width] of the batch's mean loss; it is multiplied by B, so that a norm does not depend on B.
    regions:  [R, N] or [B, R, N] bool.
    """
    squares = gradient.double().cpu().square().sum(-1)  # B, N
    return len(gradient) * (squares.unsqueeze(1) * regions).sum(-1).sqrt().mean(0)


def differentiated(
    loss: torch.Tensor, model: nn.Module, layers: list[Projections], tensors: Sequence[torch.Tensor]
) -> tuple[dict[str, torch.Tensor], list[torch.Tensor | None]]:
    """Gradients of the loss by every parameter of the projections, and by tensors that the model computed on the way.

    No parameter's `.grad` is touched. A parameter that the loss does not depend on has gradient 0; tensors that depend
    on no parameter have none.
    """
    parameters = dict(model.named_parameters())
    names = list(dict.fromkeys(name for layer in layers for name, _ in layer.parts))
    names = [name for name in names if parameters[name].requires_grad]
    wanted = [index for index, tensor in enumerate(tensors) if tensor.requires_grad]
    inputs = [*(parameters[name] for name in names), *(tensors[index] for index in wanted)]
    found = torch.autograd.grad(loss, inputs, allow_unused=True) if inputs else ()
    found = [torch.zeros_like(each) if got is None else got for each, got in zip(inputs, found, strict=True)]
    frozen = {name: torch.zeros_like(parameters[name]) for layer in layers for name, _ in layer.parts}
    by_tensor: list[torch.Tensor | None] = [None] * len(tensors)
    for index, gradient in zip(wanted, found[len(names) :], strict=True):
        by_tensor[index] = gradient
    return frozen | dict(zip(names, found, strict=False)), by_tensor
