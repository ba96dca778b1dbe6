"""Every cell's curve of accuracy or loss, a panel a learning rate, with the task's levels and its Eureka-moments."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from multistep_bench.cards import TaskCard
from multistep_bench.reporting import figures
from multistep_bench.reporting.figures import (
    COLUMN,
    PAGE,
    PANEL_HEIGHT,
    SERIES,
    Look,
    count_ticks,
    figure_legend,
)
from multistep_bench.reporting.labels import rate_label, row_label, run_labels, task_label
from multistep_bench.reporting.levels import draw_levels
from multistep_bench.reporting.paper import paper
from multistep_bench.reporting.ticks import end_on_ticks
from multistep_bench.runs.record import Record
from multistep_bench.runs.store import Run
from multistep_bench.scoring.cell_set import CellScore
from multistep_bench.scoring.eureka import curve_values
from multistep_bench.scoring.run import RunScore
from multistep_bench.scoring.score import Score

JUMPED: Look = {"color": SERIES[0], "linestyle": "-"}
STAYED: Look = {"color": SERIES[5], "linestyle": "-"}
BROKEN: Look = {"color": SERIES[1], "linestyle": "--"}
STAR: Look = {"marker": "*", "markersize": 9, "markeredgecolor": figures.PAPER, "markeredgewidth": 0.5}
CROSS: Look = {"marker": "x", "markersize": 5}


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
            figure.suptitle(*tasks, fontsize=paper().font_size)
        figure_legend(figure, curve_legend(score.runs))
        return figures.save(figure, path)


def draw_curves(axes: Axes, run: Run, scored: RunScore, rate_index: int, *, name_levels: bool = True) -> None:
    """The curve of each seed at one learning rate, the levels, a star at each Eureka-moment, a cross at each failure.

    Each line's gid is the name of its cell.
    """
    task, budget = scored.spec.task, scored.spec.protocol.budget
    records = {record.cell: record for record in run.records}
    cells = scored.cells_by_rate[rate_index]
    for cell in cells:
        if cell.cell in records:
            _curve(axes, records[cell.cell], cell, task, scored.spec.protocol.interval)
    axes.set_title(f"rate {rate_label(cells[0].learning_rate)}   {_events(cells)}", loc="left")
    axes.set_xlim(0, budget)
    count_ticks(axes)
    draw_levels(axes, task, named=name_levels)
    end_on_ticks(axes)


def _events(cells: Sequence[CellScore]) -> str:
    """How many of the cells that were trained had their Eureka-moment, and how many are missing."""
    trained = [cell for cell in cells if cell.status != "missing"]
    jumped = sum(cell.curve.eureka is not None for cell in trained)
    missing = len(cells) - len(trained)
    return f"★ {jumped}/{len(trained)}" + (f", {missing} missing" if missing else "")


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


def curve_legend(runs: Iterable[RunScore]) -> dict[str, Line2D]:
    """The legend of `draw_curves`, with the marks that these runs have."""
    cells = [cell for run in runs for cell in run.cells if cell.status != "missing"]
    entries = {"Eureka-moment": Line2D([], [], **JUMPED, **STAR)}
    if any(cell.curve.eureka is None and cell.problem is None for cell in cells):
        entries["none within the budget"] = Line2D([], [], **STAYED)
    if any(cell.problem is not None for cell in cells):
        entries["diverged or failed"] = Line2D([], [], **BROKEN, **CROSS)
    return entries
