"""Checkpoints: written atomically, checked by their hash and read without unpickling, so a killed run resumes.

A file is one line of JSON, which says of which run and cells it is and the hash of the rest, and what torch saved.
"""

import hashlib
import io
import warnings
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field

from multistep_bench.atomic import atomic_file
from multistep_bench.errors import RunError
from multistep_bench.runs.spec import Cell
from multistep_bench.strict import Strict


class CheckpointHeader(Strict):
    """identity: of the run; cells: of the group that was trained together; sha256: of the bytes after this line."""

    schema_: Literal["msb.checkpoint/1"] = Field(default="msb.checkpoint/1", alias="schema")
    identity: str
    cells: list[list[int]]
    sha256: str


def save_checkpoint(path: Path, identity: str, cells: list[Cell], state: dict[str, Any]) -> None:
    """Writes tensors and plain data; an error, such as a full disk, leaves the checkpoint before in place."""
    buffer = io.BytesIO()  # torch's own writer hides what the operating system says of a full disk
    torch.save(state, buffer)
    content = buffer.getbuffer()
    header = CheckpointHeader(
        identity=identity,
        cells=[[cell.rate_index, cell.seed_index] for cell in cells],
        sha256=hashlib.sha256(content).hexdigest(),
    )
    path.parent.mkdir(exist_ok=True)
    with atomic_file(path) as file:
        file.write(header.model_dump_json(by_alias=True).encode() + b"\n")
        file.write(content)


def read_checkpoint_header(path: Path) -> CheckpointHeader:
    """Raises `RunError` for a file that does not begin as a checkpoint does."""
    try:
        with path.open("rb") as file:
            return CheckpointHeader.model_validate_json(file.readline(1 << 20))
    except (OSError, ValueError):
        raise RunError(f"{path} is no checkpoint of this suite") from None


def load_checkpoint(path: Path, identity: str) -> dict[str, Any]:
    """The state at `path` with its tensors on the CPU.

    Raises `RunError` for a file that is damaged, or belongs to another run than that of the identity.
    """
    header = read_checkpoint_header(path)
    if header.identity != identity:
        raise RunError(f"{path} is a checkpoint of another run")
    with path.open("rb") as file:
        file.readline()
        content = file.read()
    if hashlib.sha256(content).hexdigest() != header.sha256:
        raise RunError(f"{path} is damaged: its content does not have the hash that stands in it")
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def set_aside(path: Path, reason: RunError) -> None:
    """Renames a checkpoint that cannot be used, so that its cells start again, and says so."""
    aside = path.with_name(f"{path.name}.unusable")
    path.replace(aside)
    warnings.warn(f"{reason}; it was renamed to {aside.name}, and its cells start again", stacklevel=3)
