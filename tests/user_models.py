"""Models as a user would write them, given to the suite by import path."""

import torch
from torch import nn

from multistep_bench import TaskInfo


def linear(info: TaskInfo, dropout: float = 0.0) -> nn.Module:
    """Pixels to logits."""
    shape = info.observation_space.shape
    assert shape is not None
    pixels = int(torch.tensor(shape).prod())
    return nn.Sequential(nn.Flatten(), nn.Dropout(dropout), nn.Linear(pixels, info.num_classes))


def wrong_shape(info: TaskInfo) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(info.num_classes + 1))


class Fragile(nn.Module):
    """A linear model that misbehaves once it is trained at the larger learning rate of the tests."""

    start: torch.Tensor

    def __init__(self, info: TaskInfo, mode: str) -> None:
        super().__init__()
        self.linear = linear(info)
        self.mode = mode
        self.register_buffer("start", next(self.linear.parameters()).detach().clone())

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits = self.linear(images)
        moved = (next(self.linear.parameters()).detach() - self.start).abs().max()
        if moved < 0.5:
            return logits
        if self.mode == "nan":
            return logits * float("nan")
        raise ArithmeticError("the weights went too far")


def returns_nan(info: TaskInfo) -> nn.Module:
    return Fragile(info, "nan")


def raises(info: TaskInfo) -> nn.Module:
    return Fragile(info, "raise")


class Progress(nn.Module):
    """Remembers every fraction of training it was told."""

    seen: list[float]

    def __init__(self, info: TaskInfo) -> None:
        super().__init__()
        self.linear = linear(info)
        self.seen = []

    def set_progress(self, fraction: float) -> None:
        self.seen.append(fraction)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.linear(images)


not_callable = 3
