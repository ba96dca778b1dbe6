"""What a run prints while it trains: a live table on a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Lock

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from multistep_bench.cards import TaskCard
from multistep_bench.printable import ONE_LINE, printable
from multistep_bench.reporting.labels import duration, measured, rate_label, short_count
from multistep_bench.reporting.progress import CellProgress, RunProgress
from multistep_bench.runs.events import Evaluation, Outcome
from multistep_bench.runs.record import Record
from multistep_bench.runs.spec import Cell, RunSpec

BARS = "▁▂▃▄▅▆▇█"
EVENT = "★"
BROKEN = "✗"
SILENT = "…"
SHORT = {"diverged": "div.", "failed": "fail"}
NARROWEST, WIDEST = 6, 24  # characters of a sparkline
PROBLEMS_SHOWN = 5


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
        live.start()
        self._live = live

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
            self._live.stop()
            self._live = None
            self._console.print()

    def _render(self) -> RenderableType:
        with self._lock:
            return render_run(self._run, self._console.width)


def render_run(run: RunProgress, width: int) -> RenderableType:
    """The live table in its present state, for a terminal of `width` characters."""
    spec = run.spec
    title = Text(f"{spec.model.name} on {spec.task.id}, protocol {spec.protocol_name}", style="bold", overflow="fold")
    return Group(title, _pace(run, width), "", _curves(run, width), "", *_notes(run))


def _pace(run: RunProgress, width: int) -> Table:
    text = f"{run.ended}/{len(run.cells)} cells"
    if run.samples_per_second:
        text += f"  {run.samples_per_second:,.0f} samples/s"
    if run.fraction == 1:
        text += f"  took {duration(run.seconds)}"
    elif run.seconds_left is not None:
        text += f"  {duration(run.seconds_left)} left"
    else:
        text += "  starting"
    line = Table.grid(padding=(0, 2, 0, 0))
    line.add_row(
        ProgressBar(total=1, completed=run.fraction, width=max(8, min(30, width - 52)), complete_style="cyan"), text
    )
    return line


def _curves(run: RunProgress, width: int) -> Table:
    """Two lines a cell, its curve and its state; seeds that do not fit side by side go below."""
    protocol = run.spec.protocol
    labels = [rate_label(rate) for rate in protocol.learning_rates]
    room = width - max(len("rate"), *map(len, labels)) - 2
    narrowest = max(NARROWEST, len(f"seed {protocol.seed_indices[-1]}"))
    beside = max(1, min(protocol.seeds, room // (narrowest + 1)))
    spark = max(narrowest, min(WIDEST, room // beside - 1))
    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_column(justify="right")
    for first in range(0, protocol.seeds, beside):
        seeds = protocol.seed_indices[first : first + beside]
        table.add_row(*(Text(text, style="dim") for text in ("rate", *(f"seed {seed}" for seed in seeds))))
        for index, label in enumerate(labels):
            cells = [run.cells[Cell(index, seed)] for seed in seeds]
            table.add_row(Text(label, style="bold"), *(sparkline(cell, run.spec, spark) for cell in cells))
            table.add_row("", *(_state(cell, spark) for cell in cells))
    return table


def sparkline(cell: CellProgress, spec: RunSpec, width: int) -> Text:
    """A curve over the budget as `width` blocks; the lowest block is chance, the highest the ceiling."""
    task, budget = spec.task, spec.protocol.budget
    line = Text()
    samples, values = cell.samples, cell.accuracy
    known = ~np.isnan(values)
    column = np.minimum(samples[known] / budget * width, width - 1).astype(int)
    counts = np.bincount(column, minlength=width)
    sums = np.bincount(column, weights=values[known], minlength=width)
    for count, total in zip(counts, sums, strict=True):
        if count == 0:
            line.append("·", style="dim")
        else:
            line.append(_bar(task, total / count), style=_colour(task, total / count))
    return line


def _bar(task: TaskCard, value: float) -> str:
    height = (value - task.levels.chance) / (task.levels.ceiling - task.levels.chance)
    return BARS[int(np.clip(height * len(BARS), 0, len(BARS) - 1))]


def _colour(task: TaskCard, value: float) -> str:
    """Blue up to the shortcut, yellow on the way to the threshold, green from there on."""
    levels = task.levels
    risen = (value - levels.floor) / (levels.ceiling - levels.floor)  # a loss rises by falling
    if risen >= task.scoring.threshold_fraction:
        return "green"
    return "yellow" if risen > 0.1 else "blue"


def _state(cell: CellProgress, width: int) -> Text:
    if cell.outcome is not None and cell.outcome.status != "completed":
        word = cell.outcome.status
        return Text(BROKEN + (word if len(word) < width else SHORT[word]), style="bold red")
    text = Text()
    if cell.eureka is not None:
        text.append(EVENT + short_count(cell.eureka), style="bold green")
    if not cell.evaluations:
        return Text("waits", style="dim")
    known = cell.accuracy[~np.isnan(cell.accuracy)]
    parts = [] if cell.outcome is not None else [f"{cell.fraction:.0%}"]
    parts += [f"{known[-5:].mean():.2f}"] if len(known) else []
    for part in parts:  # as many as fit beside the star
        if len(text) + len(part) + bool(text) <= width:
            text.append(" " * bool(text) + part, style="dim")
    return text


def _notes(run: RunProgress) -> list[Text]:
    """What the marks mean, then the cells that are silent, and those that diverged or failed."""
    latest = f"latest {measured([run.spec])}"
    legend = Text(f"below a curve: {EVENT} samples until the Eureka-moment, {latest}", style="dim")
    silent = [
        Text(f"{SILENT} {describe_silence(run.spec, cell, progress.silent)}", style="yellow")
        for cell, progress in sorted(run.cells.items())
        if progress.silent is not None
    ]
    broken = [
        Text(f"{BROKEN} {cell_label(run.spec, cell)}: {describe_end(run.spec, progress)}", style="red")
        for cell, progress in sorted(run.cells.items())
        if progress.outcome is not None and progress.outcome.status != "completed"
    ]
    return [legend, *_first(silent, "yellow"), *_first(broken, "red")]


def _first(lines: list[Text], style: str) -> list[Text]:
    rest = len(lines) - PROBLEMS_SHOWN
    return [*lines[:PROBLEMS_SHOWN], *([Text(f"  and {rest} more", style=style)] if rest > 0 else [])]


def describe_silence(spec: RunSpec, cell: Cell, seconds: float) -> str:
    """A cell that hangs, or is only slow: nobody can tell from outside."""
    return (
        f"{cell_label(spec, cell)}: no evaluation for {duration(seconds)}; it is slow or hangs"
        " (--cell-timeout SECONDS gives such cells up)"
    )


def cell_label(spec: RunSpec, cell: Cell) -> str:
    return f"rate {rate_label(spec.learning_rate(cell))} seed {cell.seed_index}"


def describe_end(spec: RunSpec, progress: CellProgress) -> str:
    """How an ended cell ended, in words."""
    outcome = progress.outcome
    assert outcome is not None
    if outcome.status != "completed":
        return printable(f"{outcome.status}: {outcome.reason}", ONE_LINE)
    score = progress.score()
    if score.invalid is not None:
        return f"invalid: {score.invalid}"
    final = f"final {measured([spec])} {score.final_accuracy:.3f}"
    if score.eureka is None:
        return f"no Eureka-moment by {spec.protocol.budget:,} samples, {final}"
    return f"Eureka-moment at {score.eureka:,.0f} of {spec.protocol.budget:,} samples, {final}"
