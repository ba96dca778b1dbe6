"""What diagnostics recorded, over training: ratios of gradients, and where the reading token attends."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullFormatter

from multistep_bench.printable import ONE_LINE, printable
from multistep_bench.reporting import figures
from multistep_bench.reporting.curve_plots import JUMPED, STAR
from multistep_bench.reporting.figures import COLUMN, INK, MUTED, PAGE, PANEL_HEIGHT, SERIES, Look, count_ticks
from multistep_bench.reporting.labels import rate_label, run_labels, task_label
from multistep_bench.runs.diagnostics import SAMPLES, Arrays, has_diagnostics, load_diagnostics
from multistep_bench.runs.store import Run
from multistep_bench.scoring.cell_set import CellScore
from multistep_bench.scoring.inside import PROJECTIONS, gradient_ratios
from multistep_bench.scoring.phases import shortcut_reached
from multistep_bench.scoring.run import RunScore
from multistep_bench.scoring.score import Score

RATIO_LOOKS: dict[str, Look] = {name: {"color": SERIES[index + 1]} for index, name in enumerate(PROJECTIONS)}
ENTROPY = "entropy / ln n"
ENTROPY_LOOK: Look = {"color": INK, "linestyle": "-."}
PLATEAU: Look = {"color": MUTED, "alpha": 0.12, "linewidth": 0, "zorder": 0}
TIME = "training samples"
LINE: Look = {"linewidth": 0.9, "alpha": 0.85}

Panels = Iterator[tuple[str, Callable[[Axes], None]]]
Row = tuple[str, list[tuple[str, Callable[[Axes], None]]]]


def gradient_panels(run: Run, scored: RunScore) -> Panels:
    """A panel for each learning rate with cells whose gradients were recorded: its name, and what fills axes."""
    for index, rate in enumerate(scored.spec.protocol.learning_rates):
        cells = _cells(run, scored, index, "gradients.l2")
        if cells:
            yield f"learning rate {rate_label(rate)}", partial(_draw_gradients, run=run, cells=cells)


def attention_panels(run: Run, scored: RunScore, regions: Sequence[str] = ()) -> Panels:
    """A panel for each learning rate and layer: shares of the regions from the reading token, mean over heads.

    regions: names in the order of their looks, where several runs share a legend; by default those of the run.
    """
    for index, rate in enumerate(scored.spec.protocol.learning_rates):
        cells = _cells(run, scored, index, "attention.share_reading")
        for layer, name in enumerate(cells[0][1]["attention.layers"].tolist() if cells else ()):
            title = f"learning rate {rate_label(rate)}, {printable(name, ONE_LINE)}"
            yield title, partial(_draw_attention, run=run, cells=cells, layer=layer, regions=regions)


def gradient_legend(run: Run, scored: RunScore) -> dict[str, Line2D]:
    """The marks of `gradient_panels`."""
    return {name: Line2D([], [], **look) for name, look in RATIO_LOOKS.items()} | _marks()


def attention_legend(run: Run, scored: RunScore, regions: Sequence[str] = ()) -> dict[str, Line2D]:
    """The marks of `attention_panels`; the regions are those of the first cell that has any."""
    names = _regions(run)
    looks = figures.series_styles([*regions, *names])
    shown = {printable(name, ONE_LINE): Line2D([], [], **looks[name]) for name in names}
    return shown | {ENTROPY: Line2D([], [], **ENTROPY_LOOK)} | _marks()


def _regions(run: Run) -> list[str]:
    found = load_diagnostics(run) if has_diagnostics(run) else {}
    return next((arrays["regions"].tolist() for arrays in found.values() if "regions" in arrays), [])


def _marks() -> dict[str, Line2D]:
    plateau: Look = {"color": MUTED, "alpha": 0.3, "linewidth": 5}
    star: Look = {**JUMPED, "linestyle": "none", **STAR}
    return {"Eureka-moment": Line2D([], [], **star), "on the shortcut": Line2D([], [], **plateau)}


def plot_gradients(runs: Sequence[Run], score: Score, path: str | Path) -> Path:
    """W_K / W_V and W_Q / W_V over training, a row a run (compare Hoffmann et al. 2024, figure 4); returns the path."""
    return plot_panels(runs, score, path, gradient_panels, gradient_legend, TIME)


def plot_attention(runs: Sequence[Run], score: Score, path: str | Path) -> Path:
    """Where the reading token attends over training, a row a run and a panel a layer; returns the path."""
    regions = [name for run in runs for name in _regions(run)]
    panels, legend = partial(attention_panels, regions=regions), partial(attention_legend, regions=regions)
    return plot_panels(runs, score, path, panels, legend, TIME)


def plot_panels(
    runs: Sequence[Run],
    score: Score,
    path: str | Path,
    panels: Callable[[Run, RunScore], Panels],
    legend: Callable[[Run, RunScore], Mapping[str, Line2D]],
    below: str = "",
    height: float = PANEL_HEIGHT,
) -> Path:
    """The panels of each run that has some, in rows of up to three under its name; returns the path.

    runs: those that `score` is of, in its order. below: under the lowest axes. height: of a panel, in inches.
    """
    tasks = {task_label(scored.spec) for scored in score.runs}
    rows: list[Row] = []
    entries: dict[str, Line2D] = {}
    for run, scored, label in zip(runs, score.runs, run_labels(score.runs), strict=True):
        drawn = list(panels(run, scored))
        if drawn:
            rows.append((label if len(tasks) == 1 else f"{label}\n{task_label(run.spec)}", drawn))
            entries |= legend(run, scored)
    columns = min(3, max(len(drawn) for _, drawn in rows))
    lines = [
        (label if not first else "", drawn[first : first + columns])
        for label, drawn in rows
        for first in range(0, len(drawn), columns)
    ]
    with figures.style():
        figure = figures.new_figure(COLUMN if columns == 1 else PAGE, height * len(lines) + 0.5)
        _fill(figure, lines, columns, below)
        if len(tasks) == 1:
            figure.suptitle(*tasks, fontsize=8)
        if entries:
            figures.figure_legend(figure, entries)
        return figures.save(figure, path)


def _fill(figure: Figure, lines: Sequence[Row], columns: int, below: str) -> None:
    grid = figure.subplots(len(lines), columns, squeeze=False)
    for row, (label, drawn) in zip(grid, lines, strict=True):
        for axes in row[len(drawn) :]:
            axes.axis("off")
        for axes, (title, draw) in zip(row, drawn, strict=False):
            draw(axes)
            axes.set_title(title.replace("learning rate", "rate"), loc="left")
        row[0].set_ylabel("\n".join(filter(None, (label, row[0].get_ylabel()))))
    for axes in grid[-1]:
        axes.set_xlabel(below)


def _cells(run: Run, scored: RunScore, rate_index: int, figure: str) -> list[tuple[CellScore, Arrays]]:
    """The cells of a learning rate that hold a figure, each with its arrays."""
    if not has_diagnostics(run):
        return []
    found = load_diagnostics(run)
    cells = scored.cells_by_rate[rate_index]
    return [(cell, found[cell.cell]) for cell in cells if figure in found.get(cell.cell, {})]


def _draw_gradients(axes: Axes, run: Run, cells: Sequence[tuple[CellScore, Arrays]]) -> None:
    for cell, arrays in cells:
        for name, ratio in gradient_ratios(arrays).items():
            axes.plot(arrays[SAMPLES], ratio, gid=cell.cell.name, **RATIO_LOOKS[name], **LINE)
        _mark(axes, run, cell, arrays[SAMPLES], gradient_ratios(arrays)["W_K / W_V"])
    axes.axhline(1, color=MUTED, linewidth=0.6, zorder=1)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, position: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_ylabel("ratio of gradients")
    _frame(axes, run)


def _draw_attention(
    axes: Axes, run: Run, cells: Sequence[tuple[CellScore, Arrays]], layer: int, regions: Sequence[str]
) -> None:
    for cell, arrays in cells:
        names = arrays["regions"].tolist()
        looks = figures.series_styles([*regions, *names])
        shares = np.nanmean(arrays["attention.share_reading"][:, layer], axis=1)  # E, regions
        for name, share in zip(names, shares.T, strict=True):
            axes.plot(arrays[SAMPLES], share, gid=cell.cell.name, **looks[name], **LINE)
        entropy = np.nanmean(arrays["attention.relative_entropy"][:, layer], axis=1)
        axes.plot(arrays[SAMPLES], entropy, gid=cell.cell.name, **ENTROPY_LOOK, **LINE)
        _mark(axes, run, cell, arrays[SAMPLES], entropy)
    axes.set_ylim(-0.03, 1.03)
    axes.set_ylabel("share of attention")
    _frame(axes, run)


def _frame(axes: Axes, run: Run) -> None:
    axes.set_xlim(0, run.spec.protocol.budget)
    count_ticks(axes)


def _mark(axes: Axes, run: Run, cell: CellScore, samples: np.ndarray, line: np.ndarray) -> None:
    """A star on a cell's line at its Eureka-moment, and its time on the shortcut shaded."""
    event = cell.curve.eureka
    if event is not None and np.isfinite(height := np.interp(event, samples, line)):
        axes.plot(event, height, zorder=3, color=JUMPED["color"], **STAR)
    record = next(record for record in run.records if record.cell == cell.cell)
    if (begin := shortcut_reached(run, record)) is not None:
        end = run.spec.protocol.interval * (len(record) - 1) if event is None else event
        if end > begin:
            axes.axvspan(begin, end, **PLATEAU)
