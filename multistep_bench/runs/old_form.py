"""Cell files of the form "msb.run/1", which versions before 0.2 wrote: read, and never written again."""

import warnings
from pathlib import Path

from pydantic import Field

from multistep_bench.errors import RunError
from multistep_bench.runs.events import (
    Environment,
    Evaluation,
    EvaluationSet,
    Metrics,
    Outcome,
    check_evaluations,
    parse,
)
from multistep_bench.runs.record import Record
from multistep_bench.runs.spec import Cell, RunSpec
from multistep_bench.strict import Strict


class _Reference(Strict, extra="ignore"):
    rate_index: int
    seed_index: int


class _Task(Strict, extra="ignore"):
    id: str
    protocol: str


class _Header(Strict, extra="ignore"):
    """The first line; it repeated the specification, of which what names the run is compared."""

    task: _Task
    cell: _Reference
    evaluation: EvaluationSet
    secondary: dict[str, EvaluationSet] = Field(default_factory=dict)
    engine: str
    versions: dict[str, str]
    hardware: dict
    attempts: int


class _Evaluation(Metrics):
    samples: int
    train_loss: float | None
    seconds: float
    secondary: dict[str, Metrics] = Field(default_factory=dict)


def read_old_record(path: Path, lines: list[bytes], cell: Cell, spec: RunSpec) -> Record:
    """The record of a finished file of the old form; raises `RunError`."""
    header = parse(_Header, lines[0], f"{path} line 1")
    named = (header.task.id, header.task.protocol, Cell(header.cell.rate_index, header.cell.seed_index))
    if named != (spec.task.id, spec.protocol_name, cell):
        raise RunError(f"{path} belongs to another run or cell than its folder's specification; move it away")
    read = [parse(_Evaluation, line, f"{path} line {number}") for number, line in enumerate(lines[1:-1], start=2)]
    outcome = parse(Outcome, lines[-1], f"{path} line {len(lines)}")
    events = [Evaluation(**{**each.model_dump(exclude={"secondary"}), "auxiliary": each.secondary}) for each in read]
    check_evaluations(events, spec, str(path))
    warnings.warn(
        f"{path.parent.parent} holds records of the form that versions before 0.2 wrote; they were read as they are,"
        " and `mstep-bench pack` on the folder rewrites them as one file",
        stacklevel=2,
    )
    environment = Environment(engine=header.engine, versions=header.versions, hardware=header.hardware)
    sets = header.evaluation, header.secondary
    return Record.of_events(cell, environment, header.attempts, sets, events, outcome)
