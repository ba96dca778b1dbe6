"""What a machine of a cluster does: trains a group in a scratch folder, and sends all that is written there."""

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from multistep_bench.atomic import TEMPORARY, write_atomically
from multistep_bench.runs.diagnostics import DIAGNOSTICS_FOLDER
from multistep_bench.runs.folder import CHECKPOINTS_FOLDER, FAILURES_FOLDER, checkpoint_path
from multistep_bench.runs.spec import Cell
from multistep_bench.runs.store import CELLS_FOLDER, CellHeader, partial_path, record_path
from multistep_bench.training.group import Group, Job, Message, train
from multistep_bench.training.kept import kept_files
from multistep_bench.training.launchers.installation import versions, why_not_here

SENT = (CHECKPOINTS_FOLDER, DIAGNOSTICS_FOLDER, FAILURES_FOLDER)  # records are written by the run's own process


@dataclass(frozen=True)
class FileChange:
    """A file of the run folder with its new content, or None where it was removed; path: relative, with slashes."""

    path: str
    content: bytes | None

    def apply(self, folder: Path) -> None:
        """Makes the change in a folder."""
        path = folder / self.path
        if self.content is None:
            path.unlink(missing_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, self.content)


@dataclass(frozen=True)
class Update:
    """What a machine sends: first who it is, or why it refuses; then each message, after what was written before it.

    header: of a cell's record, with the first message of that cell.
    """

    message: Message | None = None
    header: CellHeader | None = None
    files: tuple[FileChange, ...] = ()
    refusal: str | None = None


def files_of(folder: Path, group: Group) -> tuple[FileChange, ...]:
    """What training of a group resumes from: its checkpoint, and the names of the weights that are kept of it."""
    checkpoint = checkpoint_path(folder, group[0])
    found = [(checkpoint, checkpoint.read_bytes())] if checkpoint.exists() else []
    found += [(path, b"") for cell in group for path in kept_files(folder, cell).values()]
    return tuple(FileChange(path.relative_to(folder).as_posix(), content) for path, content in found)


def train_and_send(
    job: Job, group: Group, files: tuple[FileChange, ...], wanted: Mapping[str, str]
) -> Iterator[Update]:
    """Trains one group of cells and yields what happens and what is written; nothing of it stays on this machine.

    files: as `files_of` gives them. wanted: see `why_not_here`.
    """
    refusal = why_not_here([job.spec], job.data_root, dict(wanted))
    yield Update(refusal=refusal)
    if refusal is not None:
        return
    if torch.device(job.device).type == "cpu":
        torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="multistep-bench-") as name:
        scratch = Path(name)
        (scratch / CELLS_FOLDER).mkdir()
        for each in files:
            each.apply(scratch)
        sent = _stamps(scratch)
        begun: set[Cell] = set()
        for message in train(replace(job, folder=scratch, versions=versions()), group):
            header = None if message.cell in begun else _header(scratch, message.cell)
            begun.add(message.cell)
            stamps = _stamps(scratch)
            changes = [FileChange(path, None) for path in sent if path not in stamps]
            changes += [
                FileChange(path, (scratch / path).read_bytes())
                for path, stamp in stamps.items()
                if sent.get(path) != stamp
            ]
            yield Update(message, header, tuple(changes))
            sent = stamps


def _stamps(scratch: Path) -> dict[str, tuple[int, int]]:
    """Path → what changes with each writing of a file, for it gets a new inode each time."""
    paths = [path for part in SENT for path in (scratch / part).rglob("*") if path.is_file()]
    whole = [path for path in paths if not path.name.startswith(TEMPORARY)]
    return {path.relative_to(scratch).as_posix(): (path.stat().st_ino, path.stat().st_mtime_ns) for path in whole}


def _header(scratch: Path, cell: Cell) -> CellHeader:
    record = record_path(scratch, cell)
    path = record if record.exists() else partial_path(scratch, cell)
    with path.open("rb") as file:
        return CellHeader.model_validate_json(file.readline())
