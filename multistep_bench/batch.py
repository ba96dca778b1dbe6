"""What a generator hands to a model: a batch, and the description models are built from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import gymnasium
import torch

IGNORED = -100  # a target that is not scored; the default `ignore_index` of torch's cross-entropy

Inputs = torch.Tensor | dict[str, torch.Tensor]
Region = tuple[int, int, int, int]


@dataclass(frozen=True)
class Batch:
    """One batch of B samples.

    inputs:  images [B, C, H, W] float32; tokens [B, T] int64; or a dict of such tensors.
    targets: [B] or [B, T] int64, `IGNORED` where nothing is scored.
    steps:   the intermediate variables z by name, each [B] int64; never shown to a model that is scored.
    """

    inputs: Inputs
    targets: torch.Tensor
    steps: dict[str, torch.Tensor]

    def each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> "Batch":
        """The batch with every tensor changed alike: moved to a device, say, or sliced."""
        inputs = self.inputs
        return Batch(
            inputs={k: change(v) for k, v in inputs.items()} if isinstance(inputs, dict) else change(inputs),
            targets=change(self.targets),
            steps={k: change(v) for k, v in self.steps.items()},
        )

    def split(self, size: int) -> list["Batch"]:
        """The batch in pieces of at most `size` samples."""
        return [
            self.each(lambda tensor, first=first: tensor[first : first + size])
            for first in range(0, len(self.targets), size)
        ]

    def tensors(self) -> dict[str, torch.Tensor]:
        """Every tensor by name, in an order that does not change."""
        inputs = self.inputs if isinstance(self.inputs, dict) else {"inputs": self.inputs}
        return {**dict(sorted(inputs.items())), "targets": self.targets, **dict(sorted(self.steps.items()))}


@dataclass(frozen=True)
class TaskInfo:
    """Everything a model may know about a task before it sees data.

    observation_space, target_space: gymnasium spaces of one sample's inputs and target.
    num_classes: the width K of the logits.
    layout:   region name → (top, left, height, width) in pixels, or (0, first token, 1, tokens).
    size:     the preset of model size that the task's card or protocol asks for, such as "tiny".
    chance, shortcut, ceiling: accuracy of guessing, of the best model that ignores z, of a perfect one.
    shortcut is None for a control task that has no intermediate step.
    steps:    the names in `Batch.steps`.
    """

    id: str
    observation_space: gymnasium.Space
    target_space: gymnasium.Space
    num_classes: int
    kind: Literal["image", "tokens", "episode"]
    layout: Mapping[str, Region]
    size: str
    chance: float
    shortcut: float | None
    ceiling: float
    steps: tuple[str, ...]
