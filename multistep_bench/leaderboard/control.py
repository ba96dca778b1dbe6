"""The control run: a model is trained on shuffled answers and evaluated on the real ones.

Shuffled answers teach their frequencies and nothing else, so an honest model stays at the shortcut or below. One that
reads the targets where the harness keeps them, knows the task's rule, rebuilds the evaluation items from their
published seeds, or trains itself while it is built, answers as well as ever.
"""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from multistep_bench import seeds
from multistep_bench.batch import IGNORED, Batch
from multistep_bench.errors import BenchError
from multistep_bench.generators.base import Split, TaskGenerator
from multistep_bench.leaderboard.notes import ControlRun
from multistep_bench.leaderboard.reproductions import control_limit, stays_at_the_shortcut
from multistep_bench.models.build import build
from multistep_bench.runs.events import Evaluation, Outcome
from multistep_bench.runs.record import Curve
from multistep_bench.runs.spec import Cell, RunSpec
from multistep_bench.scoring.eureka import curve_values
from multistep_bench.training.plan import plan, task_of
from multistep_bench.training.randomness import own_randomness
from multistep_bench.training.trainer import SingleTrainer

Watch = Callable[[Evaluation | Outcome], None]


class ShuffledAnswers:
    """A task whose training batches have their answers in another order; its evaluation items are as they were.

    It stands in for a `TaskGenerator` where a trainer asks for batches.
    """

    def __init__(self, task: TaskGenerator, rng: torch.Generator) -> None:
        self.task = task
        self.rng = rng
        self.info = task.info
        self.correct = task.correct

    def sample(self, n: int, *, split: Split, rng: torch.Generator) -> Batch:
        """n samples as of the task, those to train on with shuffled targets."""
        batch = self.task.sample(n, split=split, rng=rng)
        return batch if split == "eval" else replace(batch, targets=shuffled(batch.targets, self.rng))

    def auxiliary(self, n: int, rng: torch.Generator) -> dict[str, Batch]:
        """None: only the primary curve is judged."""
        return {}


def shuffled(targets: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """The targets [B] or [B, T] with those that are scored in another order, across samples and places."""
    scored = targets != IGNORED
    values = targets[scored]
    mixed = targets.clone()
    mixed[scored] = values[torch.randperm(len(values), generator=rng).to(values.device)]
    return mixed


def control_run(
    spec: RunSpec, cell: Cell, data_root: str | Path | None = None, watch: Watch = lambda event: None
) -> ControlRun:
    """Trains one cell of a run on shuffled answers, on the CPU with one thread; raises `BenchError` if it breaks."""
    threads, cpu = torch.get_num_threads(), torch.device("cpu")
    evaluations: list[Evaluation] = []
    try:
        torch.set_num_threads(1)
        with own_randomness(cpu):
            task = task_of(spec, data_root)
            control: Any = ShuffledAnswers(
                task, seeds.generator(secrets.randbits(62))
            )  # an order that no model can know
            trainer = SingleTrainer(spec, [cell], control, lambda: build(spec.model.card(), task.info), cpu)
            for _, event in trainer.curve():
                watch(event)
                if isinstance(event, Evaluation):
                    evaluations.append(event)
    except (Exception, SystemExit) as error:  # the model is the submitter's and may fail in any way
        raise BenchError(f"the control run of {spec.task.id} broke ({type(error).__name__}: {error})") from error
    finally:
        torch.set_num_threads(threads)
    levels = spec.task.levels
    values = curve_values(Curve.of(trainer.items[0].description, evaluations), levels.measure)
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
    watch: Watch = lambda event: None,
) -> tuple[ControlRun, bool]:
    """The control run of the middle learning rate and first seed of a protocol, and whether the model passes it.

    Raises as `plan` and `control_run` do.
    """
    spec = plan(task, model, protocol, changes, data_root)
    done = control_run(spec, Cell(len(spec.protocol.learning_rates) // 2, 0), data_root, watch)
    return done, stays_at_the_shortcut(done, spec.task.levels)
