"""The gradient of W_Q, W_K and W_V, split by the region of the tokens that it comes from.

A linear layer y = W·x has dL/dW = Σ_t g_t·x_tᵀ over the tokens t of the batch, g_t = dL/dy_t. The terms of one region's
tokens are its part; the parts of all regions and of the tokens in none add up to dL/dW.
"""

from collections.abc import Mapping, Sequence

import torch

from multistep_bench.diagnostics.capture import ProjectionCall
from multistep_bench.diagnostics.layers import Projections

ELSEWHERE = "elsewhere"  # tokens in no region, as a class token


def split_gradient(entering: torch.Tensor, gradient: torch.Tensor, regions: torch.Tensor) -> torch.Tensor:
    """[R + 1, outputs, inputs]: the terms of dL/dW from the tokens of each region, and last from those in none.

    entering: [B, N, inputs]. gradient: [B, N, outputs], of the loss by what the layer makes of them.
    regions:  [R, N] or [B, R, N] bool, disjoint.
    """
    regions = regions.to(entering.device).expand(len(entering), -1, -1)  # B, R, N
    masks = [*regions.unbind(1), ~regions.any(1)]
    return torch.stack([gradient[mask].T @ entering[mask] for mask in masks])


def split_by_parameter(
    calls: Sequence[ProjectionCall], gradients: Sequence[torch.Tensor | None], masks: Mapping[int, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Parameter's name → [R + 1, …], its gradient by region; a layer that is called repeatedly sums over its calls.

    gradients: of the loss by what each call gave, None where it does not depend on it. masks: number of tokens → its
    regions. A parameter with a call of another number of tokens has no parts.
    """
    found: dict[str, torch.Tensor] = {}
    unknown = {call.parameter for call in calls if call.entering.ndim != 3 or call.entering.shape[1] not in masks}
    for call, gradient in zip(calls, gradients, strict=True):
        if call.parameter in unknown:
            continue
        if gradient is None:
            gradient = torch.zeros_like(call.leaving)
        parts = call.by_weight(split_gradient(call.entering, gradient, masks[call.entering.shape[1]]))
        found[call.parameter] = found[call.parameter] + parts if call.parameter in found else parts
    return found


def split_norms(
    parts: Mapping[str, torch.Tensor], layers: Sequence[Projections], count: int
) -> dict[str, torch.Tensor]:
    """l1_by_region and l2_by_region, each [layers, 3, R + 1]: norms of the parts of W_Q, W_K, W_V; NaN where unknown.

    parts: as from `split_by_parameter`. count: R.
    """
    figures = {name: torch.full((len(layers), 3, count + 1), torch.nan, dtype=torch.float64) for name in ("l1", "l2")}
    for index, layer in enumerate(layers):
        for place, (name, rows) in enumerate(layer.parts):
            if name in parts:
                columns = rows if isinstance(rows, tuple) else (rows,)
                values = parts[name][(slice(None), *columns)].flatten(1).double()
                figures["l1"][index, place] = values.abs().sum(1).cpu()
                figures["l2"][index, place] = values.norm(dim=1).cpu()
    return {f"{name}_by_region": values for name, values in figures.items()}
