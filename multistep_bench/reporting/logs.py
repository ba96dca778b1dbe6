"""What else watches a run, `--log`: TensorBoard, or an observer of the user's own."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from multistep_bench.errors import BenchError, NotFound
from multistep_bench.registry import import_path
from multistep_bench.runs.events import Evaluation, Outcome
from multistep_bench.runs.record import Record
from multistep_bench.runs.spec import Cell, RunSpec
from multistep_bench.training.relay import Observer

LOGS = {"tensorboard": "multistep_bench.reporting.tensorboard:TensorBoardLog"}
CALLS = ("begin", "evaluated", "stalled", "ended", "close")


class Logs:
    """The logs that `--log` names, made afresh for each run; one that breaks ends, and training goes on.

    names: of `LOGS`, or import paths `package.module:make` of what returns an `Observer` when it is called without
    arguments. Raises `BenchError` for a name that is neither and for what is no observer.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._makers = {name: _maker(name) for name in names}
        self._broken: dict[str, str] = {}
        for name in self._makers:
            self._make(name)  # what cannot be made is found before anything is trained

    def beside(self, observer: Observer) -> Observer:
        """The observer, with every log beside it."""
        made = {name: self._make(name) for name in self._makers}
        return _Beside(observer, made, self._broken) if made else observer

    def check(self) -> None:
        """Raises `BenchError` for logs that broke; the runs are whole without them."""
        if self._broken:
            what = "; ".join(f"--log {name} ended with {why}" for name, why in self._broken.items())
            raise BenchError(f"{what}; nothing more was told to it, and the runs themselves are whole")

    def _make(self, name: str) -> Observer:
        try:
            made: Any = self._makers[name]()
        except BenchError:
            raise
        except Exception as error:  # the user's code may fail in any way
            raise BenchError(f"--log {name} cannot be made: {type(error).__name__}: {error}") from error
        if missing := [call for call in CALLS if not callable(getattr(made, call, None))]:
            raise BenchError(
                f"--log {name} gives a {type(made).__name__} without {', '.join(missing)};"
                " derive it from multistep_bench.NullObserver"
            )
        return made


def _maker(name: str) -> Callable[..., Any]:
    if name not in LOGS and ":" not in name:
        raise NotFound("log", name, LOGS, f"known: {', '.join(LOGS)}, or package.module:make of your own")
    return import_path(LOGS.get(name, name), kind="log")


class _Beside:
    """Tells an observer everything, and logs that must not end the run whatever they do."""

    def __init__(self, observer: Observer, logs: dict[str, Observer], broken: dict[str, str]) -> None:
        self._observer, self._logs, self._broken = observer, logs, broken

    def begin(self, spec: RunSpec, folder: Path, finished: Mapping[Cell, Record]) -> None:
        self._observer.begin(spec, folder, finished)
        self._tell("begin", spec, folder, finished)

    def evaluated(self, cell: Cell, evaluation: Evaluation, items: int) -> None:
        self._observer.evaluated(cell, evaluation, items)
        self._tell("evaluated", cell, evaluation, items)

    def stalled(self, cell: Cell, seconds: float) -> None:
        self._observer.stalled(cell, seconds)
        self._tell("stalled", cell, seconds)

    def ended(self, cell: Cell, outcome: Outcome) -> None:
        self._observer.ended(cell, outcome)
        self._tell("ended", cell, outcome)

    def close(self) -> None:
        self._observer.close()
        self._tell("close")

    def _tell(self, call: str, *arguments: Any) -> None:
        for name, log in list(self._logs.items()):
            try:
                getattr(log, call)(*arguments)
            except Exception as error:  # the user's code, or a full disk
                del self._logs[name]
                self._broken.setdefault(name, f"{type(error).__name__} in {call}: {error}")
