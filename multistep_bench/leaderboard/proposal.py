"""A pull request that proposes an entry: what it may change, and the entry verified as the board would have it.

Nothing of the proposed tree is run or imported: its entries are copied beside those of the base, and read there.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from multistep_bench.errors import BenchError
from multistep_bench.leaderboard.entry import REPRODUCTIONS_FILE
from multistep_bench.leaderboard.verify import Verdict, verify
from multistep_bench.printable import ONE_LINE, printable

ENTRIES = PurePosixPath("leaderboard/entries")
ADDED, DELETED = "A", "D"
LABEL = "board-maintenance"


@dataclass(frozen=True)
class Change:
    """A file that a pull request adds ("A"), deletes ("D") or changes (any other letter of git's)."""

    status: str
    path: str

    @property
    def entry(self) -> str | None:
        """The name of the entry that the file is of, None for a file outside all entries."""
        parts = PurePosixPath(self.path).parts
        return parts[2] if len(parts) > 3 and parts[:2] == ENTRIES.parts else None


@dataclass(frozen=True)
class Proposal:
    """What was found of a pull request: problems of what it changes, and a verdict on every entry that it leaves."""

    problems: tuple[str, ...]
    verdicts: tuple[Verdict, ...]

    @property
    def sound(self) -> bool:
        return not self.problems and all(verdict.sound for verdict in self.verdicts)

    def to_dict(self) -> dict[str, Any]:
        entries = [verdict.to_dict() for verdict in self.verdicts]
        return {"sound": self.sound, "problems": list(self.problems), "entries": entries}


def read_changes(listing: Path) -> list[Change]:
    """A file with the output of `git diff --name-status -z --no-renames`; raises `BenchError` for anything else."""
    try:
        content = listing.read_bytes()
    except OSError as error:
        raise BenchError(f"--changes {listing} cannot be read: {error.strerror}; give git's list of changes") from None
    fields = content.split(b"\0")
    if fields.pop() or len(fields) % 2:
        raise BenchError("the list of changes is cut off; make it with `git diff --name-status -z --no-renames`")
    changes = [
        Change(os.fsdecode(status), os.fsdecode(path)) for status, path in zip(fields[::2], fields[1::2], strict=True)
    ]
    if not changes:
        raise BenchError("the list of changes is empty, so nothing would be verified; give the two commits that differ")
    return changes


def examine(changes: Sequence[Change], proposed: Path, board: Path, *, maintained: bool = False) -> Proposal:
    """Verifies the entries of a pull request among those of the base.

    proposed:   the checkout of the pull request. board: the base's folder of the board.
    maintained: a maintainer has looked at what changes, so that it may be anything; entries are verified all the same.
    """
    problems = () if maintained else tuple(printable(each, ONE_LINE) for each in _change_problems(changes, board))
    names = sorted({change.entry for change in changes if change.entry is not None})
    with tempfile.TemporaryDirectory() as temporary:
        staged = Path(temporary) / "board"
        _copy(board / "entries", staged / "entries")
        left = [name for name in names if os.path.lexists(proposed / ENTRIES / name)]
        for name in left:  # one that is deleted stays, so that it does not come back under another name
            _replace(proposed / ENTRIES / name, staged / "entries" / name)
        verdicts = [verify(staged / "entries" / name, among=staged) for name in left]
    return Proposal(problems, tuple(verdicts))


def _change_problems(changes: Sequence[Change], board: Path) -> Iterator[str]:
    names = sorted({change.entry for change in changes if change.entry is not None})
    way_out = f"a maintainer may allow it with the label {LABEL}"
    for change in changes:
        if change.entry is None:
            yield f"{change.path} is outside {ENTRIES}/NAME/; {way_out}"
        elif change.status == DELETED:
            yield f"{change.path} is deleted; {way_out}"
        elif PurePosixPath(change.path).name == REPRODUCTIONS_FILE:
            yield f"{change.path} holds notes of re-runs, which maintainers bring; {way_out}"
    if len(names) > 1:
        yield f"it changes {len(names)} entries, {', '.join(names[:5])}; propose one at a time, or {way_out}"
    for name in names:
        if os.path.lexists(board / "entries" / name):
            yield f"entry {name} is on the board already; {way_out}"


def _copy(source: Path, target: Path) -> None:
    """A folder with its links as links."""
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True)
    else:
        target.mkdir(parents=True)


def _replace(source: Path, target: Path) -> None:
    """Puts the proposed entry in the place of the base's."""
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target)
    elif os.path.lexists(target):
        target.unlink()
    if source.is_symlink():
        target.symlink_to(os.readlink(source))
    elif source.is_dir():
        shutil.copytree(source, target, symlinks=True)
    else:
        shutil.copyfile(source, target)
