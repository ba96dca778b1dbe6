"""Bars of the gradient of W_Q, W_K and W_V by region: before training, on the plateau, at the Eureka-moment."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from multistep_bench.printable import ONE_LINE, printable
from multistep_bench.reporting.diagnostic_plots import Panels, plot_panels
from multistep_bench.reporting.figures import INK, SERIES, Look
from multistep_bench.runs.diagnostics import SAMPLES, Arrays, has_diagnostics, load_diagnostics
from multistep_bench.runs.store import Run
from multistep_bench.scoring.phases import PHASES, by_phase, over_cells, phases_of
from multistep_bench.scoring.run import RunScore
from multistep_bench.scoring.score import Score
from multistep_bench.scoring.statistics import Interval

FIGURE = "gradients.l2_by_region"
PROJECTIONS = ("W_Q", "W_K", "W_V")
BAR_WIDTH = 0.8  # of all bars of a region together
HIGHEST = 1.7  # the scale ends at so many times the tallest bar, or before; whiskers of few cells may reach beyond
HEIGHT = 1.9  # inches of a panel with upright names below


def region_panels(run: Run, scored: RunScore) -> Panels:
    """A panel each for W_Q, W_K and W_V, all cells of all learning rates together."""
    regions, values = region_gradients(run, scored)
    if values:
        for place, name in enumerate(PROJECTIONS):
            yield name, partial(_draw, regions=regions, values={at: each[..., place, :] for at, each in values.items()})


def region_legend(run: Run, scored: RunScore) -> dict[str, Line2D]:
    """The colours of the phases."""
    _, values = region_gradients(run, scored)
    return {name: Line2D([], [], **_look(name), linewidth=5) for name in PHASES if name in values}


def region_gradients(run: Run, scored: RunScore) -> tuple[list[str], dict[str, np.ndarray]]:
    """The regions' names, and phase → [cells, 3, regions + 1]: the L2 norm over all layers together of each region's
    part of the gradient of W_Q, W_K and W_V, mean over the recordings of the phase; NaN layers are left out.
    """
    found = load_diagnostics(run) if has_diagnostics(run) else {}
    cells = [(cell, found[cell.cell]) for cell in scored.cells if FIGURE in found.get(cell.cell, {})]
    if not cells or all(np.isnan(arrays[FIGURE]).all() for _, arrays in cells):
        return [], {}
    values = [np.sqrt(np.nansum(arrays[FIGURE] ** 2, axis=1)) for _, arrays in cells]  # E, 3, regions + 1
    places = [phases_of(run, cell).places(arrays[SAMPLES]) for cell, arrays in cells]
    return _names(cells[0][1]), by_phase(values, places)


def plot_regions(runs: Sequence[Run], score: Score, path: str | Path) -> Path:
    """A row a run (compare Hoffmann et al. 2024, figure 5); returns the path."""
    return plot_panels(runs, score, path, region_panels, region_legend, height=HEIGHT)


def _names(arrays: Arrays) -> list[str]:
    return [printable(name, ONE_LINE) for name in arrays["gradients.tokens"].tolist()]


def _look(phase: str) -> Look:
    return {"color": SERIES[PHASES.index(phase)]}


def _draw(axes: Axes, regions: Sequence[str], values: dict[str, np.ndarray]) -> None:
    """values: phase → [cells, regions + 1]; where every token lies in a region, nothing is drawn elsewhere."""
    if not any(norms[:, -1].any() for norms in values.values()):
        regions, values = regions[:-1], {phase: norms[:, :-1] for phase, norms in values.items()}
    width = BAR_WIDTH / len(values)
    for index, (phase, norms) in enumerate(values.items()):
        bars = [over_cells(each) for each in norms.T]
        axes.bar(
            np.arange(len(regions)) + (index - (len(values) - 1) / 2) * width,
            [np.nan if bar is None else bar.estimate for bar in bars],
            width,
            yerr=np.array([_whiskers(bar) for bar in bars]).T,
            error_kw={"elinewidth": 0.6, "ecolor": INK},
            **_look(phase),
        )
    axes.set_xticks(range(len(regions)), regions, rotation=90)
    tallest = max(np.nanmean(norms, axis=0).max() for norms in values.values())
    axes.set_ylim(0, min(axes.get_ylim()[1], HIGHEST * tallest) or 1.0)
    axes.set_ylabel("gradient norm")


def _whiskers(bar: Interval | None) -> tuple[float, float]:
    """How far the interval of a norm reaches below and above it; 0 where one cell has none."""
    if bar is None or not np.isfinite(bar.high):
        return 0.0, 0.0
    return bar.estimate - max(bar.low, 0.0), bar.high - bar.estimate
