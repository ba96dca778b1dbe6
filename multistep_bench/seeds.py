"""Named random streams: a seed is the hash of what the stream is for, never a counter.

Equal names give equal streams on every machine, and no two names share one, so a cell's data, its
weights and its noise do not depend on which other cells run beside it.
"""

import hashlib
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

STREAMS = ("init", "train", "eval", "secondary", "noise")


def derive(*name: str | int) -> int:
    """A seed in [0, 2⁶³) from the SHA-256 of the parts of a stream's name."""
    digest = hashlib.sha256(json.dumps(name).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def cell_seed(task: str, rate_index: int, seed_index: int, stream: str) -> int:
    """The seed of one stream of a cell; `stream` is one of `STREAMS`."""
    if stream not in STREAMS:
        raise ValueError(f"stream '{stream}' is none of {STREAMS}")
    return derive("cell", task, rate_index, seed_index, stream)


def generator(seed: int, device: "torch.device | str" = "cpu") -> "torch.Generator":
    """A torch generator on `device`, started at `seed`."""
    import torch

    return torch.Generator(device=device).manual_seed(seed)
