"""Finding runs below folders: what is a run, what is passed over, and what must be said."""

import json
import os
import shutil
from pathlib import Path

import pytest
from commands import in_process
from records import Ended, flat, jump, make_run, make_spec

import multistep_bench as mb
from multistep_bench.desk.listing import list_folder
from multistep_bench.errors import RunError
from multistep_bench.runs.search import find_runs


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Two packed folders, one that still trains, a packed file, and much that is no run."""
    root = tmp_path / "runs"
    make_run(root / "steps" / "vit" / "quick-1", {(0, 0): jump(0.5)})
    make_run(root / "steps" / "vit" / "quick-2", {(0, 0): flat()}, changes={"model.depth": 4})
    training = root / "steps" / "mlp" / "quick"
    (training / "cells").mkdir(parents=True)
    (training / "spec.json").write_text(make_spec(model="mlp").model_dump_json(by_alias=True, indent=1))
    make_run(tmp_path / "elsewhere", {(0, 0): flat()}, model="packed")
    shutil.copy(tmp_path / "elsewhere" / "run.jsonl", root / "packed.jsonl")
    make_run(root / ".hidden", {(0, 0): flat()}, model="hidden")
    make_run(training / "checkpoints", {(0, 0): flat()}, model="inside")  # a run holds no other
    (root / "log.jsonl").write_text('{"loss": 1}\n')
    (root / "foreign").mkdir()
    (root / "foreign" / "spec.json").write_text('{"openapi": "3.1"}')
    (root / "foreign" / "run.jsonl").write_text("not even JSON")
    (root / "looped").symlink_to(root)
    return root


def names(paths: list[Path], root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in paths]


def test_every_run_below_a_folder_is_found_once(tree: Path) -> None:
    expected = ["packed.jsonl", "steps/mlp/quick", "steps/vit/quick-1", "steps/vit/quick-2"]
    assert names(find_runs([tree]), tree) == expected
    again = find_runs([tree / "steps" / "vit" / "quick-2", tree, tree / "steps" / ".." / "packed.jsonl"])
    assert names(again, tree) == ["steps/vit/quick-2", *expected[:-1]]


def test_a_named_path_is_kept_and_said_to_be_wrong_when_it_is_read(tree: Path) -> None:
    assert find_runs([tree / "foreign"]) == [tree / "foreign"]
    with pytest.raises(RunError, match=r"spec\.json"):
        mb.load_run(tree / "foreign")
    assert find_runs([tree / "log.jsonl"]) == [tree / "log.jsonl"]
    assert find_runs([tree / ".hidden"]) == [tree / ".hidden"]


def test_where_there_is_no_run_the_place_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"nothing does not exist; give run folders"):
        find_runs([tmp_path / "nothing"])
    with pytest.raises(RunError, match=rf"{tmp_path} holds no run, nor does a folder below it"):
        find_runs([tmp_path])


def test_runs_are_listed_and_loaded_from_python(tree: Path) -> None:
    runs = mb.list_runs(tree)
    assert [run.spec.model.name for run in runs] == ["packed", "mlp", "vit", "vit"]
    assert mb.load_run(tree / "packed.jsonl").spec == runs[0].spec
    (tree / "cut.jsonl").write_text('{"schema":"msb.run/2","identity"')
    with pytest.raises(RunError, match=r"cut\.jsonl line 1"):
        mb.list_runs(tree)


def test_the_command_lists_runs_and_says_which_cannot_be_read(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    failed = Ended("failed", reason="out of luck")
    diverged = Ended("diverged", reason="nan")
    make_run(tree / "odd", {(0, 0): failed, (0, 1): diverged, (0, 2): jump(0.5)}, seeds=4, model="odd")
    (tree / "cut.jsonl").write_text('{"schema":"msb.run/2","identity"')
    code, out, _ = in_process(capsys, "runs", str(tree), "--json")
    entries = {Path(entry["path"]).name: entry for entry in json.loads(out)}
    assert code == 0
    assert set(entries) == {"packed.jsonl", "quick", "quick-1", "quick-2", "odd", "cut.jsonl"}
    assert (entries["odd"]["cells"], entries["odd"]["done"], entries["odd"]["failed"]) == (4, 2, 1)
    assert entries["odd"]["p"] == 0.25  # of four cells, the missing one too
    assert (entries["quick"]["done"], entries["quick"]["p"]) == (0, 0.0)
    assert entries["quick-2"]["changes"] == "model.depth=4"
    assert "cut.jsonl line 1" in entries["cut.jsonl"]["problem"]
    code, out, _ = in_process(capsys, "runs", str(tree))
    row = next(line for line in out.splitlines() if "quick-2" in line)
    assert row.split()[:-2] == [
        str(tree / "steps/vit/quick-2"),
        "steps-v1",
        "quick",
        "vit",
        "(model.depth=4)",
        "1/1",
        "0.000",
    ]
    assert "2/4, 1 failed" in out


def test_the_run_written_last_stands_last(tree: Path) -> None:
    os.utime(tree / "packed.jsonl", (10**9, 10**9))
    os.utime(tree / "steps/vit/quick-1/run.jsonl", (2 * 10**9, 2 * 10**9))
    entries = list_folder(tree)
    assert [Path(entries[index]["path"]).name for index in (0, -1)] == ["packed.jsonl", "quick-1"]
    assert entries[0]["changed"].startswith("2001-09-0")
