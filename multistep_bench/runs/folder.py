"""The run folder while it is written: one specification, one file a cell, one process at a time, packed at the end."""

import errno
import os
import socket
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from multistep_bench.atomic import TEMPORARY, sync_folder, write_atomically
from multistep_bench.errors import RunError
from multistep_bench.runs.events import Evaluation, Outcome, event_line
from multistep_bench.runs.record import Record
from multistep_bench.runs.spec import Cell, RunSpec
from multistep_bench.runs.store import (
    CELLS_FOLDER,
    RUN_FILE,
    SPEC_FILE,
    CellHeader,
    Run,
    partial_path,
    read_run,
    read_spec,
    record_path,
    write_packed,
)

CHECKPOINTS_FOLDER = "checkpoints"
FAILURES_FOLDER = "failures"  # tracebacks
LOCK_FILE = "lock"
OWNER_FILE = "lock.owner"
NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOTSUP}  # what file systems without locks answer


class RunFolder:
    """A run folder held by this process; use as a context manager.

    Entering creates the folder or checks that it holds the same run, and takes its lock. Raises `RunError` where the
    folder holds another run, cannot be written, or is in use by another process. The lock is the operating system's,
    so one left by a dead process does not hold.
    """

    def __init__(self, path: Path, spec: RunSpec) -> None:
        self.path = path
        self.spec = spec
        self._lock: BaseFileLock | None = None

    def check(self) -> None:
        """Raises `RunError` where the folder holds another run or something else; writes nothing."""
        if (self.path / SPEC_FILE).is_file() or (self.path / RUN_FILE).is_file():
            self._check_same_run()
        elif foreign := next(_foreign_content(self.path), None):
            raise RunError(
                f"--out {self.path} holds {foreign} and no run; give an empty or a new folder, or move it away"
            )

    def __enter__(self) -> "RunFolder":
        with _clear_errors(self.path):
            self.check()
            (self.path / CELLS_FOLDER).mkdir(parents=True, exist_ok=True)
            self._lock = take_lock(self.path)
            for leftover in self.path.rglob(f"{TEMPORARY}*"):
                leftover.unlink()
            write_atomically(self.path / SPEC_FILE, self.spec.model_dump_json(by_alias=True, indent=1) + "\n")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lock is not None:
            with suppress(OSError):
                (self.path / OWNER_FILE).unlink(missing_ok=True)
            self._lock.release()

    def finished(self) -> dict[Cell, Record]:
        """Records of the cells that need no more training; a failed cell is tried again."""
        return {record.cell: record for record in read_run(self.path).records if record.status != "failed"}

    def attempts(self) -> dict[Cell, int]:
        """How often each cell was started before, where it was."""
        found = {record.cell: record.attempts for record in read_run(self.path).records}
        for cell in self.spec.cells():
            path = partial_path(self.path, cell)
            if path.is_file():
                with path.open("rb") as file:
                    first = next(file, b"")
                try:
                    found[cell] = CellHeader.model_validate_json(first).attempts
                except ValueError:  # cut off while the header was being written
                    found[cell] = found.get(cell, 0) + 1
        return found

    def pack(self, *, incomplete: bool = False) -> Run:
        """The run as it stands, packed into run.jsonl if it is whole; the files that it replaces are removed.

        A run with failed or missing cells is packed only if `incomplete` is wanted. A process that is killed here
        leaves both forms or the packed one, never less.
        """
        run = read_run(self.path)
        if (run.missing or run.failed) and not incomplete:
            return run
        write_packed(self.path / RUN_FILE, run)
        for record in run.records:
            record_path(self.path, record.cell).unlink(missing_ok=True)
        (self.path / SPEC_FILE).unlink()
        with suppress(OSError):  # it still holds what an interrupted cell has written
            (self.path / CELLS_FOLDER).rmdir()
        return read_run(self.path)

    def checkpoints(self) -> list[Path]:
        """Checkpoints of groups, those that were cut off and those at the end, in the order of the cells."""
        paths = [checkpoint_path(self.path, cell) for cell in self.spec.cells()]
        return [path for path in paths if path.exists()]

    def _check_same_run(self) -> None:
        other = read_spec(self.path)
        if other.identity() != self.spec.identity():
            differences = "; ".join(_differences(other.dump(), self.spec.dump())[:3])
            raise RunError(
                f"--out {self.path} holds another run ({differences}); give another folder,"
                " or the same settings to resume it"
            )


def take_lock(folder: Path) -> BaseFileLock:
    """The lock of a folder, held; raises `RunError` where another process holds it.

    Where the file system has no locks that work, as some network file systems, a file that marks the folder as taken
    stands in for one, and a warning says so.
    """
    path = folder / LOCK_FILE
    if path.is_symlink():
        raise RunError(f"{path} is a link, not a lock; remove it")
    lock: BaseFileLock = FileLock(path, timeout=0, is_singleton=False)
    try:
        lock.acquire()
        if not _excludes(path):
            lock.release()
            raise NotImplementedError
    except Timeout:
        raise RunError(f"{folder} is in use by {_owner(folder)}; wait for it or give another --out") from None
    except NotImplementedError:
        lock = _soft_lock(folder)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        lock = _soft_lock(folder)
    (folder / OWNER_FILE).write_text(f"process {os.getpid()} on {socket.gethostname()}\n", encoding="utf-8")
    return lock


def _excludes(path: Path) -> bool:
    """Whether a lock that is held keeps a second one out, as it should on every file system and on some does not."""
    second = FileLock(path, timeout=0, is_singleton=False)
    try:
        second.acquire()
    except Timeout:
        return True
    second.release()
    return False


def _soft_lock(folder: Path) -> BaseFileLock:
    path = folder / f"{LOCK_FILE}.soft"
    warnings.warn(
        f"the file system of {folder} has no locks that work, so the file {path.name} marks the folder as in use;"
        " if a process is killed there, remove that file before resuming",
        stacklevel=4,
    )
    lock = SoftFileLock(path, timeout=0, is_singleton=False)
    try:
        lock.acquire()
    except Timeout:
        raise RunError(
            f"{folder} is in use by {_owner(folder)}; wait for it, or remove {path} if that process is gone"
        ) from None
    return lock


def _owner(folder: Path) -> str:
    with suppress(OSError, UnicodeDecodeError):
        owner = (folder / OWNER_FILE).read_text(encoding="utf-8").strip()
        if owner.isprintable() and 0 < len(owner) < 200:
            return owner
    return "another process"


class RecordWriter:
    """Appends one cell's events; the file gets its own name when the outcome is written."""

    def __init__(self, folder: Path, cell: Cell, header: CellHeader) -> None:
        self._path = record_path(folder, cell)
        self._partial = partial_path(folder, cell)
        self._partial.unlink(missing_ok=True)  # a new file, never one that another process still writes
        self._file = self._partial.open("x", encoding="utf-8", newline="\n")
        self._file.write(event_line(header))
        self._file.flush()

    def write(self, event: Evaluation | Outcome) -> None:
        """Appends a line; an outcome finishes the record."""
        self._file.write(event_line(event))
        self._file.flush()
        if isinstance(event, Outcome):
            os.fsync(self._file.fileno())
            mine, there = os.fstat(self._file.fileno()), os.stat(self._partial)
            self._file.close()
            if (mine.st_dev, mine.st_ino) != (there.st_dev, there.st_ino):
                raise FileExistsError(f"{self._partial} is being written by another process")
            os.replace(self._partial, self._path)
            sync_folder(self._path.parent)


def close_abandoned(folder: Path, cell: Cell, reason: str) -> Outcome | None:
    """Ends the record of a cell whose process is gone as failed, with the whole lines it wrote; None without any."""
    partial = partial_path(folder, cell)
    try:
        header, *lines = partial.read_bytes().splitlines(keepends=True)
        CellHeader.model_validate_json(header)
        whole = [line for line in lines if line.endswith(b"\n")]
        last = Evaluation.model_validate_json(whole[-1]) if whole else None
    except (OSError, ValueError):  # nothing was written, or not even the header
        return None
    samples, seconds = (last.samples, last.seconds) if last else (0, 0.0)
    outcome = Outcome(status="failed", reason=reason, samples=samples, seconds=seconds)
    write_atomically(record_path(folder, cell), b"".join([header, *whole]).decode() + event_line(outcome))
    partial.unlink()
    return outcome


def traceback_path(folder: Path, cell: Cell) -> Path:
    """The file with the traceback of a cell whose program broke."""
    return folder / FAILURES_FOLDER / f"{cell.name}.txt"


def where_tracebacks_are(folders: Iterable[Path]) -> str:
    """What an error about broken cells of runs says of their tracebacks; nothing where none was kept."""
    found = [str(folder / FAILURES_FOLDER) for folder in folders if (folder / FAILURES_FOLDER).is_dir()]
    return f"; tracebacks are in {', '.join(found[:3])}" if found else ""


def checkpoint_path(folder: Path, cell: Cell) -> Path:
    return folder / CHECKPOINTS_FOLDER / f"{cell.name}.pt"


def _foreign_content(folder: Path) -> Iterator[str]:
    """Names in a folder without a run that a run killed at its start would not have left."""
    if not folder.exists():
        return
    for entry in folder.iterdir():
        own = entry.name in (LOCK_FILE, OWNER_FILE, f"{LOCK_FILE}.soft") or entry.name.startswith(TEMPORARY)
        if own or (entry.is_dir() and not entry.is_symlink() and next(entry.iterdir(), None) is None):
            continue
        yield entry.name


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
