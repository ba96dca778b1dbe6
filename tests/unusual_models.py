"""Models that people write and that a harness gets wrong easily; each is one situation."""

import random
from typing import Any

import numpy as np
import torch
from torch import nn

from multistep_bench import TaskInfo


def _pixels(info: TaskInfo) -> int:
    shape = info.observation_space.shape
    assert shape is not None
    return int(np.prod(shape))


class Plain(nn.Module):
    """Pixels, a hidden layer, logits."""

    def __init__(self, info: TaskInfo) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(_pixels(info), 16), nn.GELU(), nn.Linear(16, info.num_classes))

    def forward(self, x: torch.Tensor) -> Any:
        return self.net(x)


class NormalizesInPlace(Plain):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x.sub_(0.5).mul_(2.0)
        return self.net(x)


class Normalizes(Plain):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net((x - 0.5) * 2.0)


class CachesATable(Plain):
    """Keeps what the first forward pass computes, as rotary embeddings do."""

    table: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.net[1](x.flatten(1))
        if self.table is None:
            self.table = torch.cos(torch.arange(x.shape[1], dtype=x.dtype))
        return self.net[3](x * self.table)


class Lazy(nn.Sequential):
    def __init__(self, info: TaskInfo) -> None:
        super().__init__(nn.Flatten(), nn.LazyLinear(16), nn.GELU(), nn.LazyLinear(info.num_classes))


class LateBuffer(Plain):
    """A step count in a buffer that state_dict leaves out and that is replaced, not changed in place."""

    step: torch.Tensor

    def __init__(self, info: TaskInfo) -> None:
        super().__init__(info)
        self.register_buffer("step", torch.zeros(1), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.step = self.step + 1
        return self.net(x) * (self.step / 100 + 0.1)


class DrawsWithNumpy(Plain):
    """Weights by NumPy, noise by Python's generator."""

    def __init__(self, info: TaskInfo) -> None:
        super().__init__(info)
        weight = self.net.get_parameter("1.weight")
        weight.data = torch.tensor(np.random.randn(*weight.shape) * 0.1, dtype=torch.float32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x * 0.9 if self.training and random.random() < 0.5 else x)


class CountsInAnAttribute(Plain):
    step = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.step += self.training
        return self.net(x) * (self.step / 100 + 0.1)


class OwnGenerator(Plain):
    def __init__(self, info: TaskInfo) -> None:
        super().__init__(info)
        self.rng = torch.Generator().manual_seed(0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x + 0.1 * torch.randn(x.shape, generator=self.rng) if self.training else x)


SEEN = [0]


class CountsInItsModule(Plain):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        SEEN[0] += self.training
        return self.net(x) * (1 + SEEN[0] / 10)


class SeedsItself(Plain):
    def __init__(self, info: TaskInfo) -> None:
        torch.manual_seed(42)
        super().__init__(info)


class TupleInTraining(Plain):
    def forward(self, x: torch.Tensor) -> Any:
        return (self.net(x), self.net(x)) if self.training else self.net(x)


class TwiceInTraining(Plain):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x).repeat(2, 1) if self.training else self.net(x)


class DetachedInTraining(Plain):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x).detach()


class FailsInTraining(Plain):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training and len(x) > 8:
            raise ValueError("only eight at a time")
        return self.net(x)


class Complex(Plain):
    def __init__(self, info: TaskInfo) -> None:
        super().__init__(info)
        self.turn = nn.Parameter(torch.polar(torch.ones(info.num_classes), torch.rand(info.num_classes)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (self.net(x) * self.turn).real


class Sparse(nn.Module):
    def __init__(self, info: TaskInfo) -> None:
        super().__init__()
        self.table = nn.Embedding(4, info.num_classes, sparse=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.table((x.flatten(1).sum(1) > 0).long())


class Frozen(Plain):
    def __init__(self, info: TaskInfo) -> None:
        super().__init__(info)
        self.requires_grad_(False)


class LateParameter(Plain):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training and not hasattr(self, "scale"):
            self.scale = nn.Parameter(torch.ones(1))
        return self.net(x) * getattr(self, "scale", 1.0)


class Exits(Plain):
    """Leaves the program in the middle of training."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training and self.moved():
            raise SystemExit("that is enough")
        return self.net(x)

    def moved(self) -> bool:
        return bool(self.net.get_parameter("3.bias").abs().max() > 0.35)


class ExitsAtOnce(Exits):
    """Ends its process without a word."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training and self.moved():
            import os

            os._exit(0)
        return self.net(x)


class FailsWithBytes(Exits):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training and self.moved():
            raise ValueError(b"\xff\xfe".decode("utf-8", "surrogateescape") + "\x1b[31mred\x07")
        return self.net(x)


class KeyPopper(nn.Module):
    """Takes an episode apart with pop, and overwrites its items."""

    def __init__(self, info: TaskInfo) -> None:
        super().__init__()
        self.net = nn.LazyLinear(info.num_classes)

    def forward(self, episode: dict[str, torch.Tensor]) -> torch.Tensor:
        items = episode.pop("items")
        items.mul_(0.5)
        return self.net(items.flatten(1))


class KeyKeeper(KeyPopper):
    def forward(self, episode: dict[str, torch.Tensor]) -> torch.Tensor:
        return self.net((episode["items"] * 0.5).flatten(1))
