"""Runs the unfinished cells of a specification: processes on a CPU, stacked groups on a GPU."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack

from multistep_bench.cards import DEFAULT_PROTOCOL, DEFAULT_TASK
from multistep_bench.diagnostics.options import parse_diagnostics
from multistep_bench.errors import RunError
from multistep_bench.models.local import Model
from multistep_bench.runs.events import Outcome
from multistep_bench.runs.folder import where_tracebacks_are
from multistep_bench.runs.machine import versions
from multistep_bench.runs.spec import Cell, RunSpec
from multistep_bench.runs.store import Run
from multistep_bench.training.diagnosed import check_diagnostics
from multistep_bench.training.kept import check_count
from multistep_bench.training.launchers import Demand, check_numbers, find_launcher
from multistep_bench.training.open_run import OpenRun
from multistep_bench.training.plan import default_folder, plan
from multistep_bench.training.relay import NullObserver, Observer

CHECKPOINT_SECONDS = 30.0


class Place(TypedDict, total=False):
    """Where and how cells are trained; on a CPU nothing here changes a curve.

    launcher:    "local" (this machine), or "ray" for a cluster of machines, see `training.launchers`.
    address:     of the Ray cluster, HOST:PORT or "auto"; by default that of RAY_ADDRESS, or the one that runs on this
                 machine, or else a Ray is started here for this run.
    gpus:        share of a GPU that a group of cells takes on Ray, by default 1.
    device:      "auto" (a GPU if there is one), "cpu", "cuda" or "cuda:N".
    workers:     processes, on a CPU only, by default one a core; 1 trains in this process. On Ray: groups at once.
    stack:       cells trained at once as one program, by default 1 on a CPU and as many as fit on a GPU.
    checkpoint_seconds: how much work a killed run may lose; 0 saves at every evaluation.
    cell_timeout: seconds without an evaluation after which a cell is given up as failed and its process ended; None
                 waits for ever. A cell that is silent for long is named in any case, see `Observer.stalled`.
    diagnostics: figures of the model's inside that are recorded beside the curves, as in `run --diagnostics`, such as
                 "gradients,attention,every=5"; `load_diagnostics` reads them.
    keep_checkpoints: weights of each cell to keep at so many moments spaced over its budget, and just before and after
                 its Eureka-moment, for `load_model`; by default 0, none.
    """

    launcher: str
    address: str | None
    gpus: float
    device: str
    workers: int | None
    stack: int | None
    checkpoint_seconds: float
    cell_timeout: float | None
    diagnostics: str | None
    keep_checkpoints: int


class Execution(Place, total=False):
    """Where and how cells are trained, see `Place`.

    observer: what watches the run.
    """

    observer: Observer | None


def run(
    task: str | Path = DEFAULT_TASK,
    model: Model = "vit",
    protocol: str = DEFAULT_PROTOCOL,
    out: str | Path | None = None,
    *,
    changes: Mapping[str, Any] | None = None,
    data_root: str | Path | None = None,
    on_failure: Literal["raise", "keep"] = "raise",
    **execution: Unpack[Execution],
) -> Run:
    """Trains every cell of a task's protocol for a model, and resumes what an earlier call left.

    task, model: names, paths of cards; a model also "timm/NAME" or "package.module:build", or the class or function
                 itself that builds it, defined wherever you like.
    out:         the run folder, by default one below ./runs named after the specification.
    changes:     see `plan`.
    execution:   see `Execution`.
    on_failure:  a cell whose program breaks is recorded as failed and the others go on; at the end that raises, or the
                 run is returned as it is ("keep").
    Returns the run as read back from its folder. Raises `BenchError` for what cannot be trained and, unless it is to be
    kept, for a run in which cells failed or are missing.
    """
    spec = plan(task, model, protocol, changes, data_root)
    execution["observer"] = reasons = Reasons(execution.get("observer") or NullObserver(), on_failure)
    done = launch(spec, out, data_root, **execution)
    reasons.check(done)
    return done


class Reasons:
    """Passes on what happens, and remembers why cells failed.

    on_failure: "raise" or "keep", see `run`; raises `RunError` for another word.
    """

    def __init__(self, observer: Observer, on_failure: str) -> None:
        if on_failure not in ("raise", "keep"):
            raise RunError(f"on_failure={on_failure!r} is neither 'raise' nor 'keep'")
        self._observer, self._keep = observer, on_failure == "keep"
        self._found: set[str] = set()
        self.begin, self.evaluated, self.close = observer.begin, observer.evaluated, observer.close
        self.stalled = observer.stalled

    def ended(self, cell: Cell, outcome: Outcome) -> None:
        """A cell ended."""
        if outcome.status == "failed":
            self._found.add(outcome.reason or "no reason given")
        self._observer.ended(cell, outcome)

    def check(self, done: Run) -> None:
        """Raises `RunError` for a run in which cells failed or are missing, unless it is to be kept."""
        unfinished = len(done.missing) + len(done.failed)
        if unfinished and not self._keep:
            raise RunError(
                f"{unfinished} of {len(done.spec.cells())} cells did not finish ({'; '.join(sorted(self._found)[:3])}"
                f"{where_tracebacks_are([done.path])}); the same call tries them again, and on_failure='keep' returns"
                f" the run in {done.path} as it is"
            )


def launch(
    spec: RunSpec,
    out: str | Path | None = None,
    data_root: str | Path | None = None,
    *,
    observer: Observer | None = None,
    **execution: Unpack[Place],
) -> Run:
    """Trains the unfinished cells of a specification; see `run` and `Place`."""
    folder = Path(out) if out is not None else default_folder(spec)
    return launch_all([(spec, folder)], data_root, observers=[observer or NullObserver()], **execution)[0]


def launch_all(
    runs: Sequence[tuple[RunSpec, Path]],
    data_root: str | Path | None = None,
    *,
    observers: Sequence[Observer] | None = None,
    launcher: str = "local",
    address: str | None = None,
    gpus: float = 1.0,
    device: str = "auto",
    workers: int | None = None,
    stack: int | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    cell_timeout: float | None = None,
    diagnostics: str | None = None,
    keep_checkpoints: int = 0,
) -> list[Run]:
    """Trains the unfinished cells of several specifications, each in its folder, as one pool: the longest cells first.

    observers: one a run. Every folder is held before anything is trained; a run is packed when its last cell ends.
    Returns the runs as read back, in the order given. Raises as `run` does for what cannot be trained.
    """
    check_numbers(workers, stack, cell_timeout)
    wanted = None if diagnostics is None else parse_diagnostics(diagnostics)
    for spec, _ in runs:
        check_count(keep_checkpoints, spec)
        if wanted is not None:
            check_diagnostics(spec, wanted, data_root)
    root = str(data_root) if data_root else None
    demand = Demand([spec for spec, _ in runs], root, device, workers, cell_timeout, address, gpus)
    with _the_only_run(), find_launcher(launcher)(demand) as pool, ExitStack() as held:
        watching = observers or [NullObserver() for _ in runs]
        trained = [
            held.enter_context(OpenRun(spec, folder, observer))
            for (spec, folder), observer in zip(runs, watching, strict=True)
        ]
        options: dict[str, Any] = {
            "device": str(pool.device),
            "data_root": root,
            "checkpoint_seconds": checkpoint_seconds,
            "versions": versions(),
            "diagnostics": wanted,
            "keep": keep_checkpoints,
        }
        shares = [share for each in trained for share in each.shares(options, stack, pool.stack_size)]
        shares.sort(key=lambda share: -share.job.spec.cost(len(share.group)))
        for each in trained:
            each.begin()
        pool.train(shares)
        return [each.finish() for each in trained]


_TRAINING = threading.Lock()


@contextmanager
def _the_only_run() -> Iterator[None]:
    """A process trains one run at a time: its random states are one, and another thread would draw from them."""
    if not _TRAINING.acquire(blocking=False):
        raise RunError(
            "another run trains in this process, and both would draw from its random states;"
            " run them in turn, or each in a process of its own"
        )
    try:
        yield
    finally:
        _TRAINING.release()
