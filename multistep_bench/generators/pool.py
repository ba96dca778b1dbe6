"""A pool of images: one split of a source, drawn from by class on any device."""

from collections.abc import Sequence
from typing import NamedTuple

import torch

from multistep_bench.generators.sampling import uniform
from multistep_bench.sources.images import LabelledImages


class Rows(NamedTuple):
    """A pool's tensors on one device.

    images [N, C·tile·tile] uint8, sorted by class; labels and ids [N] as in the source; for each class of the pool
    the number of its images and its first row.
    """

    images: torch.Tensor
    labels: torch.Tensor
    ids: torch.Tensor
    counts: torch.Tensor
    first: torch.Tensor


class Pool:
    """The images of one split of a source that belong to `classes`, sorted so that a class is a range of rows."""

    def __init__(self, split: LabelledImages, classes: Sequence[int], *, tile: int, white: int) -> None:
        number = torch.full((int(split.labels.max()) + 1,), len(classes), dtype=torch.int64)
        number[list(classes)] = torch.arange(len(classes), dtype=torch.int64)
        number = number[split.labels]  # N: which of `classes`, or len(classes) for another one
        counts = torch.bincount(number, minlength=len(classes))[: len(classes)]
        order = torch.argsort(number, stable=True)[: counts.sum()]
        images = resized(split.images[order], tile).flatten(1).contiguous()
        rows = Rows(images, split.labels[order], split.ids[order], counts, counts.cumsum(0) - counts)
        self.channels = split.images.shape[1]
        self.white = white
        self._on = {torch.device("cpu"): rows}

    def on(self, device: torch.device) -> Rows:
        """The pool's tensors on `device`; copied there once."""
        if device not in self._on:
            self._on[device] = Rows(*(tensor.to(device) for tensor in self._on[torch.device("cpu")]))
        return self._on[device]

    def draw(self, labels: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        """A uniform row of each class in `labels` (any shape), which count the pool's classes from 0."""
        rows = self.on(rng.device)
        position = uniform(*labels.shape, rng=rng)
        return rows.first[labels] + (position * rows.counts[labels]).long()


def resized(images: torch.Tensor, tile: int) -> torch.Tensor:
    """[N, C, h, w] uint8 → [N, C, tile, tile] uint8, bilinear with antialiasing, unchanged where the size fits."""
    if images.shape[-2:] == (tile, tile):
        return images
    parts = [
        torch.nn.functional.interpolate(part.double(), size=(tile, tile), mode="bilinear", antialias=True).round()
        for part in images.split(4096)  # bounds the memory that double precision takes
    ]
    return torch.cat([part.clamp(0, 255).to(torch.uint8) for part in parts])
