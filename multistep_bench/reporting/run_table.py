"""A run in training as a terminal shows it: a row per learning rate, a sparkline per cell, what went wrong."""

from collections.abc import Sequence

import numpy as np
from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from multistep_bench.cards import TaskCard
from multistep_bench.printable import ONE_LINE, printable
from multistep_bench.reporting.labels import (
    changes_label,
    counted,
    duration,
    measured,
    number,
    rate_label,
    short_count,
)
from multistep_bench.reporting.progress import CellProgress, RunProgress
from multistep_bench.runs.spec import Cell, RunSpec

BARS = "▁▂▃▄▅▆▇█"
EVENT = "★"
BROKEN = "✗"
SILENT = "…"
SHORT = {"diverged": "div.", "failed": "fail"}
NARROWEST, WIDEST = 6, 24  # characters of a sparkline
PROBLEMS_SHOWN = 5
SPARE = 1  # line that a terminal needs below a live table


def render_run(run: RunProgress, width: int, height: int) -> RenderableType:
    """The live table in its present state, for a terminal of `width` characters and `height` lines.

    Where not all rows fit, those with cells in training are shown first.
    """
    head, notes = _head(run), _notes(run)
    around = len(head) + len(notes) + 3  # the bar and two empty lines
    return Group(*head, _pace(run, width), "", *_curves(run, width, height - around - SPARE), "", *notes)


def _head(run: RunProgress) -> list[Text]:
    """What is trained, against which threshold, with which changes, and where it is kept."""
    spec = run.spec
    threshold = spec.task.levels.threshold(spec.task.scoring.threshold_fraction)
    lines = [f"threshold {number(threshold)} {measured([spec])}"]
    if changes := changes_label(spec):
        lines.append(changes)
    title = Text(f"{spec.model.name} on {spec.task.id}, protocol {spec.protocol_name}", style="bold", overflow="fold")
    about = [Text(printable(line, ONE_LINE), style="dim", overflow="ellipsis", no_wrap=True) for line in lines]
    return [title, *about, Text(printable(str(run.folder), ONE_LINE), style="dim", overflow="fold")]


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


def _curves(run: RunProgress, width: int, height: int) -> list[RenderableType]:
    """Two lines a cell, its curve and its state; seeds that do not fit side by side go below.

    Of more rows than `height` lines hold, those with a cell in training come first, in their order.
    """
    protocol = run.spec.protocol
    labels = [rate_label(rate) for rate in protocol.learning_rates]
    room = width - max(len("rate"), *map(len, labels)) - 2
    narrowest = max(NARROWEST, len(f"seed {protocol.seed_indices[-1]}"))
    beside = max(1, min(protocol.seeds, room // (narrowest + 1)))
    spark = max(narrowest, min(WIDEST, room // beside - 1))
    blocks = [protocol.seed_indices[first : first + beside] for first in range(0, protocol.seeds, beside)]
    rows = [(block, index) for block in range(len(blocks)) for index in range(len(labels))]
    shown = _in_view(run, rows, blocks, height)
    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_column(justify="right")
    headed = None
    for block, index in shown:
        cells = [run.cells[Cell(index, seed)] for seed in blocks[block]]
        if block != headed:
            table.add_row(*(Text(text, style="dim") for text in ("rate", *(f"seed {seed}" for seed in blocks[block]))))
            headed = block
        table.add_row(Text(labels[index], style="bold"), *(sparkline(cell, run.spec, spark) for cell in cells))
        table.add_row("", *(_state(cell, spark) for cell in cells))
    hidden = len(rows) - len(shown)
    more = [Text(f"and {counted(hidden, 'row')} that this terminal has no room for", style="dim")] if hidden else []
    return [table, *more]


def _in_view(
    run: RunProgress, rows: Sequence[tuple[int, int]], blocks: Sequence[Sequence[int]], height: int
) -> list[tuple[int, int]]:
    """The rows, (block of seeds, rate), that fit into `height` lines, in order; those with cells in training first."""
    if len(blocks) + 2 * len(rows) <= height:
        return list(rows)

    def busy(row: tuple[int, int]) -> bool:
        cells = [run.cells[Cell(row[1], seed)] for seed in blocks[row[0]]]
        return any(cell.evaluations and cell.outcome is None for cell in cells)

    chosen: set[tuple[int, int]] = set()
    for row in sorted(rows, key=lambda row: (not busy(row), row)):
        lines = (
            2 * (len(chosen) + 1) + len({block for block, _ in {*chosen, row}}) + 1
        )  # and the line that names the rest
        if lines > height and chosen:
            break
        chosen.add(row)
    return sorted(chosen)


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
