"""Reads the lines of a packed run that are cells; every number in them is bounded before it is believed."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from pydantic import Field

from multistep_bench.errors import RunError
from multistep_bench.runs.events import LARGEST_COUNT, Environment, EvaluationSet, Status, float_array, short_reason
from multistep_bench.runs.record import MISSING, Curve, Record
from multistep_bench.runs.spec import Cell
from multistep_bench.strict import Strict


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
