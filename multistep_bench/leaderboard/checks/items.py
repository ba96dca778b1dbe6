"""The held-out items of a cell, drawn again, and its first evaluation, made again.

Whoever changed a task's code under its card was evaluated on other items, and whoever put another model in the place of
a shipped one begins with other answers.
"""

import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from multistep_bench.cards import load_task
from multistep_bench.runs.events import EvaluationSet
from multistep_bench.runs.record import Record
from multistep_bench.runs.spec import Cell, RunSpec
from multistep_bench.runs.store import Run

if TYPE_CHECKING:  # torch is loaded once items are drawn, and by nothing else that verifies
    from multistep_bench.generators.base import TaskGenerator


ITEMS_DRAWN = 200_000  # of an entry's run at most: about two seconds
STARTS, START_OPERATIONS = 8, 2 * 10**10  # cells whose start is made again, and what that may cost: about a second
START_COUNT, START_LOSS = 0.01, 1e-3  # by which it may differ on another stack, as shares; see `reproductions`


class EvaluationSets:
    """Draws the items of cells of shipped tasks, each once; raises `DataError` where a task's files are missing."""

    def __init__(self, data_root: str | Path | None = None) -> None:
        self.data_root = data_root
        self._tasks: dict[str, TaskGenerator] = {}
        self._drawn: dict[tuple[str, int, Cell], tuple[EvaluationSet, dict[str, EvaluationSet]]] = {}

    def problems(self, run: Run) -> Iterator[str]:
        """The evaluation items of cells trained on a CPU are those that the task draws from the cell's seed (a GPU
        draws others; of many cells some are drawn at random, 200,000 items in all)."""
        for record in _some(_on_a_cpu(run), ITEMS_DRAWN // run.spec.protocol.evaluation_items):
            sets = record.curve.set, {name: its.set for name, its in record.auxiliary.items()}
            if sets != self._of(run.spec, record):
                yield f"{record.cell.name}: its evaluation items are not those that {run.spec.task.id} draws"

    def start_problems(self, run: Run) -> Iterator[str]:
        """Cells of a shipped model, trained on a CPU with the code that is installed here, answer before training as
        that model does with the weights of the cell's seed (of many cells or a large model, some drawn at random)."""
        import torch

        from multistep_bench.models import build as models
        from multistep_bench.models.code import code_sha256
        from multistep_bench.training.device import one_thread
        from multistep_bench.training.randomness import own_randomness
        from multistep_bench.training.trainer import SingleTrainer

        spec, card = run.spec, run.spec.model.card()
        cost = max(1, (spec.model.flops_per_sample or 1) * spec.protocol.evaluation_items)
        task, cpu = self._task(spec), torch.device("cpu")
        with own_randomness(cpu), one_thread():
            module = models.build(card, task.info)
            if code_sha256(module, models.builder(card.model)) != spec.model.code_sha256:
                return
            for record in _some(_on_a_cpu(run), min(STARTS, START_OPERATIONS // cost)):
                trainer = SingleTrainer(spec, [record.cell], task, lambda: models.build(card, task.info), cpu)
                ((correct, loss),) = trainer.evaluate()
                theirs, seen = int(record.curve.correct[0]), float(record.curve.loss[0])
                if abs(correct - theirs) > max(2, START_COUNT * record.curve.set.items) or not math.isclose(
                    loss, seen, rel_tol=START_LOSS
                ):
                    yield (
                        f"{record.cell.name}: {spec.model.name} answers {correct} items right before training, with a"
                        f" loss of {loss:.4f}, and the record says {theirs} and {seen:.4f}"
                    )

    def _task(self, spec: RunSpec) -> "TaskGenerator":
        from multistep_bench.generators.task import make_task

        if spec.task.id not in self._tasks:
            self._tasks[spec.task.id] = make_task(load_task(spec.task.id), self.data_root)
        return self._tasks[spec.task.id]

    def _of(self, spec: RunSpec, record: Record) -> tuple[EvaluationSet, dict[str, EvaluationSet]]:
        import torch

        from multistep_bench.training.data import draw_auxiliary, draw_evaluation

        key = spec.task.id, spec.protocol.evaluation_items, record.cell
        if key not in self._drawn:
            task, cpu = self._task(spec), torch.device("cpu")
            further = draw_auxiliary(spec, record.cell, task, cpu)
            self._drawn[key] = (
                draw_evaluation(spec, record.cell, task, cpu).description,
                {name: its.description for name, its in further.items()},
            )
        return self._drawn[key]


def _on_a_cpu(run: Run) -> list[Record]:
    """The records that began, on a CPU."""
    return [record for record in run.records if len(record) and record.environment.hardware.get("device") == "cpu"]


def _some(records: list[Record], count: int) -> list[Record]:
    """All of the records, or `count` of them that nobody can foresee."""
    return records if len(records) <= count else random.SystemRandom().sample(records, max(0, count))
