"""Models overlaid: the median curve of each at its best learning rate, a panel a task. The figure of a paper."""

import textwrap
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from multistep_bench.reporting.figures import Look, count_ticks
from multistep_bench.reporting.labels import AXES, rate_label
from multistep_bench.reporting.levels import draw_levels
from multistep_bench.reporting.task_plots import FAINT, Styled, TaskPanel, plot_by_task
from multistep_bench.runs.store import Run
from multistep_bench.scoring.eureka import curve_values
from multistep_bench.scoring.run import RunScore
from multistep_bench.scoring.score import Score

ACCURACIES = (-0.03, 1.05)  # of a panel
NOTE_WIDTH = 60  # letters
CAPTION = "median over the seeds at each model's best learning rate, shaded from the first to the third quartile"


@dataclass(frozen=True)
class MedianCurve:
    """What the cells of one learning rate do together.

    samples, median, low, high: [evaluations] median and quartiles over the cells, NaN where none was evaluated.
    cells: how many were trained, of `seeds`.
    """

    rate: float
    samples: np.ndarray
    median: np.ndarray
    low: np.ndarray
    high: np.ndarray
    cells: int
    seeds: int


Curves = dict[str, MedianCurve]  # by the identity of a run's specification


def median_curve(run: Run, scored: RunScore) -> MedianCurve:
    """The curve of a run at its best learning rate.

    A cell that ended before the budget counts as at chance from there on, as its final accuracy does; one that was not
    trained is left out.
    """
    protocol, levels = scored.spec.protocol, scored.spec.task.levels
    grid = np.arange(protocol.evaluations + 1)
    rows = []
    for record in run.records:
        if record.cell.rate_index == scored.best_rate:
            values = curve_values(record.curve, levels.measure)
            ended = np.full(len(grid), levels.chance)
            ended[: len(values)] = values
            rows.append(ended)
    cells = np.array(rows) if rows else np.full((1, len(grid)), np.nan)  # C, E
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # an evaluation that every cell lacks is a gap
        low, median, high = np.nanquantile(cells, (0.25, 0.5, 0.75), axis=0)
    rate = protocol.learning_rates[scored.best_rate]
    return MedianCurve(rate, grid * protocol.interval, median, low, high, len(rows), protocol.seeds)


def median_curves(runs: Sequence[Run], score: Score) -> Curves:
    """The curves of runs; runs: those that `score` is of, in its order."""
    return {scored.spec.identity(): median_curve(run, scored) for run, scored in zip(runs, score.runs, strict=True)}


def compare_panels(runs: Sequence[Run], score: Score) -> tuple[TaskPanel, ...]:
    """The one panel of each task."""
    return (partial(draw_medians, curves=median_curves(runs, score)),)


def plot_compare(runs: Sequence[Run], score: Score, path: str | Path) -> Path:
    """Writes the figure and returns its path; runs: those that `score` is of, in its order.

    path: ends in .png, .svg or .pdf. Raises `BenchError` for another ending, or where it cannot be written.
    """
    return plot_by_task(score, path, compare_panels(runs, score), title=CAPTION)


def draw_medians(axes: Axes, styled: Styled, faint: Styled = (), *, curves: Curves) -> None:
    """Median and quartiles of each run over its training samples, with the task's levels.

    Accuracies of all tasks have one scale, from 0 to 1. Below the panel stand the rates and numbers of seeds.
    """
    for run, _, _ in faint:
        curve = curves[run.spec.identity()]
        axes.plot(curve.samples, curve.median, zorder=0, **FAINT)
    for run, label, look in styled:
        curve = curves[run.spec.identity()]
        band: Look = {"alpha": 0.18, "linewidth": 0, "color": look["color"], "gid": look.get("gid")}
        axes.fill_between(curve.samples, curve.low, curve.high, **band)
        axes.plot(curve.samples, curve.median, label=label, **look)
    task = styled[0][0].spec.task
    axes.set_xlim(0, max(run.spec.protocol.budget for run, _, _ in (*styled, *faint)))
    count_ticks(axes, 2 if faint else 4)
    if task.levels.measure == "accuracy":
        draw_levels(axes, task, named=not faint, limits=ACCURACIES)
        axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
    else:
        draw_levels(axes, task, named=not faint)
    axes.set_ylabel(AXES[task.levels.measure].replace(" (", "\n("))
    notes = curve_notes([(label, curves[run.spec.identity()]) for run, label, _ in styled])
    if faint:
        place = {"transform": axes.transAxes, "ha": "right", "va": "bottom"}
        axes.text(0.98, 0.16, notes[0], fontsize="small", **place)
        axes.set_xlabel("training samples")
    else:
        lines = [line for note in notes for line in textwrap.wrap(note, NOTE_WIDTH)]
        axes.set_xlabel("\n".join(["training samples", *lines]))


def curve_notes(named: Sequence[tuple[str, MedianCurve]]) -> list[str]:
    """A line for the runs that share a rate and a number of cells, as in "rate 1e-3, n = 6: vit, vit_tau".

    Where all share them, the names are left out; "n = 5 of 6" where a cell is missing.
    """
    alike: dict[str, list[str]] = {}
    for label, curve in named:
        missing = f" of {curve.seeds}" if curve.cells < curve.seeds else ""
        alike.setdefault(f"rate {rate_label(curve.rate)}, n = {curve.cells}{missing}", []).append(label)
    if len(alike) == 1:
        return list(alike)
    return [f"{note}: {', '.join(labels)}" for note, labels in alike.items()]
