"""Reading records: a finished record gives back what was written, anything else is refused by name."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from records import EVALUATIONS, ITEMS, Ended, jump, make_run, make_spec

from multistep_bench.errors import RunError
from multistep_bench.runs.record import SPEC_FILE, iter_records, read_record, read_run, read_spec, record_path
from multistep_bench.runs.spec import Cell


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    counts: list[int | None] = [*jump(0.3)]
    counts[7] = None
    return make_run(tmp_path / "run", {(0, 0): counts, (1, 1): Ended("diverged", [100, 400], "loss is nan")}, seeds=2)


def test_a_record_gives_back_what_was_written(folder: Path) -> None:
    run = read_run(folder)
    assert run.spec == make_spec(rates=(1e-3, 2e-3), seeds=2)
    assert [record.cell for record in run.records] == [Cell(0, 0), Cell(1, 1)]
    whole, diverged = run.records
    assert whole.header.evaluation.items == ITEMS
    assert whole.header.cell.learning_rate == 1e-3
    assert [entry.correct for entry in whole.evaluations][5:9] == [550, 550, None, 550]
    assert [entry.samples for entry in whole.evaluations] == list(range(0, 100_001, 1000))
    assert whole.outcome.status == "completed"
    assert (diverged.outcome.status, diverged.outcome.reason) == ("diverged", "loss is nan")


def test_a_record_is_named_by_the_hash_of_its_bytes(folder: Path) -> None:
    path = record_path(folder, Cell(0, 0))
    assert read_record(path).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_records_come_in_the_order_of_the_cells_one_at_a_time(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", {(1, 1): jump(0.5), (0, 1): jump(0.5), (1, 0): jump(0.5)})
    assert [record.cell for record in iter_records(folder, read_spec(folder))] == [Cell(1, 0), Cell(0, 1), Cell(1, 1)]
    record_path(folder, Cell(1, 1)).write_text("broken")
    assert next(iter_records(folder, read_spec(folder))).cell == Cell(1, 0)  # the last is not read yet


def test_a_record_that_still_grows_is_not_there(folder: Path) -> None:
    path = record_path(folder, Cell(0, 0))
    path.rename(path.with_suffix(".jsonl.partial"))
    assert [record.cell for record in read_run(folder).records] == [Cell(1, 1)]


def _edit(path: Path, line: int, **changes: object) -> None:
    lines = path.read_text().splitlines()
    lines[line] = json.dumps({**json.loads(lines[line]), **changes})
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("line", "changes", "message"),
    [
        (0, {"schema": "msb.run/2"}, "line 1: schema"),
        (0, {"extra": 1}, "line 1: extra"),
        (3, {"correct": 5.5}, "2.correct"),
        (3, {"correct": -1}, "2.correct"),
        (3, {"correct": "550"}, "2.correct"),
        (3, {"accuracy": 1.0}, "2.accuracy"),
        (3, {"samples": None}, "2.samples"),
        (-1, {"status": "done"}, "status"),
    ],
)
def test_a_line_that_breaks_the_schema_is_refused(folder: Path, line: int, changes: dict, message: str) -> None:
    path = record_path(folder, Cell(0, 0))
    _edit(path, line, **changes)
    with pytest.raises(RunError, match=message) as error:
        read_record(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("keep", [0, 1, EVALUATIONS // 2])
def test_a_record_cut_short_is_refused(folder: Path, keep: int) -> None:
    path = record_path(folder, Cell(0, 0))
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:keep]))
    with pytest.raises(RunError, match=path.name):
        read_record(path)


def test_a_record_of_another_cell_or_run_is_refused(folder: Path, tmp_path: Path) -> None:
    own, other = record_path(folder, Cell(0, 0)), record_path(folder, Cell(0, 1))
    own.rename(other)
    with pytest.raises(RunError, match="belongs to another run or cell"):
        read_run(folder)
    stranger = make_run(tmp_path / "stranger", {(0, 0): jump(0.5)}, model="vit_tau")
    record_path(stranger, Cell(0, 0)).rename(own)
    other.unlink()
    with pytest.raises(RunError, match="belongs to another run or cell"):
        read_run(folder)


def test_a_folder_without_a_specification_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=SPEC_FILE):
        read_run(tmp_path)


def test_reading_and_scoring_import_no_torch() -> None:
    code = "import sys, multistep_bench.scoring.compare, multistep_bench.runs.record; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
