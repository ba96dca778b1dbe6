"""`mb.compare` and `mstep-bench compare`: two runs in detail, or many against a reference."""

from collections.abc import Iterable
from pathlib import Path
from typing import overload

from multistep_bench.errors import RunError
from multistep_bench.runs.search import find_runs
from multistep_bench.runs.store import Run, read_run
from multistep_bench.scoring.against import Comparisons, compare_all
from multistep_bench.scoring.compare import Comparison
from multistep_bench.scoring.compare import compare as compare_two
from multistep_bench.scoring.names import run_labels
from multistep_bench.scoring.run import score_run

Place = str | Path | Run


@overload
def compare(runs: Place, run_b: Place) -> Comparison: ...


@overload
def compare(runs: Place | Iterable[Place], *, reference: Place | None = None) -> Comparisons: ...


def compare(
    runs: Place | Iterable[Place], run_b: Place | None = None, *, reference: Place | None = None
) -> Comparison | Comparisons:
    """Two runs, A − B in detail; or runs and folders of runs, each against the reference on its task.

    Runs of the same task, card and budget are compared; other differences in the protocol are allowed and named.
    reference: a model's name, a run's label, or a run; by default the first run's name. p-values stand raw and
    corrected by Holm over the runs of a task.
    Raises `NotFound` for an unknown reference, `RunError` for what cannot be compared.
    """
    if run_b is not None:
        if not isinstance(runs, str | Path | Run):
            raise RunError(
                f"compare(A, B) takes two runs, and A is a {type(runs).__name__};"
                f" write compare(runs, reference={str(run_b)!r}) to compare many with one"
            )
        return compare_two(runs, run_b)
    read: list[Run] = []
    for each in [runs] if isinstance(runs, str | Path | Run) else runs:
        read += [each] if isinstance(each, Run) else map(read_run, find_runs([each]))
    return compare_read(read, reference)


def compare_read(runs: list[Run], reference: Place | None = None) -> Comparisons:
    """`compare` of runs that are read already; a reference that is a run is added where it is not among them."""
    if isinstance(reference, Run) or (reference is not None and Path(reference).exists()):
        wanted = reference if isinstance(reference, Run) else read_run(reference)
        places = [run.path.resolve() for run in runs]
        if wanted.path.resolve() not in places:
            runs, places = [wanted, *runs], [wanted.path.resolve(), *places]
        scores = [score_run(run) for run in runs]
        return compare_all(scores, run_labels(scores)[places.index(wanted.path.resolve())])
    return compare_all([score_run(run) for run in runs], None if reference is None else str(reference))
