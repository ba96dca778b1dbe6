"""Checkpoints: written atomically, read without unpickling, so a killed run goes on where it was."""

import io
from pathlib import Path
from typing import Any

import torch

from multistep_bench.errors import RunError
from multistep_bench.runs.folder import atomic_file


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Writes tensors and plain data; an error, such as a full disk, leaves the checkpoint before in place."""
    content = io.BytesIO()  # torch's own writer hides what the operating system says of a full disk
    torch.save(state, content)
    path.parent.mkdir(exist_ok=True)
    with atomic_file(path) as file:
        file.write(content.getbuffer())


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """The state at `path` with its tensors on the CPU, or None if there is none.

    Raises `RunError` for a file that is no checkpoint.
    """
    if not path.exists():
        return None
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch raises many kinds for a damaged file
        raise RunError(f"{path} is no checkpoint ({type(error).__name__}); delete it to train the cell anew") from None
