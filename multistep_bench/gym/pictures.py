"""What an agent sees, as text and as a picture."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from PIL import Image, ImageDraw, ImageFont

from multistep_bench.batch import TaskInfo
from multistep_bench.generators.base import TaskGenerator

GREYS = " .:-=+*#%@"
LINE = 10  # tokens of a line
CELL, HEIGHT, MARGIN = 6, 12, 2  # of a character, a line and the border in pixels
FONT_SIZE = 10  # whose characters are 6 pixels wide
SPREAD = 3.0  # standard deviations of normal items that grey values show


def as_text(task: TaskGenerator, view: Any) -> str:
    """One sample's inputs as text: an image in characters, tokens by name, an episode's items over their labels.

    view: an image [C, H, W], tokens [T], or {"items": [n + 1, …], "labels": [n]}; "?" is a token that is hidden.
    """
    if isinstance(view, dict):
        return f"{_characters(_items(view['items']).max(2))}\nlabels: {_tokens(task, view['labels'])}"
    if view.ndim == 3:
        return _characters(np.asarray(view).max(0))
    return _tokens(task, view)


def as_picture(task: TaskGenerator, view: Any) -> np.ndarray:
    """One sample's inputs as a picture [H, W, 3] uint8, always of one size: tokens and labels are written in it."""
    if isinstance(view, dict):
        top, below = _colours(_items(view["items"])), _written(task, view["labels"])
        width = max(top.shape[1], below.shape[1])
        return np.concatenate([np.pad(part, ((0, 0), (0, width - part.shape[1]), (0, 0))) for part in (top, below)])
    if view.ndim == 3:
        return _colours(np.asarray(view).transpose(1, 2, 0))
    return _written(task, view)


def _items(items: Any) -> np.ndarray:
    """Items side by side, [height, width, 3]: images, or a row of grey values for each vector, 0 in the middle."""
    items = np.asarray(items)
    if items.ndim == 2:
        grey = 0.5 + items * items.shape[1] ** 0.5 / (2 * SPREAD)
        shown = items.any(1, keepdims=True)
        return np.repeat(np.where(shown, grey, 0.0)[:, :, None], 3, 2)
    row = np.concatenate(list(items), 2).transpose(1, 2, 0)  # height, items · width, channels
    return np.repeat(row, 3, 2) if row.shape[2] == 1 else row


def _characters(grey: np.ndarray) -> str:
    rows = (grey.clip(0, 1) * 9.99).astype(int)
    return "\n".join("".join(GREYS[value] * 2 for value in row) for row in rows)


def _colours(values: np.ndarray) -> np.ndarray:
    return (values.clip(0, 1) * 255).round().astype(np.uint8)


def _tokens(task: TaskGenerator, tokens: Any) -> str:
    return " ".join("?" if token < 0 else task.token_name(int(token)) for token in tokens)


def _names(info: TaskInfo) -> int:
    """How many tokens, or labels of an episode, have a name."""
    space = info.observation_space
    if isinstance(space, spaces.MultiDiscrete):
        return int(space.nvec.max())
    return int(space.high.max()) + 1 if isinstance(space, spaces.Box) else info.num_classes


def _written(task: TaskGenerator, tokens: Any) -> np.ndarray:
    """Tokens as text on black, `LINE` to a line, [H, W, 3] uint8."""
    wide = 1 + max(len(task.token_name(token)) for token in range(_names(task.info)))  # so pictures are of one size
    words = _tokens(task, tokens).split(" ")
    lines = ["".join(f"{word:<{wide}}" for word in words[at : at + LINE]) for at in range(0, len(words), LINE)]
    size = (CELL * wide * min(LINE, len(words)) + 2 * MARGIN, HEIGHT * len(lines) + 2 * MARGIN)
    picture = Image.new("RGB", size)
    draw, font = ImageDraw.Draw(picture), _font()
    for number, line in enumerate(lines):
        draw.text((MARGIN, MARGIN + HEIGHT * number), line, "white", font)
    return np.asarray(picture)


@lru_cache(maxsize=1)
def _font() -> ImageFont.FreeTypeFont:
    """A font whose characters are `CELL` wide; Pillow's own lacks the minus and other signs of tokens' names."""
    from matplotlib import get_data_path

    return ImageFont.truetype(str(Path(get_data_path(), "fonts", "ttf", "DejaVuSansMono.ttf")), FONT_SIZE)
