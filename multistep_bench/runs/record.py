"""Run records: raw curves on disk, one JSON Lines file a cell, and the folder that holds a run.

A record is a header line, one line an evaluation, and an outcome line. It grows under a name that ends
in `.partial` and gets its own name once the outcome is written, so a record by that name is whole.
Nothing here imports torch: scoring reads records on machines that never train.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import AliasChoices, BaseModel, Field, TypeAdapter, ValidationError

from multistep_bench.cards import Protocol
from multistep_bench.errors import RunError
from multistep_bench.runs.spec import Cell, ModelSpec, RunSpec
from multistep_bench.strict import Strict

RECORD_SCHEMA = "msb.run/1"
SPEC_FILE = "spec.json"
CELLS_FOLDER = "cells"


class TaskReference(Strict):
    id: str
    sha256: str
    protocol: str


class CellReference(Strict):
    """A cell; `seed` is that of its initial weights, the other streams follow from the indices."""

    rate_index: int = Field(ge=0)
    learning_rate: float = Field(gt=0)
    seed_index: int = Field(ge=0)
    seed: int = Field(ge=0)


class EvaluationSet(Strict):
    """items: scored targets of each evaluation; sha256: of the set's tensors."""

    items: int = Field(gt=0)
    sha256: str


class Header(Strict):
    """The first line of a record: what was trained, how, with what, on what.

    auxiliary: the sets of the task's auxiliary measurements, by name.
    """

    schema_: Literal["msb.run/1"] = Field(default=RECORD_SCHEMA, alias="schema")
    spec_sha256: str
    task: TaskReference
    protocol: Protocol
    model: ModelSpec
    cell: CellReference
    evaluation: EvaluationSet
    auxiliary: dict[str, EvaluationSet] = Field(
        default_factory=dict, validation_alias=AliasChoices("auxiliary", "secondary")
    )
    engine: str
    versions: dict[str, str]
    hardware: dict[str, Any]
    attempts: int = Field(ge=1)


class Metrics(Strict):
    """What one evaluation reads off one set; null where the loss is not finite.

    correct: of the set's items. loss: mean cross-entropy over them, in nats.
    """

    correct: int | None = Field(ge=0)
    loss: float | None


class Evaluation(Metrics):
    """One evaluation after `samples` training samples: the primary reading and, by name, the auxiliary ones.

    train_loss: mean over the batches since the evaluation before. seconds: wall-clock since the cell's start.
    """

    samples: int = Field(ge=0)
    train_loss: float | None
    seconds: float = Field(ge=0)
    auxiliary: dict[str, Metrics] = Field(default_factory=dict, validation_alias=AliasChoices("auxiliary", "secondary"))


class Outcome(Strict):
    """The last line of a record.

    completed: trained to the budget. diverged: a loss or the logits stopped being finite; not trained on.
    failed: the cell's program broke (`reason`); a later run tries it again.
    """

    status: Literal["completed", "diverged", "failed"]
    reason: str | None = None
    samples: int = Field(ge=0)
    seconds: float = Field(ge=0)


@dataclass(frozen=True)
class Record:
    """A whole record; `sha256` is that of the file's bytes."""

    header: Header
    evaluations: list[Evaluation]
    outcome: Outcome
    sha256: str

    @property
    def cell(self) -> Cell:
        return Cell(self.header.cell.rate_index, self.header.cell.seed_index)


@dataclass(frozen=True)
class Run:
    """A run folder as read: its specification and the records present, in the order of `spec.cells()`."""

    path: Path
    spec: RunSpec
    records: list[Record]


_EVALUATIONS = TypeAdapter(list[Evaluation])
M = TypeVar("M", bound=BaseModel)


def line(record: Strict) -> str:
    """One line of a record."""
    return json.dumps(record.model_dump(mode="json", by_alias=True), separators=(",", ":"), allow_nan=False) + "\n"


def record_path(folder: Path, cell: Cell) -> Path:
    return folder / CELLS_FOLDER / f"{cell.name}.jsonl"


def partial_path(folder: Path, cell: Cell) -> Path:
    return record_path(folder, cell).with_suffix(".jsonl.partial")


def read_record(path: Path) -> Record:
    """A finished record; raises `RunError` naming the file and what is wrong with it."""
    content = path.read_bytes()
    lines = content.splitlines()
    if len(lines) < 2:
        raise RunError(f"{path} holds {len(lines)} lines, not a whole record; move it away and run again")
    header = _parse(Header, lines[0], f"{path} line 1")
    outcome = _parse(Outcome, lines[-1], f"{path} line {len(lines)}")
    try:
        evaluations = _EVALUATIONS.validate_json(b"[" + b",".join(lines[1:-1]) + b"]")
    except ValidationError as error:
        raise RunError(f"{path} is not a record of {RECORD_SCHEMA}: {_first(error)}") from None
    return Record(header, evaluations, outcome, hashlib.sha256(content).hexdigest())


def read_outcome(path: Path) -> Outcome:
    """The outcome of a finished record, without reading its curve; raises `RunError` as `read_record` does."""
    lines = path.read_bytes().splitlines()
    return _parse(Outcome, lines[-1] if lines else b"", f"{path} line {len(lines)}")


def read_spec(folder: Path) -> RunSpec:
    """The specification of a run folder; raises `RunError` where there is none."""
    path = folder / SPEC_FILE
    if not path.is_file():
        raise RunError(f"{folder} is no run folder: it holds no {SPEC_FILE}; give the folder that `run` printed")
    return _parse(RunSpec, path.read_bytes(), str(path))


def read_run(folder: str | Path) -> Run:
    """The specification and every finished record of a run folder."""
    folder = Path(folder)
    spec = read_spec(folder)
    return Run(folder, spec, list(iter_records(folder, spec)))


def iter_records(folder: Path, spec: RunSpec) -> Iterator[Record]:
    """The finished records of a run folder one at a time, in the order of `spec.cells()`."""
    sha256 = spec.sha256()
    for cell in spec.cells():
        path = record_path(folder, cell)
        if not path.is_file():
            continue
        record = read_record(path)
        if record.header.spec_sha256 != sha256 or record.cell != cell:
            raise RunError(f"{path} belongs to another run or cell than {folder / SPEC_FILE} describes; move it away")
        yield record


def _parse(model: type[M], text: bytes, where: str) -> M:
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        raise RunError(f"{where}: {_first(error)}") from None


def _first(error: ValidationError) -> str:
    detail = error.errors()[0]
    return f"{'.'.join(map(str, detail['loc'])) or 'line'}: {detail['msg']}"
