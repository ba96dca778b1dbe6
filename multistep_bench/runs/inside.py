"""What `probe` and `attention` found in a run, kept in its folder for figures: inside/probes.json and attention.npz.

As diagnostics, they are never scored, and neither run.jsonl, an entry nor a run's identity knows of them. A later
`probe` or `attention` of the same run replaces what stands there.
"""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from multistep_bench.atomic import write_atomically
from multistep_bench.errors import RunError
from multistep_bench.runs.diagnostics import Arrays, read_arrays

INSIDE_FOLDER = "inside"
PROBES, ATTENTION = "probes.json", "attention.npz"


@dataclass(frozen=True)
class KeptMaps:
    """Attention of one cell from the token that logits are read from, on a few held-out samples.

    title:  of which cell. moments: in their order. heads: of each row of `weights`, "layer 1 head 1", ….
    weights: moment → [samples, rows, keys]. tokens: [samples, keys] names.
    images: [samples, height, width, 3] uint8; of tasks of images, otherwise empty. Keys are then a class token and
            square patches, row by row.
    """

    title: str
    moments: tuple[str, ...]
    heads: tuple[str, ...]
    weights: Mapping[str, np.ndarray]
    tokens: np.ndarray
    images: np.ndarray


def save_probes(folder: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Writes the table of `probe`, whole or not at all; rows: plain data."""
    return _write(folder, PROBES, json.dumps(list(rows), indent=0).encode() + b"\n")


def load_probes(folder: Path) -> list[dict[str, Any]]:
    """What `save_probes` was given, unchecked; [] where nothing was. Raises `RunError` if it is no such table."""
    path = folder / INSIDE_FOLDER / PROBES
    if not path.is_file():
        return []
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path} is damaged: {error}; run `mstep-bench probe` again") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise RunError(f"{path} is no table of probes; run `mstep-bench probe` again")
    return rows


def save_maps(folder: Path, maps: KeptMaps) -> Path:
    """Writes maps, whole or not at all."""
    arrays: Arrays = {
        "title": np.array(maps.title),
        "moments": np.array(maps.moments),
        "heads": np.array(maps.heads),
        "weights": np.stack([maps.weights[moment] for moment in maps.moments]).astype(np.float32),
        "tokens": maps.tokens,
        "images": maps.images,
    }
    content = io.BytesIO()
    np.savez_compressed(content, allow_pickle=False, **arrays)  # pyright: ignore[reportArgumentType]
    return _write(folder, ATTENTION, content.getvalue())


def load_maps(folder: Path) -> KeptMaps | None:
    """What `save_maps` was given; None where nothing was. Raises `RunError` if it is damaged; unpickles nothing."""
    path = folder / INSIDE_FOLDER / ATTENTION
    if not path.is_file():
        return None
    again = "run `mstep-bench attention` again"
    arrays = read_arrays(path, again)
    try:
        moments = tuple(map(str, arrays["moments"]))
        weights = dict(zip(moments, arrays["weights"], strict=True))
        heads = tuple(map(str, arrays["heads"]))
        maps = KeptMaps(str(arrays["title"]), moments, heads, weights, arrays["tokens"], arrays["images"])
        samples, keys = maps.tokens.shape
        shapes = {each.shape for each in weights.values()}
    except (KeyError, ValueError, TypeError) as error:
        raise RunError(f"{path} holds no maps of attention: {error}; {again}") from error
    if shapes != {(samples, len(heads), keys)} or len(maps.images) not in (0, samples):
        raise RunError(f"{path} holds maps of other shapes than its tokens and heads; {again}")
    return maps


def _write(folder: Path, name: str, content: bytes) -> Path:
    path = folder / INSIDE_FOLDER / name
    try:
        path.parent.mkdir(exist_ok=True)
        write_atomically(path, content)
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror}; make {folder} writable") from error
    return path
