"""A packed run: what its lines hold, what identifies it, and what is refused by name."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from records import ITEMS, Ended, flat, jump, make_run, make_spec, task_card, write_run

from multistep_bench.errors import RunError
from multistep_bench.runs.events import as_float32
from multistep_bench.runs.record import MISSING
from multistep_bench.runs.spec import Cell
from multistep_bench.runs.store import RUN_FILE, Run, iter_records, read_run, read_spec


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    counts: list[int | None] = [*jump(0.3)]
    counts[7] = None
    curves = {(0, 0): counts, (1, 1): Ended("diverged", [100, 400], "loss is nan")}
    return make_run(tmp_path / "run", curves, seeds=2, auxiliary={"hop 1": flat()})


def test_a_packed_run_gives_back_what_was_written(tmp_path: Path) -> None:
    counts: list[int | None] = [*jump(0.3)]
    counts[7] = None
    curves = {(0, 0): counts, (1, 1): Ended("diverged", [100, 400], "loss is nan")}
    run = read_run(make_run(tmp_path / "run", curves, seeds=2))
    assert run.spec == make_spec(rates=(1e-3, 2e-3), seeds=2)
    whole, diverged = run.records
    assert (whole.cell, diverged.cell) == (Cell(0, 0), Cell(1, 1))
    assert whole.curve.set.items == ITEMS
    assert whole.curve.correct[5:9].tolist() == [550, 550, MISSING, 550]
    assert np.isnan(whole.curve.loss[7])
    assert whole.seconds.tolist() == list(range(101))
    assert [each.samples for each in whole.evaluations(run.spec.protocol.interval)] == list(range(0, 100_001, 1000))
    assert (diverged.status, diverged.reason) == ("diverged", "loss is nan")
    assert run.missing == [Cell(1, 0), Cell(0, 1)]


def test_packing_is_deterministic_and_a_changed_cell_is_a_changed_line(tmp_path: Path) -> None:
    spec = make_spec(seeds=3)
    run = read_run(make_run(tmp_path / "run", {(0, seed): jump(0.5) for seed in range(3)}, seeds=3))
    shuffled = Run(run.path, spec, run.records[::-1])
    assert shuffled.packed == run.packed == (run.path / RUN_FILE).read_bytes()
    assert run.sha256 == hashlib.sha256(run.packed).hexdigest()
    other = read_run(make_run(tmp_path / "other", {(0, 0): jump(0.5), (0, 1): jump(0.6), (0, 2): jump(0.5)}, seeds=3))
    lines = list(zip(run.packed.splitlines(), other.packed.splitlines(), strict=True))
    assert [ours == theirs for ours, theirs in lines] == [True, True, False, True]


def test_a_record_is_named_by_the_hash_of_its_line(folder: Path) -> None:
    lines = (folder / RUN_FILE).read_bytes().splitlines()
    assert [record.sha256 for record in read_run(folder).records] == [
        hashlib.sha256(line).hexdigest() for line in lines[1:]
    ]


def test_a_packed_file_is_read_without_its_folder(folder: Path, tmp_path: Path) -> None:
    moved = tmp_path / "vit.jsonl"
    (folder / RUN_FILE).rename(moved)
    run = read_run(moved)
    assert (run.path, len(run.records)) == (moved, 2)


@pytest.mark.parametrize("value", [0.1, 1e-30, 3.0, 2.0959693, 1 / 3, 123456.7])
def test_losses_are_the_shortest_text_of_the_same_float32(folder: Path, value: float) -> None:
    run = read_run(folder)
    record = run.records[0]
    record.curve.loss[3] = as_float32(value)
    text = json.loads(record.line)["loss"][3]
    assert np.float32(text) == np.float32(value)
    assert len(repr(text)) <= len(repr(float(np.float32(value))))
    assert str(np.float32(value)) in record.line


def test_records_come_in_the_order_of_the_cells_one_at_a_time(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", {(1, 1): jump(0.5), (0, 1): jump(0.5), (1, 0): jump(0.5)})
    assert [record.cell for record in iter_records(folder, read_spec(folder))] == [Cell(1, 0), Cell(0, 1), Cell(1, 1)]
    content = (folder / RUN_FILE).read_text().splitlines()
    (folder / RUN_FILE).write_text("\n".join([*content[:3], "broken"]) + "\n")
    assert next(iter_records(folder, read_spec(folder))).cell == Cell(1, 0)  # the last is not read yet


def edit(folder: Path, number: int, **changes: Any) -> None:
    lines = (folder / RUN_FILE).read_text().splitlines()
    lines[number] = json.dumps({**json.loads(lines[number]), **changes})
    (folder / RUN_FILE).write_text("\n".join(lines) + "\n")


CUT = [1.0] * 100


@pytest.mark.parametrize(
    ("line", "changes", "message"),
    [
        (0, {"schema": "msb.run/9"}, "line 1: schema"),
        (0, {"extra": 1}, "line 1: extra"),
        (0, {"identity": "0" * 64}, "line 1: its identity '000000000000' is not that of its specification"),
        (1, {"status": "done"}, "line 2: status"),
        (1, {"accuracy": []}, "line 2: accuracy"),
        (1, {"correct": [5.5] * 101}, "line 2: correct holds more than whole numbers"),
        (1, {"correct": ["550"] * 101}, "line 2: correct holds more than whole numbers"),
        (1, {"correct": [True] * 101}, "line 2: correct holds more than whole numbers"),
        (1, {"correct": [-1] * 101}, "line 2: correct counts more than 1000 right answers of 1000 items, or fewer"),
        (1, {"correct": [1001] * 101}, "line 2: correct counts more than 1000 right answers"),
        (1, {"correct": [10**400] * 101}, "line 2: correct counts more than 1000 right answers"),
        (1, {"loss": ["1.0"] * 101}, "line 2: loss holds more than numbers"),
        (1, {"loss": [10**400] * 101}, "line 2: loss holds a number too large"),
        (1, {"loss": [1e39] * 101}, "line 2: loss holds a number too large"),
        (1, {"loss": CUT}, "line 2: correct and loss are no two arrays of one length"),
        (1, {"train_loss": CUT}, "line 2: its arrays differ in length"),
        (1, {"seconds": [None] * 101}, "line 2: seconds holds null or a negative number"),
        (1, {"seconds": [-1.0] * 101}, "line 2: seconds holds null or a negative number"),
        (1, {"environment": "x"}, "line 2: its environment 'x' is none of the run's"),
        (1, {"items": 0}, "line 2: items"),
        (1, {"cell": [5, 5]}, "is no further cell of its protocol, or not in its order"),
        (1, {"auxiliary": {"hop 1": {"correct": []}}}, "line 2: its auxiliary curve 'hop 1' has other keys"),
    ],
)
def test_a_line_that_breaks_the_schema_is_refused(folder: Path, line: int, changes: dict, message: str) -> None:
    edit(folder, line, **changes)
    with pytest.raises(RunError) as error:
        read_run(folder)
    assert message in str(error.value)
    assert str(folder / RUN_FILE) in str(error.value)


def test_more_evaluations_than_the_protocol_has_are_refused(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", {(0, 0): [*jump(0.3), 950]})
    with pytest.raises(RunError, match="line 2: 102 evaluations, more than 101"):
        read_run(folder)


@pytest.mark.parametrize("nesting", ["[" * 100_000, '{"a":' * 100_000])
def test_a_line_nested_too_deep_is_refused(folder: Path, nesting: str) -> None:
    content = (folder / RUN_FILE).read_text().splitlines()
    (folder / RUN_FILE).write_text("\n".join([content[0], nesting, content[2]]) + "\n")
    with pytest.raises(RunError, match="line 2"):
        read_run(folder)


def test_a_file_that_was_cut_off_is_refused(folder: Path) -> None:
    content = (folder / RUN_FILE).read_bytes()
    for end in (0, 100, len(content) - 1, content.rindex(b"\n", 0, len(content) - 1) + 100):
        (folder / RUN_FILE).write_bytes(content[:end])
        with pytest.raises(RunError, match=RUN_FILE):
            read_run(folder)


def test_a_folder_without_a_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=RUN_FILE):
        read_run(tmp_path)


def test_identity_is_what_trains(tmp_path: Path) -> None:
    plain = make_spec()
    same = [
        make_spec(task={"summary": "Other words.", "title": "Other"}),
        make_spec(task={"levels": {"chance": 0.2, "shortcut": 0.5, "ceiling": 1.0}}),
        make_spec(protocol={"weight_decay": 0.05}),  # its default, written out
        plain.model_copy(update={"model": plain.model.model_copy(update={"flops_per_sample": 1, "parameters": 1})}),
        make_spec(changes={"protocol.seeds": 1}),
    ]
    assert {spec.identity() for spec in same} == {plain.identity()}
    other = [
        make_spec(protocol={"weight_decay": 0.1}),
        make_spec(seeds=2),
        make_spec(rates=(2e-3,)),
        make_spec(model="vit_tau"),
        make_spec(task={"id": "other-v1"}),
        make_spec(task={"parameters": {"tile": 8}}),
        make_spec(task={"batch_sha256": "0" * 64}),
        make_spec(task={"size": "paper"}),
        plain.model_copy(update={"model": plain.model.model_copy(update={"code_sha256": "1" * 64})}),
        plain.model_copy(update={"model": plain.model.model_copy(update={"config": {"depth": 2}})}),
    ]
    assert len({plain.identity(), *(spec.identity() for spec in other)}) == 1 + len(other)


def test_a_card_has_one_hash_whatever_its_prose_and_defaults() -> None:
    plain = task_card(protocols=make_spec().task.protocols)
    assert task_card(protocols=plain.protocols, summary="Else.").sha256() == plain.sha256()
    assert task_card(protocols=plain.protocols, scoring={"confirmations": 3}).sha256() == plain.sha256()
    assert task_card(protocols=plain.protocols, scoring={"confirmations": 4}).sha256() != plain.sha256()


def test_the_same_records_give_the_same_file_in_another_folder(folder: Path, tmp_path: Path) -> None:
    run = read_run(folder)
    copy = write_run(tmp_path / "copy", run.spec, run.records)
    assert (copy / RUN_FILE).read_bytes() == (folder / RUN_FILE).read_bytes()


def test_reading_and_scoring_import_no_torch() -> None:
    code = (
        "import sys, multistep_bench.scoring.compare, multistep_bench.runs.folder, multistep_bench.runs.machine;"
        " sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
