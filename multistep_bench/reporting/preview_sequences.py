"""Pictures of samples that are sequences: tokens in boxes, and episodes of items with labels.

Everything is placed in inches on one axes that fills the figure.
"""

import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from multistep_bench.batch import IGNORED, Batch, Region
from multistep_bench.reporting import figures

WIDTH = 7.0  # of a figure
GAP = 0.2  # around it and between samples
LETTER = 0.07  # the width of a letter in a box
SMALL_LETTER = 0.055  # and in other text
BOX = 0.18  # the height of a box
LINE = 0.36  # of a line of tokens, with the regions above
UNDER = 0.15  # of the answers under tokens and items
ITEM = 0.6  # the largest side of an item
TEXT = 0.1  # the height of a line of text under a sample
TEXT_LENGTH = int((WIDTH - 2 * GAP) / SMALL_LETTER)  # letters that such a line holds
TARGET, QUERY = figures.SERIES[1], figures.SERIES[0]

Name = Callable[[int], str]


@dataclass(frozen=True)
class Box:
    """One token of a sample: its position, what stands in the box and below it, its left edge and width."""

    position: int
    token: str
    target: str
    left: float
    width: float


def draw_tokens(batch: Batch, layout: Mapping[str, Region], name: Name, title: str) -> Figure:
    """A sample a block: its tokens in boxes, the regions named above, the targets below, then its steps.

    name: of a token, and of a class that a target names.
    """
    assert isinstance(batch.inputs, torch.Tensor)
    pairs = zip(batch.inputs.tolist(), targets_by_position(batch), strict=True)
    samples = [lines_of_boxes(tokens, targets, layout, name) for tokens, targets in pairs]
    heights = [[LINE + UNDER * any(box.target for box in line) for line in lines] for lines in samples]
    figure, axes, tops = _page(batch, list(map(sum, heights)), title)
    for lines, line_heights, top in zip(samples, heights, tops, strict=True):
        for line, height in zip(lines, line_heights, strict=True):
            _draw_line(axes, line, layout, top)
            top -= height
    return figure


def draw_episodes(batch: Batch, name: Name, title: str) -> Figure:
    """A sample a row: items as pictures or strips over their labels, the query in a frame over its target; steps."""
    assert isinstance(batch.inputs, dict)
    items, labels = batch.inputs["items"].cpu().numpy(), batch.inputs["labels"].tolist()
    side = min(ITEM, (WIDTH - 2 * GAP) / items.shape[1])
    figure, axes, tops = _page(batch, [side + UNDER] * len(items), title)
    largest = float(np.abs(items).max())
    for sample, top in enumerate(tops):
        answers = [*map(name, labels[sample]), f"→ {name(int(batch.targets[sample]))}"]
        for place, (item, answer) in enumerate(zip(items[sample], answers, strict=True)):
            left, bottom, drawn = GAP + place * side, top - side, 0.9 * side
            _draw_item(axes, item, (left, left + drawn, bottom, bottom + drawn), largest)
            query = place == len(labels[sample])
            edge = (QUERY, 1.5) if query else (figures.MUTED, 0.4)
            axes.add_patch(Rectangle((left, bottom), drawn, drawn, fill=False, edgecolor=edge[0], linewidth=edge[1]))
            look: figures.Look = {"color": TARGET, "weight": "bold"} if query else {"color": figures.INK}
            axes.text(left + drawn / 2, bottom - 0.02, answer, fontsize=7, ha="center", va="top", **look)
    return figure


def targets_by_position(batch: Batch) -> list[list[int]]:
    """The targets of each sample by token, `IGNORED` where none is; a sample's one answer is read at its last token."""
    assert isinstance(batch.inputs, torch.Tensor)
    targets = batch.targets
    if targets.ndim == 1:
        targets = torch.full_like(batch.inputs, IGNORED)
        targets[:, -1] = batch.targets
    return targets.tolist()


def lines_of_boxes(
    tokens: Sequence[int], targets: Sequence[int], layout: Mapping[str, Region], name: Name
) -> list[list[Box]]:
    """The boxes of a sample in lines that fit the page, as wide as their texts and their share of the region's name."""
    least = [0.0] * len(tokens)
    for region, (_, first, _, count) in layout.items():
        least[first : first + count] = [SMALL_LETTER * (len(region) + 2) / count] * count
    lines: list[list[Box]] = [[]]
    left = GAP
    for position, (token, target) in enumerate(zip(tokens, targets, strict=True)):
        texts = name(token), "" if target == IGNORED else name(target)
        width = max(least[position], LETTER * (1 + max(map(len, texts))))
        if lines[-1] and left + width > WIDTH - GAP:
            lines.append([])
            left = GAP
        lines[-1].append(Box(position, *texts, left, width))
        left += width
    return lines


def steps_text(batch: Batch, index: int) -> str:
    """The steps of a sample by name, broken into lines; a dash where a sample has no such step."""
    values = {name.replace("_", " "): int(step[index]) for name, step in batch.steps.items()}
    listed = [f"{name} = {'–' if value == IGNORED else value}" for name, value in values.items()]
    return textwrap.fill(", ".join(listed), TEXT_LENGTH)


def _page(batch: Batch, heights: Sequence[float], title: str) -> tuple[Figure, Axes, list[float]]:
    """A figure with samples of these heights below one another, the steps under each, and where each sample begins."""
    steps = [steps_text(batch, index) for index in range(len(heights))]
    taken = [height + TEXT * (1 + text.count("\n")) + GAP for height, text in zip(heights, steps, strict=True)]
    height = sum(taken) + 2 * GAP
    figure = figures.new_figure(WIDTH, height, layout=None)
    axes = figure.add_axes((0, 0, 1, 1), frameon=False, xticks=[], yticks=[], xlim=(0, WIDTH), ylim=(0, height))
    axes.text(GAP, height - GAP, title, fontsize=9, va="center")
    tops = [height - 2 * GAP - sum(taken[:index]) for index in range(len(taken))]
    for top, below, text in zip(tops, heights, steps, strict=True):
        axes.text(GAP, top - below, text, fontsize=5.5, color=figures.MUTED, va="top")
    return figure, axes, tops


def _draw_line(axes: Axes, line: Sequence[Box], layout: Mapping[str, Region], top: float) -> None:
    bottom = top - 0.12 - BOX
    for box in line:
        axes.add_patch(
            Rectangle((box.left, bottom), box.width, BOX, fill=False, edgecolor=figures.MUTED, linewidth=0.4)
        )
        middle = box.left + box.width / 2
        axes.text(middle, bottom + BOX / 2, box.token, fontsize=7, ha="center", va="center_baseline")
        axes.text(middle, bottom - 0.03, box.target, fontsize=7, ha="center", va="top", color=TARGET, weight="bold")
    for region, inside in _regions(line, layout):
        above = bottom + BOX + 0.025
        ends = inside[0].left + 0.02, inside[-1].left + inside[-1].width - 0.02
        axes.plot(ends, (above, above), color=figures.MUTED, linewidth=0.6)
        axes.text(ends[0], above + 0.015, region, fontsize=5.5, color=figures.MUTED, va="bottom")


def _regions(line: Sequence[Box], layout: Mapping[str, Region]) -> Iterator[tuple[str, list[Box]]]:
    """The regions with tokens on a line and their boxes there; the name is given where a region begins."""
    for region, (_, first, _, count) in layout.items():
        inside = [box for box in line if first <= box.position < first + count]
        if inside:
            yield region.replace("_", " ") if inside[0].position == first else "", inside


def _draw_item(axes: Axes, item: np.ndarray, extent: tuple[float, float, float, float], largest: float) -> None:
    """An image [C, H, W] as it is, or a vector [D] as a strip whose colours are those of its values."""
    if item.ndim == 1:
        axes.imshow(item[:, None], cmap="RdBu", vmin=-largest, vmax=largest, extent=extent, aspect="auto")
    else:
        picture = np.moveaxis(item, 0, -1)
        picture = picture[..., 0] if picture.shape[-1] == 1 else picture
        axes.imshow(picture, cmap="gray", vmin=0, vmax=1, extent=extent, aspect="auto", interpolation="nearest")
