"""Labelled images in two disjoint splits, opened by name; and the source `digits`, which scikit-learn ships.

Pixels stay uint8: generators select images first and scale them afterwards. A source is a function
`(data_root, download=True) -> ImageSource` under `@register_source("name")`.
"""

from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from multistep_bench.registry import register_source, sources

DIGITS_SPLIT_SEED = 2310_12956  # decides which of scikit-learn's digits are held out; never changed
DIGITS_TRAIN_FRACTION = 0.8


@dataclass(frozen=True)
class LabelledImages:
    """One split of a source.

    images: [N, C, h, w] uint8, C = 1 (grey) or 3 (red, green, blue).
    labels: [N] int64, the source's classes.
    ids:    [N] int64, the number of each image in the file or collection it comes from.
    """

    images: torch.Tensor
    labels: torch.Tensor
    ids: torch.Tensor


@dataclass(frozen=True)
class ImageSource:
    """Two splits that share no image.

    white:   the pixel value shown as 1.0.
    classes: the name of each class.
    where:   the folder the files were read from, or what made the images.
    """

    name: str
    train: LabelledImages
    eval: LabelledImages
    white: int
    classes: tuple[str, ...]
    where: str

    @property
    def summary(self) -> str:
        channels, height, width = self.train.images.shape[1:]
        return (
            f"{len(self.train.labels)} train and {len(self.eval.labels)} eval images of {height}×{width},"
            f" {channels} channel{'s' * (channels > 1)}, {len(self.classes)} classes"
        )


@lru_cache(maxsize=8)
def open_source(name: str, data_root: Path | None = None) -> ImageSource:
    """The source of that name, loaded once per process; raises `NotFound` or `DataError`."""
    return sources.get(name)(data_root)


@register_source("digits")
def digits(data_root: Path | None = None, download: bool = True) -> ImageSource:
    """The 1,797 handwritten 8×8 digits inside scikit-learn (test part of UCI's optical recognition); needs no files.

    80 % of each class are for training, by a permutation of NumPy's frozen legacy generator.
    """
    rows = _digit_rows()
    images = torch.from_numpy(rows[:, :-1].astype(np.uint8)).reshape(-1, 1, 8, 8)
    labels = rows[:, -1].astype(np.int64)
    shuffle = np.random.RandomState(DIGITS_SPLIT_SEED)
    train: list[np.ndarray] = []
    held_out: list[np.ndarray] = []
    for digit in range(10):
        ids = shuffle.permutation(np.flatnonzero(labels == digit))
        cut = round(DIGITS_TRAIN_FRACTION * len(ids))
        train.append(ids[:cut])
        held_out.append(ids[cut:])

    def split(parts: list[np.ndarray]) -> LabelledImages:
        ids = np.sort(np.concatenate(parts))
        return LabelledImages(images[ids], torch.from_numpy(labels[ids]), torch.from_numpy(ids))

    return ImageSource(
        "digits", split(train), split(held_out), white=16, classes=tuple("0123456789"), where="inside scikit-learn"
    )


def _digit_rows() -> np.ndarray:
    """[N, 65]: 64 pixels from 0 to 16 and the class of each of scikit-learn's digits.

    Read from the package's file: to import the package takes every process as long as hundreds of training steps.
    """
    package = find_spec("sklearn")
    if package is not None and package.origin is not None:
        path = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
        if path.is_file():
            return np.loadtxt(path, delimiter=",")
    from sklearn.datasets import load_digits  # of a version that keeps them elsewhere

    bunch: Any = load_digits()
    return np.column_stack((bunch["data"], bunch["target"]))
