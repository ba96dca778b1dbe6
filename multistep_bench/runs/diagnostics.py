"""The figures of a cell's inside, beside its curves: arrays in diagnostics/rateR-seedS.npz of the run folder.

They are never scored, and neither run.jsonl, an entry nor a run's identity knows of them.
"""

import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from multistep_bench.atomic import write_atomically
from multistep_bench.errors import RunError
from multistep_bench.runs.spec import Cell
from multistep_bench.runs.store import Run, read_run

DIAGNOSTICS_FOLDER = "diagnostics"
SAMPLES = "samples"

Arrays = dict[str, np.ndarray]


def diagnostics_path(folder: Path, cell: Cell) -> Path:
    return folder / DIAGNOSTICS_FOLDER / f"{cell.name}.npz"


def stacked_figures(recordings: Sequence[tuple[int, Mapping[str, np.ndarray]]]) -> Arrays:
    """Recordings (samples, figures) as arrays with a leading axis of recordings, and `samples` [E] int64.

    Text arrays, which name axes, are the last recording's. A figure that some recordings lack, as where a run resumed
    with other options, is NaN in them.
    """
    arrays: Arrays = {SAMPLES: np.array([samples for samples, _ in recordings], dtype=np.int64)}
    for name in dict.fromkeys(name for _, figures in recordings for name in figures):
        example = [figures[name] for _, figures in recordings if name in figures][-1]
        if example.dtype.kind == "U":
            arrays[name] = example
            continue
        absent = np.full(example.shape, np.nan)
        arrays[name] = np.stack([figures.get(name, absent) for _, figures in recordings])
    return arrays


def save_diagnostics(folder: Path, cell: Cell, recordings: Sequence[tuple[int, Mapping[str, np.ndarray]]]) -> None:
    """Writes a cell's arrays, whole or not at all."""
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, **stacked_figures(recordings))  # pyright: ignore[reportArgumentType]
    path = diagnostics_path(folder, cell)
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, content.getvalue())


def load_diagnostics(run: Run | str | Path) -> dict[Cell, Arrays]:
    """The arrays of each cell that was trained with `--diagnostics`, by name, with `samples` [E] int64.

    run: a run or its folder. README, "Look inside", says what each array holds. Nothing is unpickled. Raises `RunError`
    where no cell has any, or a file is damaged.
    """
    run = run if isinstance(run, Run) else read_run(run)
    found = {}
    for cell in run.spec.cells():
        path = diagnostics_path(run.path, cell)
        if path.is_file():
            found[cell] = read_diagnostics(path)
    if not found:
        raise RunError(f"no diagnostics stand in {run.path}; train it with --diagnostics gradients,attention,logits")
    return found


def has_diagnostics(run: Run) -> bool:
    """Whether some cell of a run was trained with `--diagnostics`."""
    return any(diagnostics_path(run.path, cell).is_file() for cell in run.spec.cells())


def read_diagnostics(path: Path) -> Arrays:
    """The arrays of one cell's file; raises `RunError` if it is damaged."""
    return read_arrays(path, "train with --diagnostics in another --out")


def read_arrays(path: Path, remedy: str) -> Arrays:
    """The arrays of one file; raises `RunError`, which ends in the remedy, if it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise RunError(f"{path} is damaged: {error}; {remedy}") from error
