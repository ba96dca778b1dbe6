"""The reference baselines as the board's first entries: their runs lie in baselines/results, and nowhere twice."""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from multistep_bench.cards import card_folder
from multistep_bench.errors import BenchError
from multistep_bench.leaderboard.entry import Entry
from multistep_bench.leaderboard.recipe import track_of
from multistep_bench.runs.record import SPEC_FILE, Run, read_run, read_spec
from multistep_bench.strict import content_sha256


def results_folder() -> Path:
    """Where the runs lie, each in TASK/PROTOCOL/MODEL."""
    return card_folder("baselines") / "results"


@lru_cache(maxsize=1)
def references() -> tuple[Entry, ...]:
    """The reference entries, one a baseline and protocol, each over the tasks that it has been run on.

    Runs under a changed protocol, which are kept to show something else, and those of models that no leaderboard takes
    are not among them.
    """
    runs: dict[tuple[str, str], list[Run]] = {}
    for folder in _run_folders():
        spec = read_spec(folder)
        if not spec.changes and spec.model.leaderboard:
            runs.setdefault((folder.name, spec.protocol_name), []).append(read_run(folder))
    return tuple(_entry(name, tuple(its)) for (name, _), its in sorted(runs.items()))


def _run_folders() -> Iterator[Path]:
    yield from sorted(path.parent for path in results_folder().glob(f"*/*/*/{SPEC_FILE}"))


def _entry(name: str, runs: tuple[Run, ...]) -> Entry:
    hashes = {run.spec.task.id: {record.cell.name: record.sha256 for record in run.records} for run in runs}
    try:
        tracks = [track_of(run.spec) for run in runs]
    except BenchError:  # of a card that no longer ships; `verify_entry` says so
        tracks = []
    return Entry(name, "", "open" if "open" in tracks else "fixed", runs, content_sha256(hashes))
