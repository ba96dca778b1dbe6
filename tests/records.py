"""Run folders made from curves, without training: `make_run(folder, {(rate, seed): counts})`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from multistep_bench.cards import Protocol, Recipe, TaskCard
from multistep_bench.runs.record import (
    SPEC_FILE,
    CellReference,
    Evaluation,
    EvaluationSet,
    Header,
    Metrics,
    Outcome,
    TaskReference,
    line,
    record_path,
)
from multistep_bench.runs.spec import Cell, ModelSpec, RunSpec

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
    """A run folder with a record for each curve, by (rate index, seed index); returns the folder.

    seeds, rates: of the protocol, by default as many as the curves name; a cell without a curve is missing.
    auxiliary:    by name the curve that every cell has of a auxiliary measurement.
    spec:         further arguments of `make_spec`.
    """
    rates = rates or [1e-3 * (1 + index) for index in range(1 + max(rate for rate, _ in curves))]
    resolved = make_spec(rates=rates, seeds=seeds or 1 + max(seed for _, seed in curves), **spec)
    folder.mkdir(parents=True)
    (folder / SPEC_FILE).write_text(line(resolved))
    for (rate_index, seed_index), curve in curves.items():
        write_record(folder, resolved, Cell(rate_index, seed_index), curve, auxiliary)
    return folder


def write_record(
    folder: Path,
    spec: RunSpec,
    cell: Cell,
    curve: Counts | Ended,
    auxiliary: Mapping[str, Counts] | None = None,
) -> Path:
    """The finished record of one cell, an evaluation a grid point and a second; returns its path.

    curve, auxiliary: counts of right answers, or thousandths of a nat on a task scored by its loss.
    """
    counts = curve.counts if isinstance(curve, Ended) else curve
    interval = spec.protocol.interval
    header = Header(
        spec_sha256=spec.sha256(),
        task=TaskReference(id=spec.task.id, sha256=spec.task.sha256(), protocol=spec.protocol_name),
        protocol=spec.protocol,
        model=spec.model,
        cell=CellReference(
            rate_index=cell.rate_index,
            learning_rate=spec.learning_rate(cell),
            seed_index=cell.seed_index,
            seed=cell.seed(spec.task.id, "init"),
        ),
        evaluation=EvaluationSet(items=ITEMS, sha256="0" * 64),
        auxiliary=dict.fromkeys(auxiliary or {}, EvaluationSet(items=ITEMS, sha256="1" * 64)),
        engine="made by the tests",
        versions={"multistep_bench": "0"},
        hardware={},
        attempts=1,
    )
    losses = spec.task.levels.measure == "loss"

    def reading(count: int | None) -> dict[str, Any]:
        return {
            "correct": 0 if losses else count,
            "loss": count / 1000 if losses and count is not None else 1.0,
        }

    evaluations = [
        Evaluation(
            samples=index * interval,
            train_loss=None if index == 0 else 1.0,
            seconds=index,
            auxiliary={name: Metrics(**reading(values[index])) for name, values in (auxiliary or {}).items()},
            **reading(count),
        )
        for index, count in enumerate(counts)
    ]
    outcome = Outcome(
        status=curve.status if isinstance(curve, Ended) else "completed",
        reason=curve.reason if isinstance(curve, Ended) else None,
        samples=(len(counts) - 1) * interval,
        seconds=float(len(counts) - 1),
    )
    path = record_path(folder, cell)
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(map(line, [header, *evaluations, outcome])))
    return path
