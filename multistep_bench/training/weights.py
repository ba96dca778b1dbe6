"""A model's weights and buffers: copied to the CPU, and taken over by another model of the same kind."""

from typing import Any

import torch
from torch import nn


def on_cpu(tensor: torch.Tensor) -> torch.Tensor:
    """A copy on the CPU that shares no memory."""
    return tensor.detach().to("cpu", copy=True).contiguous()


def set_weights(model: nn.Module, state: dict[str, Any]) -> None:
    """Takes over "model", a `state_dict`, and "buffers", all of them by name."""
    set_buffers(model, state["buffers"])
    model.load_state_dict(state["model"])


def set_buffers(model: nn.Module, buffers: dict[str, torch.Tensor]) -> None:
    """Gives every buffer its value, also those that `state_dict` leaves out and those that took another shape."""
    for name, value in buffers.items():
        path, _, attribute = name.rpartition(".")
        module = model.get_submodule(path)
        old = module._buffers.get(attribute)
        if old is not None and old.shape == value.shape and old.dtype == value.dtype:
            old.copy_(value)
        else:
            place = next((tensor.device for tensor in model.parameters()), value.device)
            module._buffers[attribute] = value.to(place)
