"""A run folder holds one run, is used by one process at a time, and never shows a half-written record."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from multistep_bench.atomic import write_atomically
from multistep_bench.errors import RunError
from multistep_bench.runs.events import Outcome
from multistep_bench.runs.folder import RunFolder
from multistep_bench.runs.spec import Cell, RunSpec
from multistep_bench.runs.store import RUN_FILE, SPEC_FILE, partial_path, read_run, record_path
from multistep_bench.training.launch import launch
from multistep_bench.training.plan import plan
from multistep_bench.training.relay import NullObserver

SMALL = {"protocol.budget": 1600, "protocol.batch_size": 16}


@pytest.fixture(scope="module")
def spec() -> RunSpec:
    return plan("two_step_digits-v1", "user_models:linear", "smoke", SMALL)


def test_a_failed_write_leaves_the_old_content_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "new \ud800")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_another_run_in_the_folder_is_refused_naming_the_difference(spec: RunSpec, tmp_path: Path) -> None:
    with RunFolder(tmp_path / "run", spec):
        pass
    other = plan("two_step_digits-v1", "user_models:linear", "smoke", {**SMALL, "protocol.seeds": 7})
    with pytest.raises(RunError, match=r"holds another run .*protocol.seeds: None there, 7 asked for"):
        RunFolder(tmp_path / "run", other).__enter__()


def test_a_folder_with_other_things_in_it_is_refused(spec: RunSpec, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(RunError, match=r"holds thesis\.tex and no run"):
        RunFolder(tmp_path, spec).__enter__()
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_place_that_cannot_be_written_is_one_sentence(spec: RunSpec, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"--out .*file/run cannot be written: Not a directory"):
        RunFolder(tmp_path / "file" / "run", spec).__enter__()


HOLD = """
import sys, time
from pathlib import Path
from multistep_bench.runs.folder import RunFolder
from multistep_bench.runs.store import read_spec
folder = Path(sys.argv[1])
with RunFolder(folder, read_spec(folder)):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_second_process_is_refused_until_the_first_is_dead(spec: RunSpec, tmp_path: Path) -> None:
    with RunFolder(tmp_path / "run", spec):
        pass
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "run")], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(RunError, match=f"is in use by process {holder.pid}"):
        RunFolder(tmp_path / "run", spec).__enter__()
    holder.kill()
    holder.wait()
    with RunFolder(tmp_path / "run", spec):
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="replaces the lock of Unix")
@pytest.mark.parametrize("code", ["ENOLCK", "EOPNOTSUPP", "ENOSYS", None])
def test_a_file_system_without_locks_is_found_out_and_a_file_stands_in(
    spec: RunSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str | None
) -> None:
    """Locks that fail, and locks that do nothing."""
    import fcntl

    def flock(*arguments: object) -> None:
        if code is not None:
            raise OSError(getattr(errno, code), "no locks here")

    monkeypatch.setattr(fcntl, "flock", flock)
    warned = pytest.warns(UserWarning, match=r"lock.soft marks the folder as in use|falling back to SoftFileLock")
    with warned, RunFolder(tmp_path / "run", spec), pytest.raises(RunError, match="is in use by"):
        RunFolder(tmp_path / "run", spec).__enter__()
    with warned, RunFolder(tmp_path / "run", spec):
        pass


def test_a_link_in_place_of_the_lock_is_not_followed(spec: RunSpec, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "precious").write_text("text")
    (tmp_path / "run" / "lock").symlink_to(tmp_path / "precious")
    with pytest.raises(RunError, match="lock is a link, not a lock; remove it"):
        RunFolder(tmp_path / "run", spec).__enter__()
    assert (tmp_path / "precious").read_text() == "text"


def test_a_partial_record_that_is_a_link_is_replaced_and_not_followed(spec: RunSpec, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    (folder / "cells").mkdir(parents=True)
    with RunFolder(folder, spec):
        pass
    (tmp_path / "precious").write_text("text")
    partial_path(folder, Cell(0, 0)).symlink_to(tmp_path / "precious")
    launch(spec, folder, workers=1)
    assert (tmp_path / "precious").read_text() == "text"


@pytest.mark.parametrize("leftover", ["lock", "cells/", ".writing-spec.json-123456", "checkpoints/"])
def test_what_a_run_killed_at_its_start_leaves_is_no_foreign_content(
    spec: RunSpec, tmp_path: Path, leftover: str
) -> None:
    (tmp_path / "run").mkdir()
    path = tmp_path / "run" / leftover
    path.mkdir() if leftover.endswith("/") else path.touch()
    assert len(launch(spec, tmp_path / "run", workers=1).records) == 2


def test_files_have_the_permissions_that_the_umask_gives(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "file", "text")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def test_what_is_read_is_what_was_written(spec: RunSpec, tmp_path: Path) -> None:
    run = launch(spec, tmp_path / "run", workers=1)
    assert read_run(tmp_path / "run") == run
    assert run.spec == spec
    assert [record.cell for record in run.records] == spec.cells() == [Cell(0, 0), Cell(0, 1)]
    record = run.records[0]
    assert record.curve.set.items == spec.protocol.evaluation_items
    assert record.environment.versions.keys() >= {"multistep_bench", "torch", "python"}
    assert record.environment.hardware["threads"] == 1


def test_a_finished_run_is_one_file_beside_its_weights(spec: RunSpec, tmp_path: Path) -> None:
    launch(spec, tmp_path / "run", workers=1)
    assert {entry.name for entry in (tmp_path / "run").iterdir()} == {RUN_FILE, "checkpoints", "lock"}


def test_an_interrupted_run_is_read_while_it_is_in_pieces(spec: RunSpec, tmp_path: Path) -> None:
    whole = launch(spec, tmp_path / "whole", workers=1)
    stop_after(spec, tmp_path / "cut", cells=1)
    assert (tmp_path / "cut" / SPEC_FILE).is_file()
    (record,) = read_run(tmp_path / "cut").records
    assert record.curve.correct.tolist() == whole.records[0].curve.correct.tolist()


def stop_after(spec: RunSpec, folder: Path, cells: int) -> None:
    """Trains until so many cells have ended, then presses Ctrl-C."""

    class Stops(NullObserver):
        ended_cells = 0

        def ended(self, cell: Cell, outcome: Outcome) -> None:
            self.ended_cells += 1
            if self.ended_cells == cells:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        launch(spec, folder, workers=1, observer=Stops())


def test_attempts_are_counted_over_interruptions(spec: RunSpec, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    stop_after(spec, folder, cells=1)
    finished = record_path(folder, Cell(0, 0))
    partial_path(folder, Cell(0, 0)).write_bytes(b"\n".join(finished.read_bytes().splitlines()[:30]))
    finished.unlink()
    run = launch(spec, folder, workers=1)
    assert [record.attempts for record in run.records] == [2, 1]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda lines: lines[:1], "holds 1 lines, not a whole record"),
        (lambda lines: lines[:-1], "line 102: status: Field required"),
        (
            lambda lines: [*lines[:5], lines[5].replace(b'"correct":', b'"corect":'), *lines[6:]],
            "line 6: correct: Field required",
        ),
        (lambda lines: [*lines[:5], lines[5].replace(b'"samples":64', b'"samples":"64"'), *lines[6:]], "valid integer"),
        (lambda lines: [*lines[:5], *lines[6:]], "off the protocol's schedule"),
        (lambda lines: [lines[0].replace(b"msb.cell/2", b"msb.cell/9"), *lines[1:]], "line 1: schema"),
    ],
)
def test_a_spoiled_cell_file_is_named(spec: RunSpec, tmp_path: Path, spoil, message: str) -> None:
    stop_after(spec, tmp_path / "run", cells=1)
    path = record_path(tmp_path / "run", Cell(0, 0))
    path.write_bytes(b"\n".join(spoil(path.read_bytes().splitlines())) + b"\n")
    with pytest.raises(RunError, match=message) as error:
        read_run(tmp_path / "run")
    assert str(path) in str(error.value)


def test_a_file_of_another_cell_or_run_is_refused(spec: RunSpec, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    stop_after(spec, folder, cells=1)
    content = record_path(folder, Cell(0, 0)).read_bytes()
    record_path(folder, Cell(0, 1)).write_bytes(content)
    with pytest.raises(RunError, match=r"rate0-seed1\.jsonl belongs to another run or cell"):
        read_run(folder)
    record_path(folder, Cell(0, 1)).unlink()
    record_path(folder, Cell(0, 0)).write_bytes(content.replace(spec.identity().encode(), b"0" * 64))
    with pytest.raises(RunError, match=r"rate0-seed0\.jsonl belongs to another run or cell"):
        read_run(folder)


def test_a_folder_without_a_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"is no run: it holds neither run.jsonl nor spec.json; .* each of mb.list_runs"):
        read_run(tmp_path)
