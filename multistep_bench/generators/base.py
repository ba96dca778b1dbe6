"""The base of every generator: it owns validation, randomness and devices; a subclass writes its rule."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch

from multistep_bench.batch import Batch, TaskInfo
from multistep_bench.cards import Levels
from multistep_bench.strict import Strict, validated

Split = Literal["train", "eval"]


class TaskGenerator(ABC):
    """A task's rule with its parameters fixed.

    A subclass names its `Parameters` (a strict record whose defaults are the rule's) and writes
    `levels`, `describe` and `draw`. It is built with the task's id, the parameters of a card, the preset
    of model size and the folder of data files, and raises `CardError` for parameters that break the
    schema. Sources are opened in `__init__` after `super().__init__`, so a missing file raises there.
    """

    Parameters: ClassVar[type[Strict]]

    def __init__(
        self,
        parameters: Mapping[str, Any],
        *,
        id: str,
        size: str = "tiny",
        data_root: Path | None = None,
    ) -> None:
        self.id = id
        self.size = size
        self.data_root = data_root
        self.parameters: Any = validated(self.Parameters, parameters, f"parameters of {id}")

    @abstractmethod
    def levels(self) -> Levels:
        """Chance, shortcut and ceiling, computed from the parameters; the docstring gives the formulas."""

    @abstractmethod
    def describe(self) -> TaskInfo:
        """The description that models are built from."""

    @abstractmethod
    def draw(self, n: int, split: Split, rng: torch.Generator) -> Batch:
        """n samples by whole-batch tensor code on `rng.device`, drawn from `rng` alone.

        Normal noise is drawn in float64: torch's float32 normals differ between kinds of CPU, and a
        card pins its batches by their hash.
        """

    def auxiliary(self, n: int, rng: torch.Generator) -> dict[str, Batch]:
        """Further held-out batches, by the name of what is measured on them; their curves stand beside the primary one.

        n: the items of a primary evaluation; a batch may hold fewer. Drawn once a cell, on the device of `rng`.
        """
        return {}

    def questions(self, n: int, *, split: Split, rng: torch.Generator) -> Batch:
        """n samples of which each asks for one answer or none, for environments; by default those of `sample`.

        A task that trains on several positions of a sample and is scored on one gives samples as they are scored, from
        the split's own source samples.
        """
        return self.sample(n, split=split, rng=rng)

    def correct(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Which answers count as right: bool, shaped like `batch.targets`, False where nothing is scored.

        logits: [..., K]. Batches of several cells may come stacked on a leading axis, so a rule works elementwise.
        """
        return logits.argmax(-1) == batch.targets  # an ignored target, -100, equals no class

    def token_name(self, token: int) -> str:
        """What a person reads for a token, or for a class that an answer names; for pictures of samples."""
        return str(token)

    @property
    def info(self) -> TaskInfo:
        """The description that models are built from."""
        return self.describe()

    def sample(self, n: int, *, split: Split, rng: torch.Generator, device: torch.device | str | None = None) -> Batch:
        """n fresh samples as a `Batch`.

        split: "train" or "eval"; the two never share a source sample.
        rng:   the stream they are drawn from; the batch is made on its device.
        device: where the batch is wanted, by default the stream's device. A batch is a function of the
        stream, and streams of the CPU and of a GPU differ, so asking for another device copies.
        """
        if split not in ("train", "eval"):
            raise ValueError(f"split '{split}' is neither 'train' nor 'eval'")
        if n < 1:
            raise ValueError(f"n = {n}: a batch has at least one sample")
        batch = self.draw(n, split, rng)
        if device is None or torch.device(device) == rng.device:
            return batch
        return batch.each(lambda tensor: tensor.to(device))
