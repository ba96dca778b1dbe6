"""What an entry of the leaderboard is: packed runs, a manifest that hashes them, and the notes of re-runs.

NAME/entry.json             who, which track, the hash of every file, the scores as submitted
NAME/runs/TASK.jsonl        a packed run, as in a run folder
NAME/reproductions.jsonl    a line for each time that somebody re-ran some of the cells
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field

from multistep_bench.leaderboard.notes import Reproduction, Sha256
from multistep_bench.runs.store import Run
from multistep_bench.scoring.cell_set import CellSetScore
from multistep_bench.scoring.run import RunScore
from multistep_bench.scoring.score import SCORER_VERSION
from multistep_bench.scoring.statistics import Interval
from multistep_bench.strict import Strict, content_sha256

ENTRY_SCHEMA = "msb.entry/2"
ENTRY_FILE = "entry.json"
RUNS_FOLDER = "runs"
REPRODUCTIONS_FILE = "reproductions.jsonl"

NAME = r"[a-z0-9][a-z0-9_-]{0,63}"
DEVICE_NAMES = {"con", "prn", "aux", "nul"} | {f"{port}{digit}" for port in ("com", "lpt") for digit in range(10)}
URL = r"https://[A-Za-z0-9.-]+\.[A-Za-z]{2,}(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~%/?#=&+,@:-]*)?"
URL_LENGTH = 200

Track = Literal["fixed", "open"]
Tier = Literal["self-reported", "re-scored", "reproduced"]
Triple = Annotated[tuple[float, float, float], Field(strict=False)]


class SetSummary(Strict):
    """What is published of a cell set: n cells, k events, and [estimate, low, high] of p, S, A and the task's Q."""

    n: int
    events: int
    probability: Triple | None
    speed: Triple
    final_accuracy: Triple
    profile: Triple | None


class RunManifest(Strict):
    """A run of the entry: which run it is, the hash of its file, and its scores."""

    task: str
    identity: Sha256
    sha256: Sha256
    grid: SetSummary
    tuned: SetSummary | None


class EntryFile(Strict):
    """entry.json; `root` is the hash of everything else in it, and so of every curve."""

    schema_: Literal["msb.entry/2"] = Field(default=ENTRY_SCHEMA, alias="schema")
    name: str
    url: str
    track: Track
    scorer: str = SCORER_VERSION
    runs: tuple[RunManifest, ...] = Field(min_length=1, strict=False)
    root: Sha256

    def computed_root(self) -> str:
        return content_sha256(self.model_dump(mode="json", by_alias=True, exclude={"root"}))


@dataclass(frozen=True)
class Entry:
    """An entry as read. A reference has neither file nor folder of its own: its runs are baselines/results.

    older_code: of a reference, that the present code was not seen to make its curves again.
    """

    name: str
    url: str
    track: Track
    runs: tuple[Run, ...]
    root: str
    file: EntryFile | None = None
    run_hashes: tuple[str, ...] = ()  # SHA-256 of the file of each run, as its bytes are
    reproductions: tuple[Reproduction, ...] = ()
    older_code: bool = False

    @property
    def reference(self) -> bool:
        return self.file is None

    @property
    def badge(self) -> str:
        """What stands behind its name on the board; empty for a submitted entry."""
        return "" if not self.reference else "reference of older code" if self.older_code else "reference"


def is_entry_name(name: str) -> bool:
    """Lower-case ASCII that is a folder's name on every system."""
    return re.fullmatch(NAME, name) is not None and name not in DEVICE_NAMES


def is_url(url: str) -> bool:
    """An https address without user name, quotes or anything that is not plain ASCII."""
    return len(url) <= URL_LENGTH and re.fullmatch(URL, url) is not None and urlsplit(url).username is None


def make_entry_file(name: str, url: str, track: Track, runs: Iterable[tuple[Run, RunScore]]) -> EntryFile:
    """entry.json of runs, each with its score."""
    manifests = []
    for run, scored in runs:
        grid, tuned = summaries(scored)
        task, identity = run.spec.task.id, run.spec.identity()
        manifests.append(RunManifest(task=task, identity=identity, sha256=run.sha256, grid=grid, tuned=tuned))
    unsigned = EntryFile(name=name, url=url, track=track, runs=tuple(manifests), root="0" * 64)
    return unsigned.model_copy(update={"root": unsigned.computed_root()})


def summaries(scored: RunScore) -> tuple[SetSummary, SetSummary | None]:
    """What a manifest holds of a run's score: over the grid, and at tuned rates."""
    return _summary(scored.grid), _summary(scored.tuned) if scored.tuned else None


def _summary(cells: CellSetScore) -> SetSummary:
    return SetSummary(
        n=cells.n,
        events=cells.events,
        probability=_triple(cells.probability),
        speed=(cells.speed.estimate, cells.speed.low, cells.speed.high),
        final_accuracy=(cells.final_accuracy.estimate, cells.final_accuracy.low, cells.final_accuracy.high),
        profile=_triple(cells.profile),
    )


def entry_folders(board: Path) -> Iterator[Path]:
    """The folders of a board's entries, sorted; links and files beside them are not entries."""
    folder = board / "entries"
    if folder.is_dir():
        yield from sorted(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink())


def _triple(interval: Interval | None) -> tuple[float, float, float] | None:
    return None if interval is None else (interval.estimate, interval.low, interval.high)
