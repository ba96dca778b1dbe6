"""What `probe` and `attention` left in the folders of runs, as panels of figures and of the report."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from multistep_bench.printable import ONE_LINE, printable
from multistep_bench.reporting.diagnostic_plots import Panels, plot_panels
from multistep_bench.reporting.probe_table import draw_probes, probe_legend
from multistep_bench.runs.inside import KeptMaps, load_maps
from multistep_bench.runs.store import Run
from multistep_bench.scoring.probe_rows import probe_rows
from multistep_bench.scoring.run import RunScore
from multistep_bench.scoring.score import Score

HEAT = "inferno"
OPACITY = 0.65
FIRST = 0  # the sample that is drawn
EDGE = 2  # pixels between the pictures of heads
PROBE_HEIGHT, MAP_HEIGHT = 2.1, 2.0  # inches of a panel


def probe_panels(run: Run, scored: RunScore, moments: Sequence[str] = ()) -> Panels:
    """A panel a variable: accuracy by layer and representation, a colour a moment.

    moments: in the order of their colours, where several runs share a legend; by default those of the run.
    """
    rows = probe_rows(run)
    moments = moments or _moments(run)
    for variable in dict.fromkeys(row.variable for row in rows):
        mine = [row for row in rows if row.variable == variable]
        yield printable(variable, ONE_LINE), partial(draw_probes, rows=mine, moments=moments)


def probe_marks(run: Run, scored: RunScore, moments: Sequence[str] = ()) -> dict[str, Line2D]:
    """The colours of the moments."""
    return probe_legend([printable(at, ONE_LINE) for at in moments or _moments(run)])


def _moments(run: Run) -> list[str]:
    return list(dict.fromkeys(row.at for row in probe_rows(run)))


def map_panels(run: Run, scored: RunScore) -> Panels:
    """A panel a moment: where the token that is read attends in the first sample, by layer and head.

    Of images heat lies over the picture, a row a layer; of tokens a row is a head and a column a token.
    """
    maps = load_maps(run.path)
    if maps is None:
        return
    draw = _draw_images if len(maps.images) else _draw_tokens
    for moment in maps.moments:
        name = f"{moment} samples" if moment.isdigit() else moment
        yield printable(name, ONE_LINE), partial(draw, maps=maps, weights=maps.weights[moment][FIRST])


def no_marks(run: Run, scored: RunScore) -> dict[str, Line2D]:
    """Heat needs no legend."""
    return {}


def plot_probes_of(runs: Sequence[Run], score: Score, path: str | Path) -> Path:
    """Bars of accuracy by layer, a row a run (compare Hoffmann et al. 2024, figure 2); returns the path."""
    moments = list(dict.fromkeys(at for run in runs for at in _moments(run)))
    panels, marks = partial(probe_panels, moments=moments), partial(probe_marks, moments=moments)
    return plot_panels(runs, score, path, panels, marks, height=PROBE_HEIGHT)


def plot_maps_of(runs: Sequence[Run], score: Score, path: str | Path) -> Path:
    """Attention from the token that is read, a row a run (compare Hoffmann et al. 2024, figure 3); returns the path."""
    return plot_panels(runs, score, path, map_panels, no_marks, height=MAP_HEIGHT)


def _draw_images(axes: Axes, maps: KeptMaps, weights: np.ndarray) -> None:
    """weights: [heads of all layers, keys]."""
    layers = _layers(maps)
    image = maps.images[FIRST].astype(np.float64) / 255
    height, width = image.shape[:2]
    across = max(layers.values())
    whole = np.ones((len(layers) * (height + EDGE) - EDGE, across * (width + EDGE) - EDGE, 3))
    row = 0
    for layer, heads in enumerate(layers.values()):
        for head in range(heads):
            top, left = layer * (height + EDGE), head * (width + EDGE)
            whole[top : top + height, left : left + width] = _heated(image, weights[row])
            row += 1
    axes.imshow(whole, interpolation="nearest")
    axes.set_yticks([layer * (height + EDGE) + height / 2 for layer in range(len(layers))], list(layers))
    heads = [f"head {head + 1}" for head in range(across)]
    axes.set_xticks([head * (width + EDGE) + width / 2 for head in range(across)], heads)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _heated(image: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The image [H, W, 3] under heat of the weights [1 + patches], as bright as the largest of the patches."""
    height, width = image.shape[:2]
    patches = weights[1:]
    down = round((len(patches) * height / width) ** 0.5)
    heat = colormaps[HEAT](patches.reshape(down, -1) / max(float(patches.max()), 1e-12))[..., :3]
    rows, columns = np.arange(height) * down // height, np.arange(width) * (len(patches) // down) // width
    return (1 - OPACITY) * image + OPACITY * heat[rows][:, columns]


def _draw_tokens(axes: Axes, maps: KeptMaps, weights: np.ndarray) -> None:
    """weights: [heads of all layers, keys]."""
    axes.imshow(weights, cmap="gray_r", vmin=0, vmax=1, interpolation="nearest", aspect="auto")
    names = [printable(str(name), ONE_LINE) for name in maps.tokens[FIRST]]
    axes.set_xticks(range(len(names)), names, rotation=90)
    axes.set_yticks(range(len(maps.heads)), [printable(name, ONE_LINE) for name in maps.heads])
    axes.tick_params(length=0, labelsize=6)


def _layers(maps: KeptMaps) -> dict[str, int]:
    """Name of each layer → the number of its heads."""
    counts: dict[str, int] = {}
    for name in maps.heads:
        layer = printable(name.partition(" head")[0], ONE_LINE)
        counts[layer] = counts.get(layer, 0) + 1
    return counts
