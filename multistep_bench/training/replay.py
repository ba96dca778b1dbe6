"""Whether the code here still makes a stored curve: the first evaluations of a cell, trained again."""

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from multistep_bench.models import build as models
from multistep_bench.models.code import code_sha256
from multistep_bench.runs.events import Evaluation
from multistep_bench.runs.record import Curve
from multistep_bench.runs.spec import RunSpec
from multistep_bench.runs.store import Run
from multistep_bench.training.plan import task_of
from multistep_bench.training.randomness import own_randomness
from multistep_bench.training.trainer import SingleTrainer

CPU = torch.device("cpu")


def present_code(spec: RunSpec, data_root: str | Path | None = None) -> str:
    """The hash of the code that builds a run's model here; raises as building does."""
    card = spec.model.card()
    with own_randomness(CPU):
        module = models.build(card, task_of(spec, data_root).info)
    return code_sha256(module, models.builder(card.model))


def replay(run: Run, evaluations: int, data_root: str | Path | None = None) -> str | None:
    """How the first evaluations of a run's last cell differ when they are made again; None where they are bit-equal.

    Compared are the counts, losses and training losses; what cannot be trained here raises as training does.
    """
    spec, record = run.spec, run.records[-1]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as cells are trained on a CPU
    try:
        with own_randomness(CPU):
            task = task_of(spec, data_root)
            trainer = SingleTrainer(spec, [record.cell], task, lambda: models.build(spec.model.card(), task.info), CPU)
            events = (event for _, event in trainer.curve() if isinstance(event, Evaluation))
            made = list(itertools.islice(events, min(evaluations, len(record))))
    finally:
        torch.set_num_threads(threads)
    ours = Curve.of(record.curve.set, made)
    ours_train = np.array([np.nan if each.train_loss is None else each.train_loss for each in made])
    for name, mine, stored in (
        ("correct", ours.correct, record.curve.correct),
        ("loss", ours.loss, record.curve.loss),
        ("train_loss", ours_train, record.train_loss),
    ):
        different = ~((mine == stored[: len(made)]) | (np.isnan(mine) & np.isnan(stored[: len(made)])))
        if different.any():
            place = int(np.flatnonzero(different)[0])
            return f"{name} of evaluation {place} of {record.cell.name} is {mine[place]}, stored is {stored[place]}"
    return None


def restated(run: Run, code: str) -> Run:
    """The run with the hash of the code that was seen to make its curves."""
    model = run.spec.model.model_copy(update={"code_sha256": code})
    return replace(run, spec=run.spec.model_copy(update={"model": model}))
