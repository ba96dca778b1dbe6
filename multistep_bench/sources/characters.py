"""Procedurally drawn characters of no alphabet: an offline stand-in for Omniglot.

A character is two or three random strokes, drawn by the code of `glyphs`, so every machine draws the same bytes.
"""

from pathlib import Path

import numpy as np
import torch

from multistep_bench.registry import register_source
from multistep_bench.sources.glyph_shapes import Points, Shape
from multistep_bench.sources.glyphs import draw
from multistep_bench.sources.images import ImageSource, LabelledImages

TRAIN_CLASSES = 200
EVAL_CLASSES = 50
DRAWINGS = 20  # of each character, as in Omniglot
SEED = 2310_12957  # decides every character and drawing; never changed
ANCHORS = (0.0, 0.33, 0.67, 1.0)  # strokes run between points of this grid in the unit box
STROKES = (2, 3)
POINTS = (3, 4)  # of a stroke


@register_source("characters")
def characters(data_root: Path | None = None, download: bool = True) -> ImageSource:
    """200 characters for training and 50 others for evaluation, 20 drawings of 28×28 pixels each; needs no files.

    Drawings of a character vary as in `glyphs`: in place, size, rotation (up to ±25°), shear, line width, brightness.
    """
    count = TRAIN_CLASSES + EVAL_CLASSES
    drawings = [draw(character(label), DRAWINGS, np.random.RandomState([SEED, label, 1])) for label in range(count)]

    def split(first: int, last: int) -> LabelledImages:
        images = torch.from_numpy(np.concatenate(drawings[first:last])).unsqueeze(1)
        labels = torch.arange(first, last, dtype=torch.int64).repeat_interleave(DRAWINGS)
        return LabelledImages(images, labels, torch.arange(first * DRAWINGS, last * DRAWINGS, dtype=torch.int64))

    return ImageSource(
        "characters",
        split(0, TRAIN_CLASSES),
        split(TRAIN_CLASSES, count),
        white=255,
        classes=tuple(f"character {label}" for label in range(count)),
        where="drawn by multistep_bench",
    )


def character(label: int) -> Shape:
    """The strokes of one character, each a curve through distinct points of the grid of `ANCHORS`."""
    random = np.random.RandomState([SEED, label, 0])
    strokes: list[Points] = []
    for _ in range(random.choice(STROKES)):
        points = random.permutation(len(ANCHORS) ** 2)[: random.choice(POINTS)]
        strokes.append(tuple((ANCHORS[at % len(ANCHORS)], ANCHORS[at // len(ANCHORS)]) for at in points))
    return Shape(f"character {label}", strokes=tuple(strokes), curved=True)
