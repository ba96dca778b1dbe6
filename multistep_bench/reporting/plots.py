"""The suite's figures: curves of accuracy or loss, survival, scores by learning rate and under other thresholds.

A `draw_*` function fills one axes and is what the report shows; a `plot_*` function lays such axes out on a
figure as wide as a paper's column or page and writes it. Times are in training samples throughout.
Every `path` ends in .png, .svg or .pdf, anything else raises `BenchError`; the path written is returned.
"""

import textwrap
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from multistep_bench.cards import TaskCard
from multistep_bench.reporting import figures
from multistep_bench.reporting.figures import COLUMN, MUTED, PAGE, SERIES, Look
from multistep_bench.reporting.labels import AXES, rate_label, run_labels, short_count, task_label
from multistep_bench.runs.record import Record
from multistep_bench.runs.spec import RunSpec
from multistep_bench.runs.store import Run
from multistep_bench.scoring.cell_set import CellScore
from multistep_bench.scoring.eureka import curve_values
from multistep_bench.scoring.run import RunScore
from multistep_bench.scoring.score import Score
from multistep_bench.scoring.statistics import Interval

PANEL_HEIGHT = 1.6  # inches
QUANTITIES = {"probability": "Eureka probability p", "speed": "convergence speed S"}
JUMPED: Look = {"color": SERIES[0], "linestyle": "-"}
STAYED: Look = {"color": SERIES[5], "linestyle": "-"}
BROKEN: Look = {"color": SERIES[1], "linestyle": "--"}
STAR: Look = {"marker": "*", "markersize": 9, "markeredgecolor": figures.PAPER, "markeredgewidth": 0.5}
CROSS: Look = {"marker": "x", "markersize": 5}
POINTS: Look = {"marker": "o", "markersize": 3, "capsize": 2, "linewidth": 1, "elinewidth": 0.8}

Styled = Sequence[tuple[RunScore, str, Look]]  # runs with the names and styles of their series


def plot_curves(runs: Sequence[Run], score: Score, path: str | Path) -> Path:
    """Every cell's curve: a row of panels a run, a panel a learning rate.

    runs: those that `score` is of, in its order.
    """
    rows, columns = len(score.runs), max(len(scored.by_rate) for scored in score.runs)
    tasks = {task_label(scored.spec) for scored in score.runs}
    one_budget = len({scored.spec.protocol.budget for scored in score.runs}) == 1
    with figures.style():
        figure = figures.new_figure(COLUMN if columns == 1 else PAGE, PANEL_HEIGHT * rows + 0.4)
        grid = figure.subplots(rows, columns, squeeze=False, sharex=one_budget, sharey="row")
        for row, run, scored, label in zip(grid, runs, score.runs, run_labels(score.runs), strict=True):
            for axes in row[len(scored.by_rate) :]:
                axes.axis("off")
            for index in range(len(scored.by_rate)):
                draw_curves(row[index], run, scored, index, name_levels=index == len(scored.by_rate) - 1)
            row[0].set_ylabel(row_label(label, scored.spec, tasks))
        for axes in grid[-1]:
            axes.set_xlabel("training samples")
        if len(tasks) == 1:
            figure.suptitle(*tasks, fontsize=8)
        figure_legend(figure, curve_legend(score.runs))
        return figures.save(figure, path)


def plot_survival(score: Score, path: str | Path) -> Path:
    """Share of runs still without a Eureka-moment over training, with 95 % bands: a panel a task."""
    return _plot_by_task(score, path, SURVIVAL)


def plot_by_rate(score: Score, path: str | Path) -> Path:
    """Eureka probability and convergence speed by learning rate, with 95 % intervals: a row of panels a task."""
    return _plot_by_task(score, path, BY_RATE)


def plot_robustness(score: Score, path: str | Path) -> Path:
    """Eureka probability and convergence speed under other thresholds λ, with 95 % intervals."""
    return _plot_by_task(score, path, ROBUSTNESS)


def _plot_by_task(score: Score, path: str | Path, panels: Sequence[Callable[[Axes, Styled], None]]) -> Path:
    tasks = by_task(score.runs)
    with figures.style():
        figure = figures.new_figure(COLUMN if len(panels) == 1 else PAGE, (PANEL_HEIGHT + 0.4) * len(tasks) + 0.4)
        grid = figure.subplots(len(tasks), len(panels), squeeze=False)
        for row, (task, styled) in zip(grid, tasks.items(), strict=True):
            for axes, draw in zip(row, panels, strict=True):
                draw(axes, styled)
            row[0].set_title(task, loc="left")
        series = {label: Line2D([], [], **look) for styled in tasks.values() for _, label, look in styled}
        figure_legend(figure, series)
        return figures.save(figure, path)


def by_task(runs: Sequence[RunScore]) -> Mapping[str, Styled]:
    """Runs by task and protocol, each with its series' name and style; a model looks the same everywhere."""
    labels = run_labels(runs)
    order = list(dict.fromkeys(labels))
    groups: dict[str, list[tuple[RunScore, str, Look]]] = {}
    for run, label in zip(runs, labels, strict=True):
        groups.setdefault(task_label(run.spec), []).append((run, label, figures.series_style(order.index(label))))
    return groups


def draw_curves(axes: Axes, run: Run, scored: RunScore, rate_index: int, *, name_levels: bool = True) -> None:
    """The curve of each seed at one learning rate, the levels, a star at each Eureka-moment, a cross at each break.

    Each line's gid is the name of its cell.
    """
    task, budget = scored.spec.task, scored.spec.protocol.budget
    records = {record.cell: record for record in run.records}
    cells = scored.cells_by_rate[rate_index]
    _levels(axes, task, named=name_levels)
    for cell in cells:
        if cell.cell in records:
            _curve(axes, records[cell.cell], cell, task, scored.spec.protocol.interval)
    jumped = sum(cell.curve.eureka is not None for cell in cells)
    axes.set_title(f"rate {rate_label(cells[0].learning_rate)}   ★ {jumped}/{len(cells)}", loc="left")
    axes.set_xlim(0, budget)
    axes.set_ylim(*_range(task))
    count_ticks(axes)


def _curve(axes: Axes, record: Record, cell: CellScore, task: TaskCard, interval: int) -> None:
    values = curve_values(record.curve, task.levels.measure)
    samples = np.arange(len(values)) * interval
    look = BROKEN if cell.problem is not None else STAYED if cell.curve.eureka is None else JUMPED
    axes.plot(samples, values, linewidth=0.8, alpha=0.8, gid=cell.cell.name, **look)
    known = ~np.isnan(values)
    if cell.curve.eureka is not None:
        threshold = task.levels.threshold(task.scoring.threshold_fraction)
        axes.plot(cell.curve.eureka, threshold, zorder=3, clip_on=False, color=JUMPED["color"], **STAR)
    elif cell.problem is not None and known.any():
        axes.plot(samples[known][-1], values[known][-1], zorder=3, color=BROKEN["color"], **CROSS)


def _levels(axes: Axes, task: TaskCard, *, named: bool) -> None:
    """Lines at chance, shortcut, threshold and ceiling, named at the right edge without overlap."""
    levels = task.levels
    threshold = levels.threshold(task.scoring.threshold_fraction)
    lines = [("chance", levels.chance, ":"), ("threshold", threshold, "-"), ("ceiling", levels.ceiling, ":")]
    if levels.shortcut is not None:
        lines.append(("shortcut", levels.shortcut, "--"))
    bottom, top = _range(task)
    lowest = -np.inf
    for name, level, dashes in sorted(lines, key=lambda line: line[1]):
        axes.axhline(level, color=MUTED, linewidth=0.6, linestyle=dashes, zorder=1)
        lowest = max(lowest, (level - bottom) / (top - bottom))
        if named:
            offset: Look = {"xytext": (3, 0), "textcoords": "offset points", "va": "center", "fontsize": 6}
            axes.annotate(name, (1, lowest), xycoords="axes fraction", color=MUTED, annotation_clip=False, **offset)
        lowest += 0.085


def _range(task: TaskCard) -> tuple[float, float]:
    """Of the values that a panel shows; a loss may fall below its ceiling, so they begin at zero."""
    levels = task.levels
    if levels.measure == "loss":
        return 0.0, 1.08 * levels.chance
    margin = 0.08 * (levels.ceiling - levels.chance)
    return levels.chance - margin, levels.ceiling + margin


def curve_legend(runs: Iterable[RunScore]) -> dict[str, Line2D]:
    """What the marks of `draw_curves` mean, as far as these runs need them."""
    cells = [cell for run in runs for cell in run.cells if cell.status != "missing"]
    entries = {"Eureka-moment": Line2D([], [], **JUMPED, **STAR)}
    if any(cell.curve.eureka is None and cell.problem is None for cell in cells):
        entries["none by the budget"] = Line2D([], [], **STAYED)
    if any(cell.problem is not None for cell in cells):
        entries["diverged or failed"] = Line2D([], [], **BROKEN, **CROSS)
    return entries


def draw_survival(axes: Axes, styled: Styled) -> None:
    """Kaplan–Meier curves over all cells, each with its band."""
    for run, label, look in styled:
        curve, budget = run.grid.survival, run.spec.protocol.budget
        times, share, low, high = (
            [*values, end]
            for values, end in (
                (curve.times, budget),
                (curve.survival, curve.survival[-1]),
                (curve.low, curve.low[-1]),
                (curve.high, curve.high[-1]),
            )
        )
        axes.step(times, share, where="post", label=label, **look)
        axes.fill_between(times, low, high, step="post", alpha=0.15, linewidth=0, color=look["color"])
    axes.set_xlim(0, max(run.spec.protocol.budget for run, _, _ in styled))
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel("training samples")
    axes.set_ylabel("runs without a\nEureka-moment")
    count_ticks(axes)


def draw_by_rate(axes: Axes, styled: Styled, quantity: str) -> None:
    """p or S (`QUANTITIES`) of each learning rate."""
    rates = sorted({rate for run, _, _ in styled for rate in run.spec.protocol.learning_rates})
    for index, (run, label, look) in enumerate(styled):
        shift = 1.07 ** (index - (len(styled) - 1) / 2)
        positions = [rate * shift for rate in run.spec.protocol.learning_rates]
        _intervals(axes, positions, [getattr(scores, quantity) for scores in run.by_rate], label, look)
    axes.set_xscale("log")
    axes.set_xticks(rates, [rate_label(rate) for rate in rates])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlim(rates[0] / 1.6, rates[-1] * 1.6)
    axes.set_xlabel("learning rate")
    axes.set_ylabel(QUANTITIES[quantity])


def draw_robustness(axes: Axes, styled: Styled, quantity: str) -> None:
    """p or S (`QUANTITIES`) over the grid under each threshold fraction λ."""
    fractions: list[float] = []
    for index, (run, label, look) in enumerate(styled):
        fractions = [entry.threshold_fraction for entry in run.robustness]
        shift = 0.012 * (index - (len(styled) - 1) / 2)
        scores = [getattr(entry, quantity) for entry in run.robustness]
        _intervals(axes, [fraction + shift for fraction in fractions], scores, label, look)
    axes.set_xticks(fractions, [f"{fraction:g}" for fraction in fractions])
    axes.set_xlabel("threshold λ, from shortcut (0) to ceiling (1)")
    axes.set_ylabel(QUANTITIES[quantity])


def _intervals(
    axes: Axes, positions: Sequence[float], scores: Sequence[Interval | None], label: str, look: Look
) -> None:
    """Points with their intervals; a control task has no p, and nothing is drawn."""
    points = [(x, score.estimate, score.low, score.high) for x, score in zip(positions, scores, strict=True) if score]
    axes.set_ylim(-0.03, 1.03)
    if points:
        x, y, low, high = np.array(points).T
        axes.errorbar(x, y, yerr=(y - low, high - y), label=label, **look, **POINTS)


# The panels of a task in the figures that compare models.
SURVIVAL = (draw_survival,)
BY_RATE = tuple(partial(draw_by_rate, quantity=name) for name in QUANTITIES)
ROBUSTNESS = tuple(partial(draw_robustness, quantity=name) for name in QUANTITIES)


def count_ticks(axes: Axes) -> None:
    """Few, short numbers of samples along the axis of time."""
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, position: short_count(value)))


def row_label(label: str, spec: RunSpec, tasks: Collection[str]) -> str:
    """What a row of panels calls its run and its vertical axis; the task only where the figure shows several."""
    name = label if len(tasks) == 1 else f"{label}, {task_label(spec)}"
    return f"{textwrap.fill(name, 24)}\n{AXES[spec.task.levels.measure]}"


def figure_legend(figure: Figure, entries: Mapping[str, Line2D]) -> None:
    """One legend below all panels."""
    columns = max(1, int(figure.get_figwidth() // (0.6 + 0.07 * max(map(len, entries)))))
    figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=min(columns, len(entries)))
