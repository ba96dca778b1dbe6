"""The held-out items of a cell, drawn again: whoever changed a task's code under its card was evaluated on others."""

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


class EvaluationSets:
    """Draws the items of cells of shipped tasks, each once; raises `DataError` where a task's files are missing."""

    def __init__(self, data_root: str | Path | None = None) -> None:
        self.data_root = data_root
        self._tasks: dict[str, TaskGenerator] = {}
        self._drawn: dict[tuple[str, int, Cell], tuple[EvaluationSet, dict[str, EvaluationSet]]] = {}

    def problems(self, run: Run) -> Iterator[str]:
        """The evaluation items of cells trained on a CPU are those that the task draws from the cell's seed (a GPU
        draws others)."""
        for record in run.records:
            if record.status == "failed" and not len(record):
                continue  # it failed before anything was drawn
            if record.environment.hardware.get("device") != "cpu":
                continue
            sets = record.curve.set, {name: its.set for name, its in record.auxiliary.items()}
            if sets != self._of(run.spec, record):
                yield f"{record.cell.name}: its evaluation items are not those that {run.spec.task.id} draws"

    def _of(self, spec: RunSpec, record: Record) -> tuple[EvaluationSet, dict[str, EvaluationSet]]:
        import torch

        from multistep_bench.generators.task import make_task
        from multistep_bench.training.data import draw_auxiliary, draw_evaluation

        key = spec.task.id, spec.protocol.evaluation_items, record.cell
        if key not in self._drawn:
            if spec.task.id not in self._tasks:
                self._tasks[spec.task.id] = make_task(load_task(spec.task.id), self.data_root)
            task, cpu = self._tasks[spec.task.id], torch.device("cpu")
            further = draw_auxiliary(spec, record.cell, task, cpu)
            self._drawn[key] = (
                draw_evaluation(spec, record.cell, task, cpu).description,
                {name: its.description for name, its in further.items()},
            )
        return self._drawn[key]
