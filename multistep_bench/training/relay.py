"""Passes what the workers say on to the observer, and names cells from which nothing is heard."""

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from multistep_bench.runs.events import Evaluation, Outcome
from multistep_bench.runs.growing import QUIET, USUAL
from multistep_bench.runs.record import Record
from multistep_bench.runs.spec import Cell, RunSpec
from multistep_bench.training.group import Group, Message

TICK = 1.0  # seconds between two looks


class Observer(Protocol):
    """What watches a run, in the process that started it. Derive from `NullObserver` to be told of less.

    `stalled` comes from a thread of its own, the rest from the one that started the run.
    """

    def begin(self, spec: RunSpec, folder: Path, finished: Mapping[Cell, Record]) -> None: ...

    def evaluated(self, cell: Cell, evaluation: Evaluation, items: int) -> None: ...

    def stalled(self, cell: Cell, seconds: float) -> None: ...

    def ended(self, cell: Cell, outcome: Outcome) -> None: ...

    def close(self) -> None: ...


class NullObserver:
    """Watches nothing."""

    def begin(self, spec: RunSpec, folder: Path, finished: Mapping[Cell, Record]) -> None:
        """A run starts."""

    def evaluated(self, cell: Cell, evaluation: Evaluation, items: int) -> None:
        """A cell was evaluated."""

    def stalled(self, cell: Cell, seconds: float) -> None:
        """Nothing was heard of a cell in training for so many seconds: it is slow, or it hangs."""

    def ended(self, cell: Cell, outcome: Outcome) -> None:
        """A cell ended."""

    def close(self) -> None:
        """The run is over."""


class Relay:
    """Hands messages to an observer; use as a context manager while a run trains.

    A cell is named as stalled once nothing was heard of it for `QUIET` seconds and for `USUAL` times as long as any
    evaluation of the run took, and again each time that its silence has doubled.
    """

    def __init__(self, observer: Observer, clock: Callable[[], float] = time.monotonic) -> None:
        self._observer = observer
        self._clock = clock
        self._heard: dict[Cell, float] = {}  # of cells in training: when
        self._told: dict[Cell, float] = {}  # seconds of silence last told of
        self._longest = 0.0
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Relay":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def began(self, cells: Group) -> None:
        """A worker takes these cells up."""
        with self._lock:
            self._heard |= dict.fromkeys(cells, self._clock())

    def tell(self, message: Message) -> None:
        """Something happened to a cell."""
        now, cell = self._clock(), message.cell
        with self._lock:
            if isinstance(message.event, Evaluation):
                self._longest = max(self._longest, now - self._heard.get(cell, now))
                self._heard[cell] = now
            else:
                self._heard.pop(cell, None)
            self._told.pop(cell, None)
        if isinstance(message.event, Outcome):
            self._observer.ended(cell, message.event)
        else:
            self._observer.evaluated(cell, message.event, message.items)

    def look(self) -> None:
        """Tells the observer of cells that have stalled."""
        now = self._clock()
        with self._lock:
            silent = {cell: now - heard for cell, heard in self._heard.items()}
            least = max(QUIET, USUAL * self._longest)
            news = {
                cell: seconds for cell, seconds in silent.items() if seconds >= max(least, 2 * self._told.get(cell, 0))
            }
            self._told |= news
        for cell, seconds in news.items():
            self._observer.stalled(cell, seconds)

    def _watch(self) -> None:
        while not self._over.wait(TICK):
            with suppress(Exception):  # an observer that fails here must not end the watch
                self.look()
