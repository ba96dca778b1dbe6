"""Procedurally drawn digits and garments of 28×28 pixels: an offline stand-in for MNIST and Fashion-MNIST.

Only uniform draws of NumPy's frozen legacy generator and correctly rounded arithmetic (+ − × ÷ √ min max) are
used, so every machine draws the same bytes.
"""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from multistep_bench.registry import register_source
from multistep_bench.sources.glyph_shapes import SHAPES, Points, Shape
from multistep_bench.sources.images import ImageSource, LabelledImages

SIZE = 28  # pixels
TRAIN_PER_CLASS = 1000
EVAL_PER_CLASS = 200
SEED = 2310_12956  # decides every drawing; never changed
POINT_JITTER = 0.06  # of the unit box
SPLINE_STEPS = 3  # straight pieces between two points of a curved stroke

Array = np.ndarray


@register_source("glyphs")
def glyphs(data_root: Path | None = None, download: bool = True) -> ImageSource:
    """Classes 0–9 are digits, 10–19 garments; 1,000 training and 200 evaluation drawings of each; needs no files.

    Drawings of a class vary in the position of each point, rotation, size, shear, place, line width and brightness,
    garments also in their stripes.
    """
    drawings = _all_drawings()

    def split(first: int, last: int) -> LabelledImages:
        images = torch.from_numpy(np.concatenate([drawing[first:last] for drawing in drawings]))
        classes = torch.arange(len(SHAPES), dtype=torch.int64)
        ids = classes.unsqueeze(1) * len(drawings[0]) + torch.arange(first, last, dtype=torch.int64)
        labels = classes.repeat_interleave(last - first)
        return LabelledImages(images.unsqueeze(1), labels, ids.flatten())

    return ImageSource(
        "glyphs",
        split(0, TRAIN_PER_CLASS),
        split(TRAIN_PER_CLASS, TRAIN_PER_CLASS + EVAL_PER_CLASS),
        white=255,
        classes=tuple(shape.name for shape in SHAPES),
        where="drawn by multistep_bench",
    )


@lru_cache(maxsize=1)
def _all_drawings() -> list[Array]:
    count = TRAIN_PER_CLASS + EVAL_PER_CLASS
    return [draw(shape, count, np.random.RandomState([SEED, label])) for label, shape in enumerate(SHAPES)]


def draw(shape: Shape, count: int, random: np.random.RandomState) -> Array:
    """`count` drawings of a shape, [count, SIZE, SIZE] uint8."""
    place = _affine(count, random, extent=(18.0, 25.0) if shape.outline else (14.0, 22.0))
    jitter = _Jitter(count, random)

    def pixels(points: Points) -> Array:
        return place(jitter(points))

    width = _uniform(random, 1.6, 3.6, count)
    image = np.zeros((count, SIZE, SIZE), np.float32)
    if shape.outline:
        corners = pixels(shape.outline)
        closed = np.concatenate((corners, corners[:, :1]), axis=1)
        filled = np.clip(0.5 + np.where(_inside(closed), 1, -1) * _distance(closed), 0, 1)
        image = filled * _stripes(count, random)
        width = width * np.float32(0.6)
    for stroke in shape.strokes:
        points = pixels(stroke)
        image = np.maximum(image, _ink(_spline(points) if shape.curved else points, width))
    for seam in shape.seams:
        image = image * (1 - np.float32(0.8) * _ink(pixels(seam), width))
    brightness = _uniform(random, 0.6, 1.0, count)[:, None, None]
    return np.rint(255 * brightness * image).astype(np.uint8)


def _uniform(random: np.random.RandomState, low: float, high: float, *shape: int) -> Array:
    return random.uniform(low, high, shape).astype(np.float32)


class _Jitter:
    """Moves points at random; equal points of one drawing move alike, so that strokes that meet still meet."""

    def __init__(self, count: int, random: np.random.RandomState) -> None:
        self.count, self.random = count, random
        self.moved: dict[tuple[float, float], Array] = {}

    def __call__(self, points: Points) -> Array:
        """[count, len(points), 2]"""
        for point in points:
            if point not in self.moved:
                shift = _uniform(self.random, -POINT_JITTER, POINT_JITTER, self.count, 2)
                self.moved[point] = np.asarray(point, np.float32) + shift
        return np.stack([self.moved[point] for point in points], axis=1)


def _affine(count: int, random: np.random.RandomState, extent: tuple[float, float]) -> Callable[[Array], Array]:
    """A random map per drawing from the unit box to pixels: size, rotation (up to ±25°), shear and place."""
    width, height = (_uniform(random, *extent, count, 1) for _ in range(2))
    shear = _uniform(random, -0.3, 0.3, count, 1)
    t = _uniform(random, -0.22, 0.22, count, 1)  # tangent of half the angle
    cosine, sine = (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)
    centre = SIZE / 2 + _uniform(random, -2.5, 2.5, count, 1, 2)

    def apply(points: Array) -> Array:
        y = height * (points[..., 1] - np.float32(0.5))
        x = width * (points[..., 0] - np.float32(0.5)) + shear * y
        return np.stack((cosine * x - sine * y, sine * x + cosine * y), axis=-1) + centre.astype(np.float32)

    return apply


def _spline(points: Array) -> Array:
    """Catmull–Rom curves through points [n, k, 2], as [n, (k − 1)·SPLINE_STEPS + 1, 2]."""
    padded = np.concatenate((points[:, :1], points, points[:, -1:]), axis=1)
    before, start, end, after = (padded[:, i : i + points.shape[1] - 1] for i in range(4))
    pieces = []
    for step in range(SPLINE_STEPS):
        t = np.float32(step / SPLINE_STEPS)
        cubic = 3 * (start - end) + after - before
        square = 2 * before - 5 * start + 4 * end - after
        pieces.append(start + t * ((end - before) + t * (square + t * cubic)) * np.float32(0.5))
    curve = np.stack(pieces, axis=2).reshape(len(points), -1, 2)
    return np.concatenate((curve, points[:, -1:]), axis=1)


def _distance(line: Array) -> Array:
    """Distance in pixels from each pixel's centre to a polyline [n, k, 2]: [n, SIZE, SIZE]."""
    centres = np.arange(SIZE, dtype=np.float32) + np.float32(0.5)
    nearest = np.full((len(line), SIZE, SIZE), np.inf, np.float32)
    for i in range(line.shape[1] - 1):
        start, along = line[:, i], line[:, i + 1] - line[:, i]
        x, y = centres - start[:, :1], centres - start[:, 1:]  # n, SIZE
        length = (along * along).sum(1)[:, None, None] + np.float32(1e-6)
        dot = (y * along[:, 1:])[:, :, None] + (x * along[:, :1])[:, None, :]  # n, SIZE, SIZE
        t = np.clip(dot / length, 0, 1)
        # |p − a − t·d|² = |p − a|² + t·(t·|d|² − 2·(p − a)·d)
        square = (y * y)[:, :, None] + (x * x)[:, None, :] + t * (t * length - 2 * dot)
        np.minimum(nearest, square, out=nearest)
    return np.sqrt(np.maximum(nearest, 0))


def _ink(line: Array, width: Array) -> Array:
    """How much of each pixel a line of `width` [n] pixels covers, [n, SIZE, SIZE] in [0, 1]."""
    return np.clip(width[:, None, None] / 2 + np.float32(0.5) - _distance(line), 0, 1)


def _inside(closed: Array) -> Array:
    """Which pixel centres lie inside a closed polygon [n, k, 2]: an odd number of edges to their right."""
    centres = np.arange(SIZE, dtype=np.float32) + np.float32(0.5)
    odd = np.zeros((len(closed), SIZE, SIZE), bool)
    for i in range(closed.shape[1] - 1):
        (ax, ay), (bx, by) = closed[:, i].T[..., None], closed[:, i + 1].T[..., None]
        crosses = (ay > centres) != (by > centres)  # n, rows
        rise = np.where(by == ay, np.float32(1), by - ay)
        x = ax + (centres - ay) / rise * (bx - ax)
        odd ^= crosses[:, :, None] & (centres[None, None, :] < x[:, :, None])
    return odd


def _stripes(count: int, random: np.random.RandomState) -> Array:
    """Brightness [count, SIZE, SIZE] of a garment's cloth: stripes of random direction, width and depth."""
    centres = np.arange(SIZE, dtype=np.float32)
    across, down = (_uniform(random, -0.2, 0.2, count, 1, 1) for _ in range(2))
    phase = down * centres[:, None] + across * centres + _uniform(random, 0, 1, count, 1, 1)
    triangle = np.abs(2 * (phase - np.floor(phase)) - 1)
    return 1 - _uniform(random, 0, 0.6, count, 1, 1) * triangle
