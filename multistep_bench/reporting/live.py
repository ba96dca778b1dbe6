"""What a run prints while it trains: a live table on a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Lock

from rich.console import Console, RenderableType
from rich.live import Live

from multistep_bench.printable import ONE_LINE, printable
from multistep_bench.reporting.labels import duration
from multistep_bench.reporting.progress import RunProgress
from multistep_bench.reporting.run_table import cell_label, describe_end, describe_silence, render_run
from multistep_bench.runs.events import Evaluation, Outcome
from multistep_bench.runs.record import Record
from multistep_bench.runs.spec import Cell, RunSpec

WHOLE = 1_000_000  # lines, of a table that has all the room it needs


class PlainLines:
    """One line when a run begins and one for each cell that ends; name: of the run, where lines tell of several."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic, *, name: str = "") -> None:
        self._console = console
        self._name = f"{name}, " if name else ""
        self._clock = clock
        self._run: RunProgress

    def begin(self, spec: RunSpec, folder: Path, finished: Mapping[Cell, Record]) -> None:
        self._run = RunProgress(spec, folder, finished, self._clock)
        kept = f", {self._run.kept} finished before" if finished else ""
        self._print(
            f"{spec.model.name} on {spec.task.id}, protocol {spec.protocol_name}: {len(self._run.cells)} cells of"
            f" {spec.protocol.steps:,} steps, {spec.protocol.budget:,} samples each{kept}; run folder {folder}"
        )

    def evaluated(self, cell: Cell, evaluation: Evaluation, items: int) -> None:
        self._run.evaluated(cell, evaluation, items)

    def stalled(self, cell: Cell, seconds: float) -> None:
        self._run.cells[cell].silent = seconds
        self._print(f"{self._name}{describe_silence(self._run.spec, cell, seconds)}")

    def ended(self, cell: Cell, outcome: Outcome) -> None:
        self._run.end(cell, outcome)
        self._print(
            f"{self._name}{cell_label(self._run.spec, cell)}: {describe_end(self._run.spec, self._run.cells[cell])}"
            f" ({duration(outcome.seconds)}) [{self._run.ended}/{len(self._run.cells)}]"
        )

    def close(self) -> None:
        """Nothing remains to be printed."""

    def _print(self, text: str) -> None:
        self._console.print(printable(text, ONE_LINE), markup=False, highlight=False, soft_wrap=True)


class LiveTable:
    """A row per learning rate, a sparkline per cell, a star at each Eureka-moment, the time left."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._live: Live | None = None
        self._lock = Lock()  # the table is drawn by a thread of its own

    def begin(self, spec: RunSpec, folder: Path, finished: Mapping[Cell, Record]) -> None:
        self._run = RunProgress(spec, folder, finished, self._clock)
        live = Live(get_renderable=self._render, console=self._console, refresh_per_second=2)
        self._live = live
        live.start()

    def evaluated(self, cell: Cell, evaluation: Evaluation, items: int) -> None:
        with self._lock:
            self._run.evaluated(cell, evaluation, items)

    def stalled(self, cell: Cell, seconds: float) -> None:
        with self._lock:
            self._run.cells[cell].silent = seconds

    def ended(self, cell: Cell, outcome: Outcome) -> None:
        with self._lock:
            self._run.end(cell, outcome)

    def close(self) -> None:
        """Stops redrawing; the last state stays on the screen."""
        if self._live is not None:
            live, self._live = self._live, None  # and now it is drawn as a whole, however many lines it takes
            live.stop()
            self._console.print()

    def _render(self) -> RenderableType:
        with self._lock:
            return render_run(self._run, self._console.width, self._console.height if self._live else WHOLE)
