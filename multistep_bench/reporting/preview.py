"""A picture of a task's samples, to show a person what a model is asked."""

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from multistep_bench import seeds
from multistep_bench.batch import Batch
from multistep_bench.errors import BenchError
from multistep_bench.generators.base import TaskGenerator

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = 4
TILE = 1.9  # inches, the width and height of a sample
GAP = 0.2  # inches between samples
LINE = 0.1  # inches of height for a line of text under a sample
LINE_LENGTH = 52  # characters that fit under a sample


def preview(task: TaskGenerator, path: str | Path, n: int = 12, seed: int = 0) -> Path:
    """Writes a picture of n evaluation samples with the targets and the intermediate steps of each.

    path: ends in .png, .svg or .pdf. Equal seeds give equal samples.
    """
    if n < 1:
        raise BenchError(f"preview of {n} samples: ask for at least one")
    from multistep_bench.reporting import figures
    from multistep_bench.reporting.preview_sequences import draw_episodes, draw_tokens

    batch = task.sample(n, split="eval", rng=seeds.generator(seeds.derive("preview", seed)))
    title = f"{task.id}: {n} samples, seed {seed}"
    with figures.style():
        if task.info.kind == "image":
            return figures.save(_draw_images(batch, title), path)
        if task.info.kind == "tokens":
            return figures.save(draw_tokens(batch, task.info.layout, task.token_name, title), path)
        return figures.save(draw_episodes(batch, task.token_name, title), path)


def _draw_images(batch: Batch, title: str) -> "Figure":
    """A grid of images, each with its caption."""
    from multistep_bench.reporting import figures

    n = len(batch.targets)
    captions = [caption(batch, index) for index in range(n)]
    columns = min(n, COLUMNS)
    rows = -(-n // columns)
    cell = TILE + GAP, TILE + GAP + (1.5 + max(map(len, captions))) * LINE  # width, height
    width, height = columns * cell[0] + GAP, rows * cell[1] + 2 * GAP
    figure = figures.new_figure(width, height, layout=None)
    figure.text(GAP / width, 1 - GAP / height, title, fontsize=9, va="center")
    for index, (target, *lines) in enumerate(captions):
        left = GAP + index % columns * cell[0]
        bottom = height - 2 * GAP - index // columns * cell[1] - TILE
        axis = figure.add_axes((left / width, bottom / height, TILE / width, TILE / height), frameon=False)
        axis.set(xticks=[], yticks=[])
        axis.imshow(pixels(batch, index), cmap="gray", vmin=0, vmax=1, interpolation="nearest", aspect="equal")
        below: figures.Look = {"xycoords": "axes fraction", "textcoords": "offset points", "va": "top"}
        axis.annotate(target, (0, 0), (0, -3), weight="bold", fontsize=8, **below)
        axis.annotate("\n".join(lines), (0, 0), (0, -14), fontsize=5.5, color=figures.MUTED, **below)
    return figure


def pixels(batch: Batch, index: int) -> np.ndarray:
    """[H, W, 3], or [H, W] for one channel, clipped to [0, 1], which noise may leave."""
    assert isinstance(batch.inputs, torch.Tensor)  # image tasks keep to it: batch.Batch
    image = batch.inputs[index].clamp(0, 1).permute(1, 2, 0).cpu().numpy()
    return image[..., 0] if image.shape[-1] == 1 else image


def caption(batch: Batch, index: int) -> list[str]:
    """The target, then the steps; steps whose names differ only in the last word share a line."""
    groups: dict[str, list[tuple[str, int]]] = {}
    for name, values in batch.steps.items():
        subject, _, word = name.rpartition("_")
        groups.setdefault(subject or word, []).append((word, int(values[index])))
    lines = [f"target {int(batch.targets[index])}"]
    for subject, members in groups.items():
        shared = subject.replace("_", " ")
        values = ", ".join(f"{word} {value}" for word, value in members)
        lines.append(values if shared == members[0][0] else f"{shared}{':' * (len(members) > 1)} {values}")
    return [part for line in lines for part in textwrap.wrap(line, LINE_LENGTH, subsequent_indent="    ")]
