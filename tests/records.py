"""Run folders made from curves, without training: `make_run(folder, {(rate, seed): counts})`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from multistep_bench.cards import TaskCard
from multistep_bench.protocol import Protocol, Recipe
from multistep_bench.runs.events import Environment, EvaluationSet
from multistep_bench.runs.record import MISSING, Curve, Record
from multistep_bench.runs.spec import Cell, ModelSpec, RunSpec
from multistep_bench.runs.store import RUN_FILE, Run, read_run

EVALUATIONS = 100
BUDGET = 100_000  # an evaluation every thousand samples
ITEMS = 1000
CHANCE, SHORTCUT, CEILING = 0.1, 0.55, 0.95  # θ = 0.75
LOSS_TASK: dict[str, Any] = {  # what `make_spec` takes as `task` for one scored by its loss; θ = 2
    "levels": {"chance": 4.0, "shortcut": 3.0, "ceiling": 2.0},
    "scoring": {"threshold_fraction": 1.0},
}

Counts = Sequence[int | None]


@dataclass(frozen=True)
class Ended:
    """A curve with the outcome it ended in, where that is not "completed"."""

    status: Literal["diverged", "failed"]
    counts: Counts = (100,)
    reason: str | None = None


def accuracies(correct: Counts, items: int) -> np.ndarray:
    """Counts of right answers as accuracies, NaN where one is missing."""
    return np.array(correct, dtype=np.float64) / items


def jump(at: float) -> list[int]:
    """Counts of a curve that rests on the shortcut and reaches the threshold at a fraction of the budget.

    `at` is a multiple of 1/100, where the evaluations are; the Eureka time is at · BUDGET exactly.
    """
    event = round(100 * at)
    return [100] + [550 if index < event else 750 if index == event else 950 for index in range(1, EVALUATIONS + 1)]


def flat() -> list[int]:
    """Counts of a curve that never leaves the shortcut."""
    return [100] + [550] * EVALUATIONS


def fall(at: float) -> list[int]:
    """A loss on a `LOSS_TASK`, in thousandths of a nat, that rests on the shortcut and reaches θ as `jump` does.

    It ends at 1.5, below the ceiling.
    """
    event = round(100 * at)
    return [4000] + [3000 if index < event else 2000 if index == event else 1500 for index in range(1, EVALUATIONS + 1)]


def task_card(**changes: Any) -> TaskCard:
    """A card whose threshold is 0.75; `changes` replace its keys."""
    content: dict[str, Any] = {
        "id": "steps-v1",
        "title": "Steps",
        "summary": "Made by the tests.",
        "intermediate": "none",
        "source": "tests",
        "generator": "indicator",
        "levels": {"chance": CHANCE, "shortcut": SHORTCUT, "ceiling": CEILING},
        "protocols": {},
        "batch_sha256": "",
    }
    return TaskCard.model_validate({**content, **changes})


def make_spec(
    *,
    rates: Sequence[float] = (1e-3,),
    seeds: int = 1,
    model: str = "vit",
    task: Mapping[str, Any] | None = None,
    protocol: Mapping[str, Any] | None = None,
    protocol_name: str = "quick",
    changes: Mapping[str, Any] | None = None,
) -> RunSpec:
    """A specification; `task` and `protocol` replace keys of the card and of its one protocol."""
    settings = {
        "budget": BUDGET,
        "batch_size": 10,
        "evaluations": EVALUATIONS,
        "evaluation_items": ITEMS,
        "seeds": seeds,
        "learning_rates": tuple(rates),
        **(protocol or {}),
    }
    return RunSpec(
        task=task_card(**{"protocols": {protocol_name: Protocol.model_validate(settings)}, **(task or {})}),
        protocol_name=protocol_name,
        model=ModelSpec(
            name=model,
            builder=model,
            config={},
            recipe=Recipe(),
            leaderboard=True,
            parameters=1000,
            flops_per_sample=2000,
            code_sha256="0" * 64,
        ),
        changes=dict(changes or {}),
    )


def make_run(
    folder: Path,
    curves: Mapping[tuple[int, int], Counts | Ended],
    *,
    seeds: int | None = None,
    rates: Sequence[float] | None = None,
    auxiliary: Mapping[str, Counts] | None = None,
    **spec: Any,
) -> Path:
    """A packed run folder with a record for each curve, by (rate index, seed index); returns the folder.

    seeds, rates: of the protocol, by default as many as the curves name; a cell without a curve is missing.
    auxiliary:    by name the curve that every cell has of an auxiliary measurement.
    spec:         further arguments of `make_spec`.
    """
    rates = rates or [1e-3 * (1 + index) for index in range(1 + max(rate for rate, _ in curves))]
    resolved = make_spec(rates=rates, seeds=seeds or 1 + max(seed for _, seed in curves), **spec)
    made = [make_record(resolved, Cell(*cell), curve, auxiliary) for cell, curve in curves.items()]
    return write_run(folder, resolved, made)


def write_run(folder: Path, spec: RunSpec, made: Sequence[Record]) -> Path:
    """A folder with these records packed in it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RUN_FILE).write_bytes(Run(folder, spec, list(made)).packed)
    return folder


def change_records(folder: Path, change: Callable[[Record], Record | None]) -> None:
    """Replaces each record of a packed run by what `change` makes of it; None removes it."""
    run = read_run(folder)
    write_run(folder, run.spec, [new for record in run.records if (new := change(record)) is not None])


def drop(folder: Path, cell: Cell) -> None:
    """Removes a cell's record from a packed run."""
    change_records(folder, lambda record: None if record.cell == cell else record)


ENVIRONMENT = Environment(engine="made by the tests", versions={"multistep_bench": "0"}, hardware={})


def make_record(
    spec: RunSpec, cell: Cell, curve: Counts | Ended, auxiliary: Mapping[str, Counts] | None = None
) -> Record:
    """The record of one cell, an evaluation a grid point and a second.

    curve, auxiliary: counts of right answers, or thousandths of a nat on a task scored by its loss.
    """
    counts = curve.counts if isinstance(curve, Ended) else curve
    losses = spec.task.levels.measure == "loss"

    def made(values: Counts, sha256: str) -> Curve:
        known = np.array([value is not None for value in values], dtype=bool)
        whole = np.array([value or 0 for value in values], dtype=np.int64)
        correct = np.where(known, 0 if losses else whole, MISSING)
        loss = np.where(known, whole / 1000 if losses else 1.0, np.nan)
        return Curve(EvaluationSet(items=ITEMS, sha256=sha256), correct, loss.astype(np.float32).astype(np.float64))

    return Record(
        cell=cell,
        status=curve.status if isinstance(curve, Ended) else "completed",
        reason=curve.reason if isinstance(curve, Ended) else None,
        attempts=1,
        environment=ENVIRONMENT,
        curve=made(counts, "0" * 64),
        train_loss=np.array([np.nan] + [1.0] * (len(counts) - 1)),
        seconds=np.arange(len(counts), dtype=np.float64),
        auxiliary={name: made(values[: len(counts)], "1" * 64) for name, values in (auxiliary or {}).items()},
    )
