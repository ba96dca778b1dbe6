"""What stands so far in the files that cells grow in: for whoever looks on while another process trains."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from multistep_bench.runs.events import Evaluation
from multistep_bench.runs.spec import Cell, RunSpec
from multistep_bench.runs.store import CellHeader, partial_path

QUIET = 60.0  # seconds without a word from a cell that are worth telling
USUAL = 10  # times the longest wait for an evaluation so far, which are not


@dataclass(frozen=True)
class Growing:
    """A cell that has begun and not ended.

    items: of its evaluation set. heard: when its file was last written to, in seconds since the epoch.
    """

    cell: Cell
    items: int
    evaluations: list[Evaluation]
    heard: float


def growing_cells(folder: Path, spec: RunSpec) -> Iterator[Growing]:
    """The cells of a run folder that have begun and not ended; a line that is still being written is left out."""
    for cell in spec.cells():
        path = partial_path(folder, cell)
        try:
            heard = path.stat().st_mtime
            header, *lines = path.read_bytes().splitlines(keepends=True)
            items = CellHeader.model_validate_json(header).evaluation.items
            read = [Evaluation.model_validate_json(line) for line in lines if line.endswith(b"\n")]
        except (OSError, ValueError):  # it ended just now, or has not written its first line
            continue
        yield Growing(cell, items, read, heard)
