"""The models of a task in one panel: survival, scores by learning rate and under other thresholds.

Every panel shows one task under one protocol and a series a model. Times are in training samples.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from multistep_bench.reporting import figures
from multistep_bench.reporting.figures import COLUMN, PAGE, PANEL_HEIGHT, Look, count_ticks, figure_legend
from multistep_bench.reporting.labels import rate_label, run_labels, task_label
from multistep_bench.scoring.run import RunScore
from multistep_bench.scoring.score import Score
from multistep_bench.scoring.statistics import Interval

QUANTITIES = {"probability": "Eureka probability p", "speed": "convergence speed S"}
POINTS: Look = {"marker": "o", "markersize": 3, "capsize": 2, "linewidth": 1, "elinewidth": 0.8}

Styled = Sequence[tuple[RunScore, str, Look]]  # runs with the names and styles of their series
TaskPanel = Callable[[Axes, Styled], None]


def plot_by_task(score: Score, path: str | Path, panels: Sequence[TaskPanel]) -> Path:
    """Writes a figure with a row a task and a panel for each of `panels`; returns the path.

    path: ends in .png, .svg or .pdf. Raises `BenchError` for another ending, or where it cannot be written.
    """
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
    axes.set_ylabel("cells without a\nEureka-moment")
    count_ticks(axes)


def draw_by_rate(axes: Axes, styled: Styled, quantity: str) -> None:
    """p or S (`QUANTITIES`) of each learning rate."""
    rates = sorted({rate for run, _, _ in styled for rate in run.spec.protocol.learning_rates})
    for index, (run, label, look) in enumerate(styled):
        shift = 1.07 ** (index - (len(styled) - 1) / 2)
        positions = [rate * shift for rate in run.spec.protocol.learning_rates]
        draw_intervals(axes, positions, [getattr(scores, quantity) for scores in run.by_rate], label, look)
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
        draw_intervals(axes, [fraction + shift for fraction in fractions], scores, label, look)
    axes.set_xticks(fractions, [f"{fraction:g}" for fraction in fractions])
    axes.set_xlabel("threshold λ, from shortcut (0) to ceiling (1)")
    axes.set_ylabel(QUANTITIES[quantity])


def draw_intervals(
    axes: Axes, positions: Sequence[float], scores: Sequence[Interval | None], label: str, look: Look
) -> None:
    """Points with their intervals; a control task has no p, and nothing is drawn."""
    points = [(x, score.estimate, score.low, score.high) for x, score in zip(positions, scores, strict=True) if score]
    axes.set_ylim(-0.03, 1.03)
    if points:
        x, y, low, high = np.array(points).T
        axes.errorbar(x, y, yerr=(y - low, high - y), label=label, **look, **POINTS)


# The panels of a task in each figure that compares models.
SURVIVAL: tuple[TaskPanel, ...] = (draw_survival,)
BY_RATE: tuple[TaskPanel, ...] = tuple(partial(draw_by_rate, quantity=name) for name in QUANTITIES)
ROBUSTNESS: tuple[TaskPanel, ...] = tuple(partial(draw_robustness, quantity=name) for name in QUANTITIES)
