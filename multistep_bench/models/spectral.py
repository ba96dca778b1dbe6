"""σReparam: linear layers whose weights have a spectral norm that is learned apart from them (Zhai et al. 2023)."""

import torch
from torch import nn
from torch.nn.functional import normalize
from torch.nn.utils import parametrize

from multistep_bench.errors import ModelError

FIRST_ITERATIONS = 15  # of the power iteration before training, as torch's spectral norm makes


class Spectral(nn.Module):
    """W ↦ γ·W/σ(W), with γ learned from 1 on (Zhai et al. 2023, equation 3).

    σ(W) = uᵀWv, and each forward pass in training mode makes one power iteration before it: v ← Wᵀu/‖Wᵀu‖,
    u ← Wv/‖Wv‖ (Miyato et al. 2018, algorithm 1). u and v are buffers and count as constants in the gradient.
    """

    u: torch.Tensor
    v: torch.Tensor

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones((), dtype=weight.dtype, device=weight.device))
        self.register_buffer("u", normalize(torch.randn_like(weight[:, 0]), dim=0))  # outputs
        self.register_buffer("v", normalize(weight.detach().t() @ self.u, dim=0))  # inputs
        for _ in range(FIRST_ITERATIONS):
            self._iterate(weight.detach())

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """[outputs, inputs] → the same shape."""
        with torch.autocast(weight.device.type, enabled=False):
            if self.training:
                self._iterate(weight.detach())
            # copies: the next pass changes the buffers before this one's backward pass
            sigma = torch.dot(self.u.clone(), weight @ self.v.clone())
            return weight * (self.gamma / sigma)

    @torch.no_grad()
    def _iterate(self, weight: torch.Tensor) -> None:
        self.v.copy_(normalize(weight.t() @ self.u, dim=0))
        self.u.copy_(normalize(weight @ self.v, dim=0))


def make_spectral(model: nn.Module) -> nn.Module:
    """The model, each of its linear layers' weights parametrised by `Spectral`; u is drawn by torch's generator.

    A weight that another module holds too (tied embeddings) stays as it is, and so does one of zeros, which has no
    direction. Raises `ModelError` for a model without a linear layer.
    """
    holders: dict[int, int] = {}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            holders[id(parameter)] = holders.get(id(parameter), 0) + 1
    layers = [
        module
        for module in model.modules()
        if isinstance(module, nn.Linear) and holders[id(module.weight)] == 1 and bool(module.weight.any())
    ]
    if not layers:
        raise ModelError(
            f"recipe linear_layers 'spectral' needs linear layers with weights of their own;"
            f" {type(model).__name__} has none"
        )
    for layer in layers:
        parametrize.register_parametrization(layer, "weight", Spectral(layer.weight), unsafe=True)
    return model
