"""Makes an entry from runs: packs, hashes, scores and verifies them."""

import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from multistep_bench.atomic import TEMPORARY, write_atomically
from multistep_bench.errors import BenchError, RunError
from multistep_bench.leaderboard.checks.recipe import recipe_changes, spec_problems
from multistep_bench.leaderboard.entry import ENTRY_FILE, RUNS_FOLDER, Track, is_entry_name, is_url, make_entry_file
from multistep_bench.leaderboard.references import references
from multistep_bench.leaderboard.verify import Verdict, verify
from multistep_bench.runs.store import Run, read_run
from multistep_bench.scoring.score import score


@dataclass(frozen=True)
class Submission:
    """An entry as it was written into `folder`; its verdict says what will be published."""

    folder: Path
    verdict: Verdict

    @property
    def files(self) -> list[Path]:
        return sorted(path for path in self.folder.rglob("*") if path.is_file())

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(path.stat().st_size for path in self.files)


def submit(
    runs: Iterable[str | Path], name: str, url: str, *, declared_open: bool = False, board: Path = Path("leaderboard")
) -> Submission:
    """Writes the entry `name` of complete runs of one model into board/entries/name, and nothing anywhere else.

    declared_open: the submitter says that the recipe is not the protocol's.
    Raises `BenchError` with every problem where the entry would not verify; then nothing is left behind.
    """
    if not is_entry_name(name):
        raise BenchError(f"--name {name[:80]!r}: lower-case letters, digits, _ and -, at most 64, no device's name")
    if not is_url(url):
        raise BenchError(f"--url {url[:80]!r}: give an https address of at most 200 plain characters")
    if not board.is_dir():
        raise BenchError(f"there is no folder {board}; run this in a checkout, or name the board's folder with --board")
    folder = board / "entries" / name
    if folder.exists() or name in {entry.name for entry in references()}:
        raise BenchError(f"there is an entry '{name}'; choose another --name, or remove {folder} to submit it anew")
    read = sorted((read_run(path) for path in runs), key=lambda run: run.spec.task.id)
    _check(read, declared_open)
    with _new_folder(folder) as draft:
        _copy(read, draft)
        _write_entry_file(read, draft, name, url, "open" if declared_open else "fixed")
        verdict = verify(draft, among=board)
        if not verdict.sound:
            raise BenchError(f"this would be no sound entry: {'; '.join(verdict.problems[:10])}")
    return Submission(folder, verdict)


def _check(runs: Sequence[Run], declared_open: bool) -> None:
    """Says what a submitter can mend, before anything is written."""
    if not runs:
        raise RunError("there is no run to submit; give at least one run folder")
    tasks = [run.spec.task.id for run in runs]
    if len(set(tasks)) < len(tasks):
        raise RunError(f"two of these runs are of one task ({', '.join(tasks)}); an entry has one run a task")
    for run in runs:
        problems = list(spec_problems(run.spec))
        if problems:
            raise RunError(f"{run.path} cannot be an entry: {'; '.join(problems)}")
        if run.missing:
            cells = len(run.spec.cells())
            raise RunError(f"{run.path} lacks {len(run.missing)} of {cells} cells; the same `run` trains them")
    changes = {key: value for run in runs for key, value in recipe_changes(run.spec).items()}
    if changes and not declared_open:
        raise RunError(f"these runs are of the open track, for {_listed(changes)} is not the protocol's; add --open")
    if declared_open and not changes:
        raise RunError("--open: these runs follow the protocol as it is; leave it out")


def _listed(changes: dict[str, object]) -> str:
    return ", ".join(f"{key}={json.dumps(value)}" for key, value in changes.items())


def _copy(runs: Sequence[Run], draft: Path) -> None:
    (draft / RUNS_FOLDER).mkdir()
    for run in runs:
        (draft / RUNS_FOLDER / f"{run.spec.task.id}.jsonl").write_bytes(run.packed)


def _write_entry_file(runs: Sequence[Run], draft: Path, name: str, url: str, track: Track) -> None:
    entry_file = make_entry_file(name, url, track, list(zip(runs, score(runs).runs, strict=True)))
    write_atomically(draft / ENTRY_FILE, entry_file.model_dump_json(by_alias=True, indent=1) + "\n")


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """A folder to fill, of the same name beside the one that it becomes once it is whole; an error leaves no trace."""
    try:
        folder.parent.mkdir(exist_ok=True)
    except OSError as error:
        raise BenchError(f"{folder.parent} cannot hold entries ({error.strerror}); move it away") from None
    with tempfile.TemporaryDirectory(prefix=TEMPORARY, dir=folder.parent) as temporary:
        draft = Path(temporary) / folder.name
        draft.mkdir()
        yield draft
        os.rename(draft, folder)
