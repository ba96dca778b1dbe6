"""The models of a task in one panel: survival, scores by learning rate and under other thresholds.

Every panel shows one task under one protocol and a series a model. Times are in training samples.
"""

import textwrap
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from multistep_bench.reporting import figures
from multistep_bench.reporting.figures import COLUMN, PAGE, PANEL_HEIGHT, Look, count_ticks, figure_legend
from multistep_bench.reporting.labels import rate_label, run_labels, task_label
from multistep_bench.reporting.paper import paper
from multistep_bench.reporting.ticks import end_on_ticks
from multistep_bench.scoring.run import RunScore
from multistep_bench.scoring.score import Score
from multistep_bench.scoring.statistics import Interval

QUANTITIES = {"probability": "Eureka probability p", "speed": "convergence speed S"}
POINTS: Look = {"marker": "o", "markersize": 3, "capsize": 2, "linewidth": 1, "elinewidth": 0.8}

OVERLAID = 6  # runs that a panel tells apart by colour; of more, each has a panel of its own
NARROW = 2.2  # inches, that a panel needs at least
SMALL_COLUMNS = 4
SMALL_HEIGHT = 1.15  # inches
SMALL_TITLE = 26  # letters a line
FAINT: Look = {"color": figures.FAINT, "linewidth": 0.7}
SPREAD = 0.5  # of the gap between two learning rates, over which points are shifted sideways

Styled = Sequence[tuple[RunScore, str, Look]]  # runs with the names and styles of their series
TaskPanel = Callable[[Axes, Styled, Styled], None]  # axes, runs to draw, others to draw behind them without intervals


def plot_by_task(score: Score, path: str | Path, panels: Sequence[TaskPanel], title: str | None = None) -> Path:
    """Writes a figure of each task in turn and returns its path.

    Up to `OVERLAID` runs share a panel for each of `panels`; of more, each has a small panel of its own, named, with
    the others in grey behind it. title: stands above the legend, or below small panels.
    path: ends in .png, .svg or .pdf. Raises `BenchError` for another ending, or where it cannot be written.
    """
    tasks = by_task(score.runs)
    with figures.style():
        blocks = [_block(styled, panels) for styled in tasks.values()]
        figure, parts = _parts(blocks)
        for part, (task, styled), (rows, columns, _) in zip(parts, tasks.items(), blocks, strict=False):
            draw = _draw_overlaid if len(styled) <= OVERLAID else _draw_small
            draw(part, styled, panels, rows, columns)
            part.suptitle(task, x=0.02, ha="left", fontsize=paper().font_size)
        overlaid = [styled for styled in tasks.values() if len(styled) <= OVERLAID]
        series = {label: Line2D([], [], **look) for styled in overlaid for _, label, look in styled}
        if series:
            figure_legend(figure, series, title)
        elif title:
            figure.supxlabel(title, fontsize=paper().font_size - 1)
        return figures.save(figure, path)


def _parts(blocks: Sequence[tuple[int, int, float]]) -> tuple[Figure, Sequence[SubFigure]]:
    """A figure with a place for each task, below one another; tasks of one panel each stand two beside one another."""
    heights = [rows * height + 0.35 for rows, _, height in blocks]
    single = max(columns for _, columns, _ in blocks) == 1
    beside = 2 if single and len(blocks) > 1 and (paper().width or PAGE) > 2 * NARROW else 1
    heights = [max(heights[start : start + beside]) for start in range(0, len(heights), beside)]
    figure = figures.new_figure(COLUMN if single and beside == 1 else PAGE, sum(heights) + 0.4)
    parts = figure.subfigures(len(heights), beside, height_ratios=heights, squeeze=False)
    return figure, list(parts.flat)


def _block(styled: Styled, panels: Sequence[TaskPanel]) -> tuple[int, int, float]:
    """Rows and columns of a task's panels, and the height of a row."""
    if len(styled) <= OVERLAID:
        return 1, len(panels), PANEL_HEIGHT + 0.2
    width = paper().width or PAGE
    columns = max(2, min(SMALL_COLUMNS, round(width / PAGE * SMALL_COLUMNS)))
    lines = max(_small_title(label).count("\n") for _, label, _ in styled)
    return -(-len(styled) // columns) * len(panels), columns, SMALL_HEIGHT + 0.11 * lines


def _draw_overlaid(part: SubFigure, styled: Styled, panels: Sequence[TaskPanel], rows: int, columns: int) -> None:
    for axes, draw in zip(part.subplots(rows, columns, squeeze=False)[0], panels, strict=True):
        draw(axes, styled, ())
        end_on_ticks(axes)


def _draw_small(part: SubFigure, styled: Styled, panels: Sequence[TaskPanel], rows: int, columns: int) -> None:
    """For each kind of panel a block of rows, in it a panel a run."""
    grid = part.subplots(rows, columns, squeeze=False)
    a_panel = rows // len(panels)
    for index, draw in enumerate(panels):
        block = grid[index * a_panel : (index + 1) * a_panel]
        places = [axes for row in block for axes in row]
        for axes in places[len(styled) :]:
            axes.axis("off")
        for number, entry in enumerate(styled):
            draw_one_of_many(places[number], draw, styled, number)
            if number % columns:
                places[number].set_ylabel("")
                places[number].tick_params(labelleft=False)
            if number + columns < len(styled):
                places[number].set_xlabel("")
                places[number].tick_params(labelbottom=False)
            places[number].set_title(_small_title(entry[1]), loc="left", fontsize=paper().font_size - 1.5)


def _small_title(label: str) -> str:
    return "\n".join(textwrap.wrap(label, SMALL_TITLE, max_lines=4, placeholder=" …"))


def draw_one_of_many(axes: Axes, draw: TaskPanel, styled: Styled, number: int) -> None:
    """One run in colour, the others in grey behind it."""
    entry = styled[number]
    look = {**entry[2], **figures.series_style(0)}
    look.pop("gid", None)  # the whole panel is the run's
    draw(axes, [(entry[0], entry[1], look)], [other for other in styled if other is not entry])
    end_on_ticks(axes)


def by_task(runs: Sequence[RunScore]) -> Mapping[str, Styled]:
    """Runs by task and protocol, each with its series' name and style; a model looks the same everywhere."""
    labels = run_labels(runs)
    order = list(dict.fromkeys(labels))
    groups: dict[str, list[tuple[RunScore, str, Look]]] = {}
    for run, label in zip(runs, labels, strict=True):
        groups.setdefault(task_label(run.spec), []).append((run, label, figures.series_style(order.index(label))))
    return groups


def draw_survival(axes: Axes, styled: Styled, faint: Styled = ()) -> None:
    """Kaplan–Meier curves over all cells, each with its band; each ends at its run's budget."""
    for run, _, _ in faint:
        curve, budget = run.grid.survival, run.spec.protocol.budget
        axes.step([*curve.times, budget], [*curve.survival, curve.survival[-1]], where="post", zorder=0, **FAINT)
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
        band: Look = {"alpha": 0.15, "linewidth": 0, "color": look["color"], "gid": look.get("gid")}
        axes.fill_between(times, low, high, step="post", **band)
    axes.set_xlim(0, max(run.spec.protocol.budget for run, _, _ in (*styled, *faint)))
    _shares(axes, "cells without Eureka-moment")
    axes.set_xlabel("training samples")
    count_ticks(axes, 2 if faint else 4)


def draw_by_rate(axes: Axes, styled: Styled, faint: Styled = (), *, quantity: str) -> None:
    """p or S (`QUANTITIES`) of each learning rate; points stand nearer to their own rate than to any other."""
    shown = [*styled, *faint]
    rates = sorted({rate for run, _, _ in shown for rate in run.spec.protocol.learning_rates})
    for run, _, _ in faint:
        _faint_line(axes, run.spec.protocol.learning_rates, [getattr(scores, quantity) for scores in run.by_rate])
    shifts = _shifts(len(styled), np.log(rates))
    for (run, label, look), shift in zip(styled, np.exp(shifts), strict=True):
        positions = [rate * float(shift) for rate in run.spec.protocol.learning_rates]
        draw_intervals(axes, positions, [getattr(scores, quantity) for scores in run.by_rate], label, look)
    axes.set_xscale("log")
    axes.set_xticks(rates, [rate_label(rate) for rate in rates])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlim(rates[0] / 1.4, rates[-1] * 1.4)
    axes.set_xlabel("learning rate")
    _shares(axes, QUANTITIES[quantity])


def _shifts(series: int, positions: Sequence[float] | np.ndarray) -> np.ndarray:
    """[series] how far the points of each are moved, together `SPREAD` of the narrowest gap between positions."""
    gap = float(np.diff(positions).min()) if len(positions) > 1 else 0.3
    return (np.arange(series) - (series - 1) / 2) * SPREAD * gap / max(series, 2)


def draw_robustness(axes: Axes, styled: Styled, faint: Styled = (), *, quantity: str) -> None:
    """p or S (`QUANTITIES`) over the grid under each threshold fraction λ."""
    fractions = [entry.threshold_fraction for entry in styled[0][0].robustness]
    for run, _, _ in faint:
        _faint_line(axes, fractions, [getattr(entry, quantity) for entry in run.robustness])
    for (run, label, look), shift in zip(styled, _shifts(len(styled), fractions), strict=True):
        scores = [getattr(entry, quantity) for entry in run.robustness]
        draw_intervals(axes, [fraction + float(shift) for fraction in fractions], scores, label, look)
    axes.set_xticks(fractions, [f"{fraction:g}" for fraction in fractions])
    axes.set_xlabel("threshold λ" if faint else "threshold λ, from shortcut (0) to ceiling (1)")
    _shares(axes, QUANTITIES[quantity])


def _faint_line(axes: Axes, positions: Sequence[float], scores: Sequence[Interval | None]) -> None:
    known = [(x, score.estimate) for x, score in zip(positions, scores, strict=True) if score]
    if known:
        axes.plot(*zip(*known, strict=True), zorder=0, **FAINT)


def _shares(axes: Axes, name: str) -> None:
    """A vertical axis from 0 to 1."""
    axes.set_ylim(-0.03, 1.03)
    axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.set_ylabel(textwrap.fill(name, 15))


def draw_intervals(
    axes: Axes, positions: Sequence[float], scores: Sequence[Interval | None], label: str, look: Look
) -> None:
    """Points with their intervals; a control task has no p, and nothing is drawn."""
    points = [(x, score.estimate, score.low, score.high) for x, score in zip(positions, scores, strict=True) if score]
    axes.set_ylim(-0.03, 1.03)
    if points:
        x, y, low, high = np.array(points).T
        drawn = axes.errorbar(x, y, yerr=(y - low, high - y), label=label, **look, **POINTS)
        for part in drawn.get_children():
            part.set_gid(look.get("gid"))


# The panels of a task in each figure that compares models.
SURVIVAL: tuple[TaskPanel, ...] = (draw_survival,)
BY_RATE: tuple[TaskPanel, ...] = tuple(partial(draw_by_rate, quantity=name) for name in QUANTITIES)
ROBUSTNESS: tuple[TaskPanel, ...] = tuple(partial(draw_robustness, quantity=name) for name in QUANTITIES)
