"""The record of a cell: the curves that its training left, as arrays, and the line that they are in a packed run."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from multistep_bench.runs.events import (
    Environment,
    Evaluation,
    EvaluationSet,
    Metrics,
    Outcome,
    Status,
    compact_json,
    finite,
    float_array,
)
from multistep_bench.runs.spec import Cell

MISSING = -1  # in an array of counts: the loss was not finite, so nothing was counted


@dataclass(frozen=True, eq=False)
class Curve:
    """Metrics over a cell's evaluations on one set of items; evaluation i came after i intervals of training.

    correct: [E] int64, `MISSING` where nothing was counted. loss: [E] float64 that hold float32 values, nats, NaN
    where not finite.
    """

    set: EvaluationSet
    correct: np.ndarray
    loss: np.ndarray

    @classmethod
    def of(cls, set: EvaluationSet, metrics: Iterable[Metrics]) -> "Curve":
        metrics = list(metrics)
        correct = [MISSING if each.correct is None else each.correct for each in metrics]
        return cls(set, np.array(correct, dtype=np.int64), float_array(each.loss for each in metrics))

    def metrics(self) -> list[Metrics]:
        """The curve as single evaluations."""
        return [
            Metrics(correct=None if count == MISSING else count, loss=finite(loss))
            for count, loss in zip(self.correct.tolist(), self.loss.tolist(), strict=True)
        ]

    def __len__(self) -> int:
        return len(self.correct)


@dataclass(frozen=True, eq=False)
class Record:
    """A cell that has ended, with its curves. Two records are equal if their lines are.

    attempts:   how often the cell was started.
    train_loss: [E] float64 that hold float32 values, nats, NaN at the start and where not finite.
    seconds:    [E] float64, wall-clock since the cell's start.
    auxiliary:  curves on further sets, by name.
    """

    cell: Cell
    status: Status
    reason: str | None
    attempts: int
    environment: Environment
    curve: Curve
    train_loss: np.ndarray
    seconds: np.ndarray
    auxiliary: dict[str, Curve] = field(default_factory=dict)

    @classmethod
    def of_events(
        cls,
        cell: Cell,
        environment: Environment,
        attempts: int,
        sets: tuple[EvaluationSet, Mapping[str, EvaluationSet]],
        evaluations: Sequence[Evaluation],
        outcome: Outcome,
    ) -> "Record":
        """The record of what a training said; sets: of the primary and, by name, of the auxiliary curves."""
        primary, auxiliary = sets
        absent = Metrics(correct=None, loss=None)
        return cls(
            cell=cell,
            status=outcome.status,
            reason=outcome.reason,
            attempts=attempts,
            environment=environment,
            curve=Curve.of(primary, evaluations),
            train_loss=float_array(each.train_loss for each in evaluations),
            seconds=np.array([each.seconds for each in evaluations], dtype=np.float64),
            auxiliary={
                name: Curve.of(its, (each.auxiliary.get(name, absent) for each in evaluations))
                for name, its in auxiliary.items()
            },
        )

    def evaluations(self, interval: int) -> list[Evaluation]:
        """What training said, an evaluation every `interval` samples."""
        further = {name: curve.metrics() for name, curve in self.auxiliary.items()}
        return [
            Evaluation(
                samples=index * interval,
                train_loss=finite(self.train_loss[index]),
                seconds=float(self.seconds[index]),
                auxiliary={name: metrics[index] for name, metrics in further.items()},
                **metrics.model_dump(),
            )
            for index, metrics in enumerate(self.curve.metrics())
        ]

    def outcome(self, interval: int) -> Outcome:
        """What training said last."""
        seconds = float(self.seconds[-1]) if len(self) else 0.0
        samples = interval * max(0, len(self) - 1)
        return Outcome(status=self.status, reason=self.reason, samples=samples, seconds=seconds)

    def __len__(self) -> int:
        return len(self.curve)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Record) and self.line == other.line

    def __hash__(self) -> int:
        return hash(self.line)

    @cached_property
    def line(self) -> str:
        """The record as one line of a packed run, without its newline."""
        head: dict[str, Any] = {"cell": [self.cell.rate_index, self.cell.seed_index], "status": self.status}
        if self.reason is not None:
            head["reason"] = self.reason
        head |= {"attempts": self.attempts, "environment": self.environment.key}
        parts = [
            compact_json(head)[1:-1],
            *_curve_parts(self.curve),
            f'"train_loss":{_floats(self.train_loss, np.float32)}',
            f'"seconds":{_floats(self.seconds, np.float64)}',
        ]
        if self.auxiliary:
            curves = (f"{compact_json(name)}:{{{','.join(_curve_parts(its))}}}" for name, its in self.auxiliary.items())
            parts.append(f'"auxiliary":{{{",".join(curves)}}}')
        return "{" + ",".join(parts) + "}"

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the record's line."""
        return hashlib.sha256(self.line.encode()).hexdigest()


def _curve_parts(curve: Curve) -> list[str]:
    counts = ",".join("null" if count == MISSING else str(count) for count in curve.correct.tolist())
    return [
        f'"items":{curve.set.items}',
        f'"items_sha256":{compact_json(curve.set.sha256)}',
        f'"correct":[{counts}]',
        f'"loss":{_floats(curve.loss, np.float32)}',
    ]


def _floats(values: np.ndarray, kind: type[np.floating]) -> str:
    """The shortest text of each number that gives the same float of that kind, null for NaN."""
    return "[" + ",".join(values.astype(kind).astype(str).tolist()).replace("nan", "null") + "]"
