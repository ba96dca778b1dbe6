"""Runs on disk, for reading: a folder that still trains, a packed folder, or the one file that a run is packed into.

run.jsonl        the packed run (schema msb.run/2): line 1 the specification, its identity and the environments met;
                 then one line a cell, in the order of the specification
spec.json, cells/rateR-seedS.jsonl
                 what a run writes while it trains: a line an evaluation, a file a cell. They disappear once they are
                 packed; a cell that stands in both forms counts as its file says.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from multistep_bench.atomic import write_atomically
from multistep_bench.errors import RunError
from multistep_bench.runs.events import (
    Environment,
    Evaluation,
    EvaluationSet,
    Outcome,
    check_evaluations,
    compact_json,
    parse,
)
from multistep_bench.runs.lines import parse_cell_line
from multistep_bench.runs.old_form import read_old_record
from multistep_bench.runs.record import Record
from multistep_bench.runs.spec import Cell, RunSpec
from multistep_bench.strict import Strict

if TYPE_CHECKING:
    from pandas import DataFrame  # pyright: ignore[reportMissingImports]
    from torch import nn

    from multistep_bench.models.local import Model

RUN_SCHEMA = "msb.run/2"
CELL_SCHEMA = "msb.cell/2"
RUN_FILE = "run.jsonl"
SPEC_FILE = "spec.json"
CELLS_FOLDER = "cells"


class RunLine(Strict):
    """The first line of a packed run; environments by their key."""

    schema_: Literal["msb.run/2"] = Field(default=RUN_SCHEMA, alias="schema")
    identity: str
    spec: RunSpec
    environments: dict[str, Environment]


class CellHeader(Strict):
    """The first line of the file that a cell grows in."""

    schema_: Literal["msb.cell/2"] = Field(default=CELL_SCHEMA, alias="schema")
    identity: str
    cell: tuple[int, int] = Field(strict=False)
    environment: Environment
    evaluation: EvaluationSet
    auxiliary: dict[str, EvaluationSet] = Field(default_factory=dict)
    attempts: int = Field(ge=1)


@dataclass(frozen=True, repr=False)
class Run:
    """A run as it was read: its specification and the records present, in the order of `spec.cells()`.

    A prompt shows what it is and how complete; a notebook its score and its curves as well.
    """

    path: Path
    spec: RunSpec
    records: list[Record]

    def __repr__(self) -> str:
        from multistep_bench.desk.summary import run_lines

        return "\n".join(run_lines(self))

    def _repr_html_(self) -> str:
        from multistep_bench.desk.html import run_html

        return run_html(self)

    def curves(self) -> "DataFrame":
        """A pandas frame, a row an evaluation of each cell, see `desk.rows.curve_rows`; `BenchError` without pandas."""
        from multistep_bench.desk.frames import frame
        from multistep_bench.desk.rows import curve_rows

        return frame(curve_rows(self))

    def model(
        self,
        cell: Cell | None = None,
        *,
        model: "Model | None" = None,
        rate: float | None = None,
        seed: int | None = None,
        at: str | int = "final",
    ) -> "nn.Module":
        """The trained model of a cell whose weights were kept, see `load_model`; cell: instead of rate and seed."""
        from multistep_bench.training.kept import load_model

        if cell is not None:
            rate, seed = self.spec.learning_rate(cell), cell.seed_index
        return load_model(self, model=model, rate=rate, seed=seed, at=at)

    @property
    def missing(self) -> list[Cell]:
        """Cells without a record."""
        present = {record.cell for record in self.records}
        return [cell for cell in self.spec.cells() if cell not in present]

    @property
    def failed(self) -> list[Record]:
        """Records of cells whose program broke; the same `run` tries them again."""
        return [record for record in self.records if record.status == "failed"]

    @cached_property
    def packed(self) -> bytes:
        """The content of run.jsonl: the same for the same records, whatever order they were trained in."""
        environments = {record.environment.key: record.environment for record in self.records}
        first = RunLine(
            identity=self.spec.identity(),
            spec=self.spec,
            environments={key: environments[key] for key in sorted(environments)},
        )
        order = {cell: place for place, cell in enumerate(self.spec.cells())}
        records = sorted(self.records, key=lambda record: order[record.cell])
        head = compact_json(first.model_dump(mode="json", by_alias=True))
        return "".join(f"{line}\n" for line in (head, *(record.line for record in records))).encode()

    @property
    def sha256(self) -> str:
        """SHA-256 of the packed run: the integrity of its bytes, where `spec.identity()` says which run it is."""
        return hashlib.sha256(self.packed).hexdigest()


def write_packed(path: Path, run: Run) -> None:
    """Writes a packed run, whole or not at all."""
    write_atomically(path, run.packed)


def read_run(path: str | Path) -> Run:
    """The run of a folder, still training or packed, or of a packed file; its unfinished cells are left out.

    Raises `RunError` naming the file and what is wrong with it.
    """
    path = Path(path)
    spec = read_spec(path)
    return Run(path, spec, list(iter_records(path, spec)))


def read_spec(path: str | Path) -> RunSpec:
    """The specification of a run folder or a packed file; raises `RunError` where there is none."""
    path = Path(path)
    if (path / SPEC_FILE).is_file():
        return parse_spec(_bytes(path / SPEC_FILE), str(path / SPEC_FILE))
    file = path / RUN_FILE if path.is_dir() else path
    if not file.is_file():
        raise RunError(
            f"{path} is no run: it holds neither {RUN_FILE} nor {SPEC_FILE};"
            " give the folder that `run` printed, a packed file, or each of mb.list_runs(FOLDER)"
        )
    with file.open("rb") as lines:
        return parse_run_line(next(lines, b""), f"{file} line 1").spec


def iter_records(path: Path, spec: RunSpec) -> Iterator[Record]:
    """The records of a run one at a time, in the order of `spec.cells()`; raises as `read_run` does."""
    file = path / RUN_FILE if path.is_dir() else path
    packed = _packed_records(file, spec) if file.is_file() else iter(())
    waiting = next(packed, None)
    for cell in spec.cells():
        stored = None
        if waiting is not None and waiting.cell == cell:
            stored, waiting = waiting, next(packed, None)
        live = record_path(path, cell)
        if live.is_file():
            yield read_cell_file(live, cell, spec)
        elif stored is not None:
            yield stored
    if waiting is not None:
        raise RunError(f"{file}: {waiting.cell.name} is no further cell of its protocol, or not in its order")


def _packed_records(file: Path, spec: RunSpec) -> Iterator[Record]:
    with file.open("rb") as lines:
        environments: Mapping[str, Environment] = {}
        for number, line in enumerate(lines, start=1):
            where = f"{file} line {number}"
            if number == 1:
                first = parse_run_line(line, where)
                environments = first.environments
                if first.identity != spec.identity():
                    raise RunError(f"{file} belongs to another run than {SPEC_FILE} beside it describes; move it away")
                continue
            if not line.endswith(b"\n"):
                raise RunError(f"{where} is cut off; take the file from where it came from again")
            record = parse_cell_line(line, environments, where)
            if len(record) > spec.protocol.evaluations + 1:
                raise RunError(f"{where}: {len(record)} evaluations, more than {spec.protocol.evaluations + 1}")
            yield record


def parse_run_line(text: bytes, where: str) -> RunLine:
    """The first line of a packed run; raises `RunError`."""
    first = parse(RunLine, text, where)
    if first.identity != first.spec.identity():
        raise RunError(f"{where}: its identity {first.identity[:12]!r} is not that of its specification; it was edited")
    return first


def parse_spec(text: bytes, where: str) -> RunSpec:
    """A specification; raises `RunError`."""
    return parse(RunSpec, text, where)


def read_cell_file(path: Path, cell: Cell, spec: RunSpec) -> Record:
    """The record of a finished cell's own file, also of the form that versions before 0.2 wrote."""
    lines = _bytes(path).splitlines()
    if len(lines) < 2:
        raise RunError(f"{path} holds {len(lines)} lines, not a whole record; move it away and run again")
    schema = _schema(lines[0])
    if schema == "msb.run/1":
        return read_old_record(path, lines, cell, spec)
    header = parse(CellHeader, lines[0], f"{path} line 1")
    if header.identity != spec.identity() or Cell(*header.cell) != cell:
        raise RunError(f"{path} belongs to another run or cell than {SPEC_FILE} describes; move it away")
    events = [parse(Evaluation, line, f"{path} line {number}") for number, line in enumerate(lines[1:-1], start=2)]
    outcome = parse(Outcome, lines[-1], f"{path} line {len(lines)}")
    check_evaluations(events, spec, str(path))
    sets = header.evaluation, header.auxiliary
    return Record.of_events(cell, header.environment, header.attempts, sets, events, outcome)


def record_path(folder: Path, cell: Cell) -> Path:
    """The file of a cell that has ended, in a run folder that is not packed."""
    return folder / CELLS_FOLDER / f"{cell.name}.jsonl"


def partial_path(folder: Path, cell: Cell) -> Path:
    """The file that a cell grows in."""
    return record_path(folder, cell).with_suffix(".jsonl.partial")


def _schema(line: bytes) -> Any:
    try:
        header = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return header.get("schema") if isinstance(header, dict) else None


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}") from None
