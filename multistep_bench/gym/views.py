"""What an agent sees of a sample: all of it, or one place with everything else hidden."""

from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces

from multistep_bench.batch import Inputs, TaskInfo

HIDDEN_TOKEN = -1  # no token and no label has this number
HIDDEN_PIXEL = 0.0


def places(info: TaskInfo) -> tuple[str, ...]:
    """The places an agent can look at: the tiles of an image, the tokens of a sequence, the items of an episode."""
    if info.kind == "image":
        return tuple(info.layout)
    last = max(first + tokens for _, first, _, tokens in info.layout.values())
    if info.kind == "episode":  # a token for each item and one for its label; the query has no label
        return (*(f"item_{i}" for i in range(last // 2)), "query")
    return tuple(f"token_{i}" for i in range(last))


def glimpse_space(info: TaskInfo) -> spaces.Dict:
    """ "view": the sample with all but one place hidden; "place": which one is shown, one-hot (all 0: none)."""
    return spaces.Dict({"view": _with_hidden(info.observation_space), "place": spaces.MultiBinary(len(places(info)))})


def glimpse(info: TaskInfo, inputs: Inputs, place: torch.Tensor) -> dict[str, Any]:
    """One place of each of B samples.

    inputs: a batch's. place: [B] int64, the number of the place shown, -1 for none.
    """
    count = len(places(info))
    shown = place[:, None] == torch.arange(count, device=place.device)  # B, places
    if isinstance(inputs, dict):
        view: Any = {name: _masked(tensor, shown[:, : tensor.shape[1]]) for name, tensor in inputs.items()}
    elif info.kind == "image":
        view = torch.full_like(inputs, HIDDEN_PIXEL)
        for number, (top, left, height, width) in enumerate(info.layout.values()):
            part = (..., slice(top, top + height), slice(left, left + width))
            view[part] = inputs[part] * shown[:, number, None, None, None]
    else:
        view = _masked(inputs, shown)
    return {"view": view, "place": shown.to(torch.int8)}


def _masked(tensor: torch.Tensor, shown: torch.Tensor) -> torch.Tensor:
    mask = shown.reshape(*shown.shape, *(1,) * (tensor.ndim - 2))
    return torch.where(mask, tensor, HIDDEN_PIXEL if tensor.is_floating_point() else HIDDEN_TOKEN)


def _with_hidden(space: gymnasium.Space) -> gymnasium.Space:
    """The space with room for the values that stand for what is hidden."""
    if isinstance(space, spaces.Dict):
        return spaces.Dict({name: _with_hidden(each) for name, each in space.items()})
    if isinstance(space, spaces.MultiDiscrete):
        return spaces.Box(HIDDEN_TOKEN, np.broadcast_to(space.nvec - 1, space.shape), space.shape, np.int64)  # type: ignore[arg-type]
    assert isinstance(space, spaces.Box)
    hidden = HIDDEN_PIXEL if np.issubdtype(space.dtype, np.floating) else HIDDEN_TOKEN
    return spaces.Box(np.minimum(space.low, hidden), np.maximum(space.high, hidden), space.shape, space.dtype.type)  # type: ignore[arg-type]
