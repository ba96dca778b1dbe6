"""The reference baselines as the board's first entries: their runs lie in baselines/results, and nowhere twice.

They are part of the repository and not of the installed package, which has no references.
"""

from functools import lru_cache

from multistep_bench.errors import BenchError
from multistep_bench.leaderboard.checks.recipe import track_of
from multistep_bench.leaderboard.entry import Entry
from multistep_bench.reporting.references import older_code, reference_name, reference_runs
from multistep_bench.runs.store import Run, read_run
from multistep_bench.strict import content_sha256

NO_REFERENCES = "for their runs lie in a checkout of the suite's repository, and this is none"


@lru_cache(maxsize=1)
def references() -> tuple[Entry, ...]:
    """The reference entries, one a baseline and protocol, each over the tasks that it has been run on.

    Runs under a changed protocol, which are kept to show something else, and those of models that no leaderboard takes
    are not among them.
    """
    runs: dict[tuple[str, str], list[Run]] = {}
    for path in reference_runs():
        run = read_run(path)
        if not run.spec.changes and run.spec.model.leaderboard:
            runs.setdefault((path.stem, run.spec.protocol_name), []).append(run)
    return tuple(_entry(name, tuple(its)) for (name, _), its in sorted(runs.items()))


def _entry(name: str, runs: tuple[Run, ...]) -> Entry:
    hashes = {run.spec.task.id: run.sha256 for run in runs}
    try:
        tracks = [track_of(run.spec) for run in runs]
    except BenchError:  # of a card that no longer ships; `verify_entry` says so
        tracks = []
    track = "open" if "open" in tracks else "fixed"
    older = any(reference_name(run.path) in older_code() for run in runs)
    return Entry(name, "", track, runs, content_sha256(hashes), older_code=older)
