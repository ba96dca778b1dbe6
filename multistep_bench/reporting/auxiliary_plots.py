"""The curves of a task's auxiliary measurements: those that stand beside the score, such as shorter chains."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from multistep_bench.printable import ONE_LINE, printable
from multistep_bench.reporting import figures
from multistep_bench.reporting.figures import COLUMN, PAGE, PANEL_HEIGHT, Look, count_ticks, figure_legend
from multistep_bench.reporting.labels import rate_label, row_label, run_labels, task_label
from multistep_bench.runs.store import Run
from multistep_bench.scoring.eureka import curve_values
from multistep_bench.scoring.score import Score


def auxiliary_names(run: Run) -> list[str]:
    """The auxiliary measurements that a run's records hold, in their order."""
    return list(dict.fromkeys(name for record in run.records for name in record.auxiliary))


def rate_styles(runs: Iterable[Run]) -> dict[float, Look]:
    """How the curves of each learning rate of these runs are drawn."""
    return figures.series_styles(sorted({rate for run in runs for rate in run.spec.protocol.learning_rates}))


def rate_legend(runs: Iterable[Run]) -> dict[str, Line2D]:
    """A line for each learning rate of these runs, by its name."""
    return {f"rate {rate_label(rate)}": Line2D([], [], **look) for rate, look in rate_styles(runs).items()}


def plot_auxiliary(runs: Sequence[Run], score: Score, path: str | Path) -> Path:
    """The curves of all auxiliary measurements: a row of panels a run that has any, a panel a measurement.

    runs: those that `score` is of, in its order; at least one has measurements. path: ends in .png, .svg or .pdf, and
    is returned. Raises `BenchError` for another ending.
    """
    shown = [(run, label) for run, label in zip(runs, run_labels(score.runs), strict=True) if auxiliary_names(run)]
    tasks = {task_label(run.spec) for run, _ in shown}
    styles = rate_styles(run for run, _ in shown)
    columns = max(len(auxiliary_names(run)) for run, _ in shown)
    with figures.style():
        figure = figures.new_figure(COLUMN if columns == 1 else PAGE, PANEL_HEIGHT * len(shown) + 0.4)
        grid = figure.subplots(len(shown), columns, squeeze=False)
        for row, (run, label) in zip(grid, shown, strict=True):
            names = auxiliary_names(run)
            for axes in row[len(names) :]:
                axes.axis("off")
            for axes, name in zip(row, names, strict=False):
                draw_auxiliary(axes, run, name, styles)
            row[0].set_ylabel(row_label(label, run.spec, tasks))
        for column in grid.T:
            [axes for axes in column if axes.axison][-1].set_xlabel("training samples")
        if len(tasks) == 1:
            figure.suptitle(*tasks, fontsize=8)
        figure_legend(figure, rate_legend(run for run, _ in shown))
        return figures.save(figure, path)


def draw_auxiliary(axes: Axes, run: Run, name: str, styles: Mapping[float, Look]) -> None:
    """One auxiliary measurement: each cell a thin line, and at each learning rate the mean of its cells a thick one.

    The mean ends where the first of its cells does.
    """
    measure, protocol = run.spec.task.levels.measure, run.spec.protocol
    curves: dict[int, list[np.ndarray]] = {index: [] for index in range(len(protocol.learning_rates))}
    for record in run.records:
        if name in record.auxiliary:
            curves[record.cell.rate_index].append(curve_values(record.auxiliary[name], measure))
    for rate, cells in zip(protocol.learning_rates, curves.values(), strict=True):
        for values in cells:
            axes.plot(protocol.interval * np.arange(len(values)), values, linewidth=0.5, alpha=0.35, **styles[rate])
        shared = min(map(len, cells), default=0)
        mean = np.mean([values[:shared] for values in cells], axis=0) if shared else np.array([])
        axes.plot(protocol.interval * np.arange(shared), mean, linewidth=1.4, **styles[rate])
    axes.set_title(printable(name, ONE_LINE), loc="left")
    axes.set_xlim(0, protocol.budget)
    axes.set_ylim(bottom=0, top=1.03 if measure == "accuracy" else None)
    count_ticks(axes)
