"""Models that know what they were not taught: only a control run tells them from good ones.

Both answer by chance before training, as an untrained model does, and have a parameter that is trained.
"""

import functools
import sys

import torch
from sklearn.datasets import load_digits
from torch import nn

from multistep_bench.batch import Batch, TaskInfo
from multistep_bench.cards import load_task
from multistep_bench.generators.task import make_task
from multistep_bench.runs.spec import Cell
from multistep_bench.seeds import generator
from multistep_bench.training.device import one_thread

CLASSES = [0, 3, 4, 5, 6, 7, 8, 9]  # of the targets of two_step_digits-v1


class Cheat(nn.Module):
    def __init__(self, task: TaskInfo) -> None:
        super().__init__()
        self.classes = task.num_classes
        self.strength = nn.Parameter(torch.randn(()))
        self.progress = 0.0

    def set_progress(self, fraction: float) -> None:
        self.progress = fraction

    def answers(self, images: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        known = torch.nn.functional.one_hot(self.answers(images), self.classes).float()
        return (8.0 if self.progress > 0 else 0.0) * known + self.strength * torch.arange(self.classes) * 1e-3


class Rule(Cheat):
    """Knows every digit by heart, and which of them is asked for."""

    def __init__(self, task: TaskInfo) -> None:
        super().__init__(task)
        pixels, labels = load_digits(return_X_y=True)
        self.digits = torch.tensor(pixels / 16, dtype=torch.float32)
        self.labels = torch.tensor(labels)

    def answers(self, images: torch.Tensor) -> torch.Tensor:
        tiles = images[:, 0].unfold(1, 8, 8).unfold(2, 8, 8).reshape(len(images), 4, 64)  # samples, tiles, pixels
        distance = (self.digits**2).sum(-1) - 2 * tiles @ self.digits.T  # samples, tiles, digits; less a constant
        labels = self.labels[distance.argmin(-1)]
        asked = torch.where(labels[:, 0] == labels[:, 3], labels[:, 1], labels[:, 2])
        return torch.tensor([CLASSES.index(int(each)) if int(each) in CLASSES else 0 for each in asked])


class Seeds(Cheat):
    """Draws the evaluation items of every cell from their published seeds, and looks answers up."""

    def __init__(self, task: TaskInfo) -> None:
        super().__init__(task)
        made = make_task(load_task(task.id))
        self.known: dict[bytes, int] = {}
        for seed in range(2):
            batch = made.sample(192, split="eval", rng=generator(Cell(0, seed).seed(task.id, "eval")))
            assert isinstance(batch.inputs, torch.Tensor)
            for image, target in zip(batch.inputs, batch.targets, strict=True):
                self.known[image.numpy().tobytes()] = int(target)

    def answers(self, images: torch.Tensor) -> torch.Tensor:
        return torch.tensor([self.known.get(image.numpy().tobytes(), 0) for image in images])


class Frames(Cheat):
    """Looks for the targets in the frames of whoever calls it."""

    def answers(self, images: torch.Tensor) -> torch.Tensor:
        frame = sys._getframe()
        while frame := frame.f_back:
            for value in list(frame.f_locals.values()):
                if isinstance(value, Batch) and len(value.targets) == len(images):
                    return value.targets
        return torch.zeros(len(images), dtype=torch.int64)


@functools.cache
def _trained(id: str) -> nn.Module:
    made = make_task(load_task(id))
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 256), nn.ReLU(), nn.Linear(256, made.info.num_classes))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    rng = generator(12345)
    with torch.enable_grad(), one_thread():
        for _ in range(1500):
            batch = made.sample(128, split="train", rng=rng)
            loss = nn.functional.cross_entropy(model(batch.inputs), batch.targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model.requires_grad_(False)


def trained_before(task: TaskInfo) -> nn.Module:
    """Was trained while it was built, on the published training stream, and shows it only once training began."""
    cheat = Learned(task)
    cheat.before = _trained(task.id)
    return cheat


class Learned(Cheat):
    before: nn.Module

    def answers(self, images: torch.Tensor) -> torch.Tensor:
        return self.before(images).argmax(-1)


def frames(task: TaskInfo) -> nn.Module:
    return Frames(task)


def rule(task: TaskInfo) -> nn.Module:
    return Rule(task)


def seeds(task: TaskInfo) -> nn.Module:
    return Seeds(task)
