"""What a sweep prints: a row a run while it trains, or plain lines; its scores and its prices."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from multistep_bench.printable import ONE_LINE, printable
from multistep_bench.reporting.labels import counted, duration, measured, short_count
from multistep_bench.reporting.live import PlainLines
from multistep_bench.reporting.progress import RunProgress
from multistep_bench.reporting.run_table import BROKEN, EVENT, SILENT, describe_silence
from multistep_bench.reporting.terminal import print_whole
from multistep_bench.runs.events import Evaluation, Outcome
from multistep_bench.runs.record import Record
from multistep_bench.runs.spec import Cell, RunSpec

if TYPE_CHECKING:
    from multistep_bench.training.estimate import Estimate
    from multistep_bench.training.relay import Observer

BAR = 12  # characters
AROUND = 8  # lines of the screen that are no rows of the table
SILENT_SHOWN = 5


def make_observers(console: Console, runs: Sequence[tuple[RunSpec, str]]) -> "list[Observer]":
    """One observer a run, named: seats at one live table where the console can redraw itself, plain lines otherwise."""
    if console.is_terminal and not console.is_dumb_terminal:
        table = SweepTable(console, runs)
        return [_Seat(table, place) for place in range(len(runs))]
    return [PlainLines(console, name=name) for _, name in runs]


class SweepTable:
    """The runs of a sweep in one live table, those in training first where they are too many for the screen."""

    def __init__(
        self,
        console: Console,
        runs: Sequence[tuple[RunSpec, str]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console = console
        self._names = [name for _, name in runs]
        self._specs = [spec for spec, _ in runs]
        self._clock = clock
        self._runs: dict[int, RunProgress] = {}
        self._closed: set[int] = set()
        self._live: Live | None = None
        self._lock = RLock()  # the table is drawn by a thread of its own

    def begin(self, place: int, folder: Path, finished: Mapping[Cell, Record]) -> None:
        """A run of the sweep starts, or was finished before."""
        with self._lock:
            self._runs[place] = RunProgress(self._specs[place], folder, finished, self._clock)
            if self._live is None:
                self._live = Live(get_renderable=self.render, console=self._console, refresh_per_second=2)
                self._live.start()

    def change(self, place: int, act: Callable[[RunProgress], None]) -> None:
        """Something happened in a run."""
        with self._lock:
            act(self._runs[place])

    def close(self, place: int) -> None:
        """A run is over; after the last, or where the sweep is given up, redrawing stops."""
        with self._lock:
            self._closed.add(place)
            live = self._live if self._closed >= self._runs.keys() else None
        if live is not None:
            live.stop()
            self._live = None

    def render(self) -> RenderableType:
        """The table in its present state."""
        with self._lock:
            named = [(self._names[place], self._runs[place]) for place in sorted(self._runs)]
            return render_runs(named, self._console.height)


class _Seat:
    """An observer of one run at a table."""

    def __init__(self, table: SweepTable, place: int) -> None:
        self._table, self._place = table, place

    def begin(self, spec: RunSpec, folder: Path, finished: Mapping[Cell, Record]) -> None:
        self._table.begin(self._place, folder, finished)

    def evaluated(self, cell: Cell, evaluation: Evaluation, items: int) -> None:
        self._table.change(self._place, lambda run: run.evaluated(cell, evaluation, items))

    def stalled(self, cell: Cell, seconds: float) -> None:
        self._table.change(self._place, lambda run: setattr(run.cells[cell], "silent", seconds))

    def ended(self, cell: Cell, outcome: Outcome) -> None:
        self._table.change(self._place, lambda run: run.end(cell, outcome))

    def close(self) -> None:
        self._table.close(self._place)


def render_runs(runs: Sequence[tuple[str, RunProgress]], height: int, left: str | None = None) -> RenderableType:
    """Runs by name, a row each: cells, events, the latest mean; for a terminal of `height` lines.

    left: words on the time left; by default from the pace since the sweep began.
    """
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("run", overflow="fold")
    table.add_column("")
    for name in ("cells", "training", EVENT, f"first {EVENT}", BROKEN, "latest"):
        table.add_column(name, justify="right", no_wrap=True)
    order = sorted(range(len(runs)), key=lambda place: (not _training(runs[place][1]), runs[place][1].fraction == 1))
    shown = sorted(order[: max(3, height - AROUND)])
    for place in shown:
        table.add_row(*_row(*runs[place]))
    total = sum(len(run.cells) for _, run in runs)
    ended = sum(run.ended for _, run in runs)
    ahead = _time_left(runs) if left is None else left
    head = Text(f"{counted(len(runs), 'run')}, {ended}/{counted(total, 'cell')}{ahead}", style="bold")
    hidden = len(runs) - len(shown)
    notes = [Text(f"and {counted(hidden, 'run')} more, waiting or ended", style="dim")] if hidden else []
    shown_measure = measured(run.spec for _, run in runs)
    legend = f"{EVENT} cells with a Eureka-moment, {BROKEN} that failed or diverged; latest: their mean {shown_measure}"
    return Group(head, "", table, "", Text(legend, style="dim"), *notes, *_silent(runs))


def _row(name: str, run: RunProgress) -> list[RenderableType]:
    cells = run.cells.values()
    events = sum(cell.eureka is not None for cell in cells)
    broken = sum(cell.outcome is not None and cell.outcome.status != "completed" for cell in cells)
    latest = [values[-1] for cell in cells if len(values := cell.accuracy[~np.isnan(cell.accuracy)])]
    training = _training(run)
    first = [cell.eureka for cell in cells if cell.eureka is not None]
    return [
        Text(printable(name, ONE_LINE), style="bold" if training else ""),
        ProgressBar(total=1, completed=run.fraction, width=BAR, complete_style="cyan"),
        f"{run.ended}/{len(run.cells)}",
        str(training or "–"),
        Text(str(events or "–"), style="green" if events else "dim"),
        short_count(min(first)) if first else "–",
        Text(str(broken or "–"), style="red" if broken else "dim"),
        f"{np.mean(latest):.3f}" if latest else "–",
    ]


def _training(run: RunProgress) -> int:
    """Cells that have begun and not ended."""
    return sum(bool(cell.evaluations) and cell.outcome is None for cell in run.cells.values())


def _time_left(runs: Sequence[tuple[str, RunProgress]]) -> str:
    """From the pace of the whole sweep so far, each run weighted by its cells' FLOPs."""
    weights = [run.spec.cost(len(run.cells)) for _, run in runs]
    whole, since = sum(weights), max((run.seconds for _, run in runs), default=0.0)
    done = sum(weight * run.fraction for weight, (_, run) in zip(weights, runs, strict=True))
    gained = done - sum(weight * run.fraction_before for weight, (_, run) in zip(weights, runs, strict=True))
    if all(run.fraction == 1 for _, run in runs):
        return f"  took {duration(since)}"
    return f"  about {duration(since * (whole - done) / gained)} left" if gained > 0 else "  starting"


def _silent(runs: Sequence[tuple[str, RunProgress]]) -> list[Text]:
    lines = [
        Text(
            f"{SILENT} {printable(name, ONE_LINE)}, {describe_silence(run.spec, cell, progress.silent)}", style="yellow"
        )
        for name, run in runs
        for cell, progress in sorted(run.cells.items())
        if progress.silent is not None
    ]
    return lines[:SILENT_SHOWN]


def print_sweep_prices(
    console: Console, names: Sequence[str], costs: "Sequence[Estimate]", whole: Mapping[str, Any]
) -> None:
    """What the runs of a sweep would take, and the whole."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("run", overflow="fold")
    for name in ("cells", "samples a cell", "a cell", "training FLOPs"):
        table.add_column(name, justify="right")
    for name, each in zip(names, costs, strict=True):
        flops = "not counted" if each.training_flops is None else f"{each.training_flops:.3g}"
        row = (str(each.cells), f"{each.samples_per_cell:,}", duration(each.cell_seconds), flops)
        table.add_row(printable(name, ONE_LINE), *row)
    print_whole(console, table)
    console.print(
        f"{counted(whole['cells'], 'cell')}, {whole['processes']} at a time: about {duration(whole['seconds'])},"
        " if as many processors are free",
        soft_wrap=not console.is_terminal,
    )
