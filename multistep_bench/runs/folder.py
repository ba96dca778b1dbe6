"""The run folder: one specification, one record a cell, one process at a time."""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, TextIO, cast

from multistep_bench.errors import RunError
from multistep_bench.runs.record import (
    CELLS_FOLDER,
    SPEC_FILE,
    Evaluation,
    Header,
    Outcome,
    Record,
    line,
    partial_path,
    read_outcome,
    read_record,
    read_spec,
    record_path,
)
from multistep_bench.runs.spec import Cell, RunSpec

TEMPORARY = ".writing-"  # begins the names of files that are not whole yet
CHECKPOINTS_FOLDER = "checkpoints"


def write_atomically(path: Path, text: str) -> None:
    """Writes a file so that at any moment either the old or the whole new content is there."""
    with atomic_file(path) as file:
        file.write(text.encode())


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write into that takes the name `path` once it is whole and on the disk; an error leaves no trace."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=TEMPORARY, delete=False) as temporary:
        try:
            yield cast(BinaryIO, temporary)
            temporary.flush()
            os.fsync(temporary.fileno())
            os.chmod(temporary.name, 0o644)
            os.replace(temporary.name, path)
        except BaseException:
            os.unlink(temporary.name)
            raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class RunFolder:
    """A run folder held by this process; use as a context manager.

    Entering creates the folder or checks that it holds the same specification, and takes its lock. Raises
    `RunError` where the folder holds another run, cannot be written, or is in use by another process. The
    lock is the operating system's, so one left by a dead process does not hold.
    """

    def __init__(self, path: Path, spec: RunSpec) -> None:
        self.path = path
        self.spec = spec
        self._lock: TextIO | None = None

    def __enter__(self) -> "RunFolder":
        with _clear_errors(self.path):
            if (self.path / SPEC_FILE).exists():
                self._check_same_spec()
            elif self.path.is_dir() and any(entry.name != "lock" for entry in self.path.iterdir()):
                raise RunError(f"--out {self.path} is not empty and holds no run; give an empty or a new folder")
            (self.path / CELLS_FOLDER).mkdir(parents=True, exist_ok=True)
            self._take_lock()
            for leftover in self.path.rglob(f"{TEMPORARY}*"):
                leftover.unlink()
            if not (self.path / SPEC_FILE).exists():
                write_atomically(self.path / SPEC_FILE, self.spec.model_dump_json(by_alias=True, indent=1) + "\n")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lock is not None:
            self._lock.close()

    def finished(self) -> dict[Cell, Record]:
        """Records of the cells that need no more training; a failed cell is tried again."""
        cells = [cell for cell in self.spec.cells() if is_finished(self.path, cell)]
        return {cell: read_record(record_path(self.path, cell)) for cell in cells}

    def checkpoints(self) -> list[Path]:
        """Checkpoints of groups, those that were cut off and those at the end, in the order of the cells."""
        paths = [checkpoint_path(self.path, cell) for cell in self.spec.cells()]
        return [path for path in paths if path.exists()]

    def _check_same_spec(self) -> None:
        other = read_spec(self.path)
        if other.sha256() != self.spec.sha256():
            differences = "; ".join(_differences(other.dump(), self.spec.dump())[:3])
            raise RunError(
                f"--out {self.path} holds another run ({differences}); give another folder,"
                " or the same settings to resume it"
            )

    def _take_lock(self) -> None:
        self._lock = (self.path / "lock").open("a+")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.seek(0)
            owner = self._lock.read().strip() or "another process"
            self._lock.close()
            raise RunError(f"{self.path} is in use by {owner}; wait for it or give another --out") from None
        self._lock.truncate(0)
        self._lock.write(f"process {os.getpid()}\n")
        self._lock.flush()


class RecordWriter:
    """Appends one cell's record; the record gets its own name when the outcome is written."""

    def __init__(self, folder: Path, cell: Cell, header: Header) -> None:
        self._path = record_path(folder, cell)
        self._partial = partial_path(folder, cell)
        self._file = self._partial.open("w")
        self._file.write(line(header))
        self._file.flush()

    def write(self, event: Evaluation | Outcome) -> None:
        """Appends a line; an outcome finishes the record."""
        self._file.write(line(event))
        self._file.flush()
        if isinstance(event, Outcome):
            os.fsync(self._file.fileno())
            self._file.close()
            os.replace(self._partial, self._path)
            _sync_folder(self._path.parent)


def checkpoint_path(folder: Path, cell: Cell) -> Path:
    return folder / CHECKPOINTS_FOLDER / f"{cell.name}.pt"


def is_finished(folder: Path, cell: Cell) -> bool:
    """Whether a cell has a record and needs no more training; one that failed is tried again."""
    path = record_path(folder, cell)
    return path.exists() and read_outcome(path).status != "failed"


def attempts(folder: Path, cell: Cell) -> int:
    """How often the cell was started before."""
    for path in (partial_path(folder, cell), record_path(folder, cell)):
        if path.exists():
            first = path.read_bytes().split(b"\n", 1)[0]
            try:
                return Header.model_validate_json(first).attempts
            except ValueError:  # cut off while the header was being written
                return 1
    return 0


@contextmanager
def _clear_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunError(f"--out {path} cannot be written: {error.strerror}; give a folder you may write to") from None


def _differences(old: Any, new: Any, key: str = "") -> list[str]:
    """What differs between two trees of plain data, as "key: old there, new asked for"."""
    if isinstance(old, dict) and isinstance(new, dict):
        found = []
        for name in sorted({*old, *new}):
            found += _differences(old.get(name), new.get(name), f"{key}.{name}" if key else name)
        return found
    return [] if old == new else [f"{key}: {old!r} there, {new!r} asked for"]
