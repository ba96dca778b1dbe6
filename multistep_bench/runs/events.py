"""What training says while it runs: an `Evaluation` after every interval, then one `Outcome`, and where they come from.

Nothing here or beside it imports torch: scoring reads records on machines that never train.
"""

import json
from collections.abc import Iterable
from functools import cached_property
from typing import Any, Literal, TypeVar

import numpy as np
from pydantic import Field, ValidationError

from multistep_bench.errors import RunError
from multistep_bench.runs.spec import RunSpec
from multistep_bench.strict import Strict, content_sha256

LARGEST_COUNT = 2**53  # whole numbers up to here are exact in every language that reads JSON

Status = Literal["completed", "diverged", "failed"]
S = TypeVar("S", bound=Strict)


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


def check_evaluations(events: Iterable[Evaluation], spec: RunSpec, where: str) -> None:
    """Raises `RunError` for evaluations that are not one an interval from 0 on."""
    interval = spec.protocol.interval
    for index, event in enumerate(events):
        if event.samples != index * interval or index > spec.protocol.evaluations:
            raise RunError(
                f"{where} has evaluations off the protocol's schedule, one every {interval} samples up to"
                f" {spec.protocol.budget}; move it away and run again"
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
    return finite(float_array([value])[0])


def finite(value: float) -> float | None:
    """The number, or None for one that is not finite."""
    return float(value) if np.isfinite(value) else None


def parse(model: type[S], text: bytes, where: str) -> S:
    """JSON as a `model`; raises `RunError` naming the place and the first problem."""
    try:
        return model.model_validate_json(text)
    except ValueError as error:
        raise RunError(f"{where}: {short_reason(error)}") from None


def short_reason(error: Exception) -> str:
    """The first problem of a validation error, or the error's own first words, of bounded length."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part)[:40] for part in first["loc"][:6]) or "content"
        return f"{place}: {first['msg']}"[:300]
    return str(error)[:300]
