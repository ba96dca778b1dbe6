"""Gradient clipping by the norm of all parameters together (Pascanu et al. 2013), for one cell and for stacked ones."""

from collections.abc import Iterable

import torch

TINY = 1e-6  # as in torch.nn.utils.clip_grad_norm_


@torch.no_grad()
def clip_stacked(parameters: Iterable[torch.Tensor], largest: float) -> None:
    """Scales each cell's gradients, [G, ...] each, to a norm of at most `largest`, in place.

    For each cell what `torch.nn.utils.clip_grad_norm_` does: a factor of min(1, largest / (norm + 1e-6)).
    """
    gradients = [tensor.grad for tensor in parameters if tensor.grad is not None]
    if not gradients:
        return
    norms = torch.stack([gradient.reshape(len(gradient), -1).norm(dim=1) for gradient in gradients]).norm(dim=0)  # G
    factors = (largest / (norms + TINY)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(factors.to(gradient.dtype).view(-1, *[1] * (gradient.ndim - 1)))
