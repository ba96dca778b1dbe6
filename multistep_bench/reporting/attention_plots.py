"""Attention maps as a figure: heat over the patches of an image, or a matrix over labelled tokens."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes

from multistep_bench.batch import Batch
from multistep_bench.diagnostics.maps import token_names
from multistep_bench.diagnostics.places import patches_per_tile, reading_tokens
from multistep_bench.errors import BenchError
from multistep_bench.generators.base import TaskGenerator
from multistep_bench.reporting import figures
from multistep_bench.reporting.inside_plots import HEAT, OPACITY
from multistep_bench.reporting.preview import pixels

IMAGE_PANEL, TOKEN_PANEL = 0.8, 1.5  # inches
GAP = 0.35  # of a panel, between moments

Maps = Mapping[str, Sequence[torch.Tensor]]  # moment → a layer's weights, [B, heads, queries, keys]


def plot_attention(
    maps: Maps,
    batch: Batch,
    task: TaskGenerator,
    path: str | Path,
    *,
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
) -> Path:
    """Writes a row a sample; from left to right the moments, in each the heads of each layer.

    Of an image task: the image, and over it the weights of the class token, as bright as the largest of a panel; the
    number under a panel is the weight on the class token. Of tokens: queries down, keys across, from 0 to 1 in black.
    layers, heads: counted from 1; by default all. Raises `BenchError` for one that the model has not.
    """
    first = next(iter(maps.values()))
    chosen = [
        (layer, head)
        for layer in _chosen("--layer", layers, len(first))
        for head in _chosen("--head", heads, first[layer - 1].shape[1])
    ]
    image = task.info.kind == "image"
    tokens = first[0].shape[-1]
    per_tile = patches_per_tile(task.info, tokens)
    if image and per_tile is None:
        raise BenchError(
            f"the {tokens} tokens of this model are no class token and patches of the images of {task.id}, so there is"
            " no place to draw their weights"
        )
    ratios = ([1.0] if image else []) + [1.0 if i else GAP for _ in maps for i in range(len(chosen) + 1)]
    side = IMAGE_PANEL if image else TOKEN_PANEL
    rows = len(batch.targets)
    with figures.style(**{"xtick.labelsize": 5, "ytick.labelsize": 5}):
        figure = figures.new_figure(max(figures.COLUMN, side * sum(ratios)), (side + 0.15) * rows + 0.5)
        grid = figure.subplots(rows, len(ratios), squeeze=False, width_ratios=ratios)
        for sample, axes in enumerate(grid):
            _draw_sample(axes, sample, maps, chosen, batch, task)
        return figures.save(figure, path)


def _draw_sample(
    axes: np.ndarray,
    sample: int,
    maps: Maps,
    chosen: Sequence[tuple[int, int]],
    batch: Batch,
    task: TaskGenerator,
) -> None:
    image = task.info.kind == "image"
    tokens = next(iter(maps.values()))[0].shape[-1]
    reading = int(reading_tokens(task.info, batch, tokens)[sample])
    for each in axes:
        each.set_axis_off()
    if image:
        axes[0].imshow(pixels(batch, sample), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    place = int(image)
    for at, layers in maps.items():
        for index, (layer, head) in enumerate(chosen):
            panel: Axes = axes[place + 1 + index]
            panel.set_axis_on()
            weights = layers[layer - 1][sample, head - 1].float().cpu().numpy()  # queries, keys
            if image:
                _draw_heat(panel, weights[0], pixels(batch, sample))
            else:
                _draw_matrix(panel, weights, token_names(batch, sample, task, tokens), reading, with_queries=index == 0)
            if sample == 0:
                title = f"layer {layer} head {head}"
                panel.set_title(f"{at}\n{title}" if index == 0 else title, fontsize=6)
        place += 1 + len(chosen)


def _draw_heat(panel: Axes, weights: np.ndarray, image: np.ndarray) -> None:
    """weights: [1 + patches] of the class token."""
    height, width = image.shape[:2]
    down = round((len(weights[1:]) * height / width) ** 0.5)
    heat = weights[1:].reshape(down, -1)
    panel.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    panel.imshow(heat, cmap=HEAT, vmin=0, vmax=float(heat.max()), alpha=OPACITY, extent=extent, interpolation="nearest")
    panel.set(xticks=[], yticks=[])
    panel.set_xlabel(f"class token {weights[0]:.2f}", fontsize=5, labelpad=1)


def _draw_matrix(panel: Axes, weights: np.ndarray, names: Sequence[str], reading: int, *, with_queries: bool) -> None:
    queries = names if len(weights) == len(names) else [names[reading]]
    panel.imshow(weights, cmap="gray_r", vmin=0, vmax=1, interpolation="nearest", aspect="auto")
    panel.set_xticks(range(len(names)), names, rotation=90)
    panel.set_yticks(range(len(queries)), queries if with_queries or len(queries) == 1 else [""] * len(queries))
    panel.tick_params(length=0, pad=1)


def _chosen(option: str, asked: Sequence[int] | None, count: int) -> Sequence[int]:
    known = range(1, count + 1)
    for number in asked or ():
        if number not in known:
            raise BenchError(f"{option} {number}: the model has {count}, counted from 1")
    return asked or known
