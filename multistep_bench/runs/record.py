"""The record of a cell: what training says while it runs, and the curves that it leaves as arrays.

A cell is written as events (`Evaluation`, then one `Outcome`) and read as a `Record`, which is one line of a
packed run. Nothing here imports torch: scoring reads records on machines that never train.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
from pydantic import Field, ValidationError

from multistep_bench.errors import RunError
from multistep_bench.runs.spec import Cell
from multistep_bench.strict import Strict, content_sha256

MISSING = -1  # in an array of counts: the loss was not finite, so nothing was counted
LARGEST_COUNT = 2**53  # whole numbers up to here are exact in every language that reads JSON

Status = Literal["completed", "diverged", "failed"]


class EvaluationSet(Strict):
    """items: scored targets of each evaluation; sha256: of the set's tensors."""

    items: int = Field(gt=0, le=LARGEST_COUNT)
    sha256: str = Field(max_length=64)


class Environment(Strict):
    """Where cells were trained: the shape of the engine, versions that decide a curve, and the machine."""

    engine: str
    versions: dict[str, str]
    hardware: dict[str, Any]

    @cached_property
    def key(self) -> str:
        """A short hash, by which a cell of a packed run names its environment."""
        return content_sha256(self.model_dump(mode="json"))[:12]


class Metrics(Strict):
    """What one evaluation says of one set; null where the loss is not finite.

    correct: of the set's items. loss: mean cross-entropy over them, in nats, a float32.
    """

    correct: int | None = Field(ge=0)
    loss: float | None


class Evaluation(Metrics):
    """One evaluation after `samples` training samples: the primary metrics and, by name, the auxiliary ones.

    train_loss: mean over the batches since the evaluation before. seconds: wall-clock since the cell's start.
    """

    samples: int = Field(ge=0)
    train_loss: float | None
    seconds: float = Field(ge=0)
    auxiliary: dict[str, Metrics] = Field(default_factory=dict)


class Outcome(Strict):
    """How a cell ended.

    completed: trained to the budget. diverged: a loss or the logits stopped being finite; not trained on.
    failed: the cell's program broke (`reason`); a later run tries it again.
    """

    status: Status
    reason: str | None = None
    samples: int = Field(ge=0)
    seconds: float = Field(ge=0)


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
            Metrics(correct=None if count == MISSING else count, loss=_finite(loss))
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
                train_loss=_finite(self.train_loss[index]),
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


class CellLine(Strict):
    """A record as its line has it; the arrays are checked where they become NumPy's."""

    cell: tuple[int, int] = Field(strict=False)
    status: Status
    reason: str | None = None
    attempts: int = Field(ge=1, le=LARGEST_COUNT)
    environment: str
    items: int = Field(gt=0, le=LARGEST_COUNT)
    items_sha256: str = Field(max_length=64)
    correct: list[Any]
    loss: list[Any]
    train_loss: list[Any]
    seconds: list[Any]
    auxiliary: dict[str, dict[str, Any]] = Field(default_factory=dict)

    def record(self, environments: Mapping[str, Environment]) -> Record:
        """Raises `ValueError` for arrays that are no curves, or an environment that the run does not name."""
        if self.environment not in environments:
            raise ValueError(f"its environment {self.environment[:20]!r} is none of the run's")
        curve = _curve(self.items, self.items_sha256, self.correct, self.loss)
        train_loss, seconds = _numbers(self.train_loss, "train_loss"), _numbers(self.seconds, "seconds")
        auxiliary = {}
        for name, its in self.auxiliary.items():
            if set(its) != {"items", "items_sha256", "correct", "loss"}:
                raise ValueError(f"its auxiliary curve {name[:40]!r} has other keys than items, correct and loss")
            auxiliary[name] = _curve(**its)
        if {len(curve)} != {len(train_loss), len(seconds), *map(len, auxiliary.values()), len(curve)}:
            raise ValueError("its arrays differ in length")
        return Record(
            cell=Cell(*self.cell),
            status=self.status,
            reason=self.reason,
            attempts=self.attempts,
            environment=environments[self.environment],
            curve=curve,
            train_loss=train_loss,
            seconds=seconds,
            auxiliary=auxiliary,
        )


def compact_json(content: Any) -> str:
    return json.dumps(content, separators=(",", ":"), allow_nan=False)


def event_line(event: Strict) -> str:
    """One line of the file that a cell grows in while it trains."""
    return compact_json(event.model_dump(mode="json", by_alias=True)) + "\n"


def float_array(values: Iterable[float | None]) -> np.ndarray:
    """[n] float64 that hold float32 values, NaN for None."""
    with np.errstate(over="ignore"):
        return np.array([np.nan if each is None else each for each in values], np.float32).astype(np.float64)


def as_float32(value: float | None) -> float | None:
    """The nearest float32 as a Python float; None for what is no finite one."""
    if value is None:
        return None
    return _finite(float_array([value])[0])


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


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


def _curve(items: Any, items_sha256: Any, correct: Any, loss: Any) -> Curve:
    its = EvaluationSet(items=items, sha256=items_sha256)
    if not isinstance(correct, list) or not isinstance(loss, list) or len(correct) != len(loss):
        raise ValueError("correct and loss are no two arrays of one length")
    if not set(map(type, correct)) <= {int, type(None)}:
        raise ValueError("correct holds more than whole numbers and null")
    if any(count is not None and not 0 <= count <= its.items for count in correct):
        raise ValueError(f"correct counts more than {its.items} right answers of {its.items} items, or fewer than none")
    counts = np.array([MISSING if count is None else count for count in correct], dtype=np.int64)
    return Curve(its, counts, _numbers(loss, "loss"))


def _numbers(values: list[Any], name: str) -> np.ndarray:
    """[n] float64 of JSON numbers, NaN for null; losses are rounded to the float32 that they are."""
    if not set(map(type, values)) <= {int, float, type(None)}:
        raise ValueError(f"{name} holds more than numbers and null")
    try:
        found = np.array([np.nan if each is None else float(each) for each in values], dtype=np.float64)
        if name != "seconds":
            found = float_array(found)
    except OverflowError:
        raise ValueError(f"{name} holds a number too large to be one") from None
    if np.isinf(found).any():
        raise ValueError(f"{name} holds a number too large to be one")
    if name == "seconds" and not (found >= 0).all():
        raise ValueError("seconds holds null or a negative number")
    return found


def parse_cell_line(text: bytes | str, environments: Mapping[str, Environment], where: str) -> Record:
    """The record of a line; raises `RunError` naming the place and what is wrong with it."""
    try:
        return CellLine.model_validate(json.loads(text)).record(environments)
    except RecursionError:
        raise RunError(f"{where}: nested too deep to be a record") from None
    except ValueError as error:
        raise RunError(f"{where}: {short_reason(error)}") from None


def short_reason(error: Exception) -> str:
    """The first problem of a validation error, or the error's own first words, of bounded length."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part)[:40] for part in first["loc"][:6]) or "content"
        return f"{place}: {first['msg']}"[:300]
    return str(error)[:300]
