"""The control run: a model is trained on shuffled answers and evaluated on the real ones.

Shuffled answers teach their frequencies and nothing else, so an honest model stays at the shortcut or below. One that
knows the task's rule, rebuilds the evaluation items from their published seeds, or trains itself while it is built,
answers as well as ever. What reads the targets where the harness keeps them finds none, see `blind`.
"""

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from multistep_bench import seeds
from multistep_bench.errors import BenchError
from multistep_bench.leaderboard.blind import train_blind
from multistep_bench.leaderboard.notes import ControlRun
from multistep_bench.leaderboard.reproductions import control_limit, stays_at_the_shortcut
from multistep_bench.runs.spec import Cell, RunSpec
from multistep_bench.scoring.eureka import curve_values
from multistep_bench.training.plan import plan


def control_run(spec: RunSpec, cell: Cell, data_root: str | Path | None = None) -> ControlRun:
    """Trains one cell of a run on shuffled answers, on the CPU with one thread; raises `BenchError` if it breaks."""
    order = seeds.generator(secrets.randbits(62))  # one that no model can know
    record = train_blind(spec, cell, data_root, order=order)
    levels = spec.task.levels
    values = curve_values(record.curve, levels.measure)
    if not np.isfinite(values).any():
        raise BenchError(f"the control run of {spec.task.id} has no finite evaluation; the model diverges at once")
    best = np.nanmax(values) if levels.measure == "accuracy" else np.nanmin(values)
    return ControlRun(task=spec.task.id, cell=cell.name, best=float(best), limit=control_limit(levels))


def check_model(
    task: str | Path,
    model: str | Path,
    protocol: str,
    changes: Mapping[str, Any] | None = None,
    data_root: str | Path | None = None,
) -> tuple[ControlRun, bool]:
    """The control run of the middle learning rate and first seed of a protocol, and whether the model passes it.

    Raises as `plan` and `control_run` do.
    """
    spec = plan(task, model, protocol, changes, data_root)
    middle = len(spec.protocol.learning_rates) // 2
    done = control_run(spec, Cell(middle, spec.protocol.first_seed), data_root)
    return done, stays_at_the_shortcut(done, spec.task.levels)
