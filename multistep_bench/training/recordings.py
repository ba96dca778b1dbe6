"""The figures that a cell's diagnostics recorded so far, as its checkpoint keeps them."""

from typing import Any

import numpy as np
import torch

Recordings = list[tuple[int, dict[str, np.ndarray]]]  # samples, and the figures that were taken then


def plain_recordings(recordings: Recordings) -> list[Any]:
    """Numbers as tensors and names as lists of text, which load without unpickling."""
    return [(samples, {name: _plain(values) for name, values in figures.items()}) for samples, figures in recordings]


def restored_recordings(saved: list[Any]) -> Recordings:
    """What `plain_recordings` was given."""
    return [(samples, {name: _array(values) for name, values in figures.items()}) for samples, figures in saved]


def _plain(values: np.ndarray) -> Any:
    return values.tolist() if values.dtype.kind == "U" else torch.from_numpy(values)


def _array(values: Any) -> np.ndarray:
    return values.numpy() if isinstance(values, torch.Tensor) else np.array(values)
