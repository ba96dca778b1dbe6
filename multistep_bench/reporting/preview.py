"""A picture of a task's samples, to show a person what a model is asked."""

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from multistep_bench import seeds
from multistep_bench.batch import Batch, Region
from multistep_bench.errors import BenchError
from multistep_bench.generators.base import TaskGenerator
from multistep_bench.generators.tiles.tile_task import TileTask

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = 4
TILE = 1.9  # inches, the width and height of a sample
GAP = 0.2  # inches between samples
LINE = 0.1  # inches of height for a line of text under a sample
LINE_LENGTH = 52  # characters that fit under a sample
ASKED = "#e69f00"  # frame of the tile that is asked for: visible on black, and beside red and blue


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
            return figures.save(_draw_images(batch, title, task), path)
        if task.info.kind == "tokens":
            return figures.save(draw_tokens(batch, task.info.layout, task.token_name, title), path)
        return figures.save(draw_episodes(batch, task.token_name, title), path)


def _draw_images(batch: Batch, title: str, task: TaskGenerator) -> "Figure":
    """A grid of images, each with its caption; the tile that is asked for has a frame."""
    from matplotlib.patches import Rectangle

    from multistep_bench.reporting import figures

    n = len(batch.targets)
    captions = [caption(batch, index, task) for index in range(n)]
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
        if (region := asked_region(batch, index, task)) is not None:
            top, across, tall, wide = region
            frame: figures.Look = {"edgecolor": ASKED, "facecolor": "none", "linewidth": 2}
            axis.add_patch(Rectangle((across - 0.5, top - 0.5), wide, tall, clip_on=False, **frame))
        below: figures.Look = {"xycoords": "axes fraction", "textcoords": "offset points", "va": "top"}
        axis.annotate(target, (0, 0), (0, -3), weight="bold", fontsize=8, **below)
        axis.annotate("\n".join(lines), (0, 0), (0, -14), fontsize=5.5, color=figures.MUTED, **below)
    return figure


def pixels(batch: Batch, index: int) -> np.ndarray:
    """[H, W, 3], or [H, W] for one channel, clipped to [0, 1], which noise may leave."""
    assert isinstance(batch.inputs, torch.Tensor)  # image tasks keep to it: batch.Batch
    image = batch.inputs[index].clamp(0, 1).permute(1, 2, 0).cpu().numpy()
    return image[..., 0] if image.shape[-1] == 1 else image


def asked_region(batch: Batch, index: int, task: TaskGenerator) -> Region | None:
    """(top, left, height, width) in pixels of the tile that a sample asks for; None where no step names it."""
    places = list(task.info.layout.values())
    if "target_location" not in batch.steps or not places:
        return None
    return places[int(batch.steps["target_location"][index])]


def caption(batch: Batch, index: int, task: TaskGenerator | None = None) -> list[str]:
    """The target, then the steps: in words where the task has words for them.

    Otherwise each by its name and number; steps whose names differ only in the last word share a line.
    """
    if isinstance(task, TileTask):
        return _tile_caption(batch, index, task)
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


def _tile_caption(batch: Batch, index: int, task: TileTask) -> list[str]:
    """The answer and its name, what z says, and what each tile shows."""
    steps = {name: int(values[index]) for name, values in batch.steps.items()}
    target = int(batch.targets[index])
    name = task.answer_name(target, steps)
    lines = [f"target {target}" + (f": {name}" if name != str(target) else ""), *task.in_words(steps)]
    places = list(task.info.layout)
    for role in (name.removesuffix("_class") for name in steps if name.endswith("_class")):
        place = steps.get(f"{role}_place")
        standing = "" if place is None or places[place] == role else f", {places[place].replace('_', ' ')}"
        lines.append(f"{role.replace('_', ' ')}: {task.tile_name(role, steps)}{standing}")
    return [part for line in lines for part in textwrap.wrap(line, LINE_LENGTH, subsequent_indent="    ")]
