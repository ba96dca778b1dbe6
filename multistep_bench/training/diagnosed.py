"""Diagnostics of a run before it trains: whether its model has what is asked for, and which cells come too late."""

import warnings
from collections.abc import Iterable
from pathlib import Path

import torch

from multistep_bench import seeds
from multistep_bench.diagnostics.options import DiagnosticOptions
from multistep_bench.diagnostics.recorder import Recorder
from multistep_bench.models.build import build, logits
from multistep_bench.runs.diagnostics import diagnostics_path
from multistep_bench.runs.spec import Cell, RunSpec
from multistep_bench.training.plan import task_of
from multistep_bench.training.randomness import own_randomness, seed_everything

CPU = torch.device("cpu")


def check_diagnostics(spec: RunSpec, options: DiagnosticOptions, data_root: str | Path | None = None) -> None:
    """Takes the figures of an untrained model once; raises `ModelError` where it has not what they are taken of."""
    task = task_of(spec, data_root)
    with own_randomness(CPU):
        seed_everything(seeds.derive("plan"))
        model = build(spec.model.card(), task.info)
        recorder = Recorder(options, task, CPU)
        with torch.no_grad():  # lazy parameters get their shapes
            logits(model.eval(), recorder.batch.split(2)[0])
        recorder.record(model)


def warn_of_cells_without(folder: Path, finished: Iterable[Cell]) -> None:
    """Warns where cells were trained without diagnostics before, which are not trained again."""
    late = [cell for cell in finished if not diagnostics_path(folder, cell).is_file()]
    if late:
        warnings.warn(
            f"--diagnostics: {len(late)} cells in {folder} were trained without and get none, among them"
            f" {late[0].name}; give another --out to train them again",
            stacklevel=3,
        )
