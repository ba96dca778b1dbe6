"""No entry breaks the board for the others: what cannot be read or shown is left out by name."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import entries
import numpy as np
import pytest
from entries import TASK
from typer.testing import CliRunner

from multistep_bench.cli import app
from multistep_bench.errors import BenchError
from multistep_bench.leaderboard import reading
from multistep_bench.leaderboard.site import build as site
from multistep_bench.leaderboard.site import drawing
from multistep_bench.leaderboard.site.build import Built, build
from multistep_bench.leaderboard.verify import verify
from multistep_bench.runs.record import Record
from multistep_bench.runs.store import read_run
from multistep_bench.scoring.run import score_run

SUITES = f"""
[[suite]]
name = "digits"
title = "Digits"
summary = "In seconds."
protocol = "smoke"
tasks = ["{TASK}"]
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    board = entries.make_board(tmp_path_factory.mktemp("made") / "board")
    (board / "suites.toml").write_text(SUITES)
    entries.make_entry(board, "honest", noise=1, jump=0.3)
    entries.make_entry(board, "other", noise=2, jump=0.1)
    return board


@pytest.fixture
def board(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "board"))


def shown(built: Built) -> list[str]:
    names = [row.entry.name for row in built.tables[0].rows]
    assert sorted(path.stem for path in (built.index.parent / "entries").iterdir()) == sorted(names)
    return names


def test_a_cell_that_failed_before_its_first_evaluation_is_shown(board: Path) -> None:
    def fail(record: Record) -> Record:
        empty = {name: np.empty(0) for name in ("loss", "train_loss", "seconds")}
        emptied = entries.with_arrays(record, correct=np.empty(0, np.int64), **empty)
        return replace(emptied, status="failed", reason="out of memory")

    entries.change_record(board / "entries" / "honest", "rate0-seed0", fail)
    built = build(board)
    assert built.refused == {}
    assert shown(built) == ["other", "honest"]
    assert "out of memory" in (built.index.parent / "entries" / "honest.html").read_text()


def test_a_folder_named_in_bytes_that_are_no_text_is_named(board: Path) -> None:
    os.mkdir(os.fsencode(board / "entries") + b"/\xff\xfe")
    built = build(board)
    assert list(built.refused) == ["\\udcff\\udcfe"]
    assert shown(built) == ["other", "honest"]
    assert "\\udcff\\udcfe" in built.index.read_text()


def test_a_site_that_is_a_link_is_not_followed(board: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "entries").mkdir(parents=True)
    (outside / "entries" / "mine.html").write_text("mine")
    (board / "site").symlink_to(outside)
    built = build(board)
    assert shown(built) == ["other", "honest"]
    assert [path.name for path in outside.rglob("*.html")] == ["mine.html"]
    shutil.rmtree(board / "site" / "entries")
    (board / "site" / "entries").symlink_to(outside / "entries")
    build(board)
    assert (outside / "entries" / "mine.html").read_text() == "mine"


def test_a_file_in_the_place_of_pages_is_named(board: Path) -> None:
    (board / "site").touch()
    with pytest.raises(BenchError, match=r"site cannot be written \(File exists\); move away"):
        build(board)


def test_an_entry_of_120_mib_is_named_and_not_read(board: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (board / "entries" / "honest" / "runs" / f"{TASK}.jsonl").open("ab") as file:
        file.truncate(120 << 20)
    read, opened = reading._bytes, []
    monkeypatch.setattr(reading, "_bytes", lambda path: opened.append(str(path)) or read(path))
    built = build(board)
    assert built.refused["honest"][0] == f"more than {reading.ENTRY_FILES} files or {reading.ENTRY_BYTES} bytes"
    assert opened
    assert not [path for path in opened if "honest" in path]
    assert shown(built) == ["other"]


def test_an_entry_whose_page_would_be_too_large_is_named_and_ranks_close_up(
    board: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = len((build(board).index.parent / "entries" / "other.html").read_bytes())
    entries.make_entry(board, "heavy", noise=3, jump=0.05, changes={"protocol.seeds": 40})
    monkeypatch.setattr(site, "PAGE_BYTES", size + 1000)
    built = build(board)
    assert re.fullmatch(r"its page would have \d+ bytes, more than \d+", built.refused["heavy"][0])
    assert shown(built) == ["other", "honest"]
    assert [row.rank for row in built.tables[0].rows] == [1, 2]


def test_what_breaks_the_verifier_is_named(board: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(folder: Path, **keys: Any) -> Any:
        return verify(folder, **keys) if folder.name != "honest" else [][0]

    monkeypatch.setattr(site, "verify", broken)
    built = build(board)
    assert built.refused["honest"][0].startswith("it breaks the verifier; report that (IndexError")
    assert shown(built) == ["other"]


def test_charts_have_no_more_points_than_pixels(board: Path) -> None:
    run = read_run(board / "entries" / "honest" / "runs" / f"{TASK}.jsonl")
    record = run.records[0]
    long = entries.with_arrays(
        record, **{name: np.resize(record.train_loss, 5000) for name in ("correct", "loss", "train_loss", "seconds")}
    )
    cells = score_run(run).cells
    drawn = drawing.chart(replace(run, records=[long]), cells[:1], "Curves")
    (points,) = re.findall(r'points="([^"]*)"', drawn)
    assert len(points.split()) <= 400


@pytest.fixture
def no_references(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("multistep_bench.leaderboard.references.reference_runs", list)
    entries.forget_references()
    yield
    entries.forget_references()


@pytest.mark.usefixtures("no_references")
def test_without_a_checkout_the_board_says_that_references_are_missing(board: Path) -> None:
    output = CliRunner().invoke(app, ["leaderboard", "build", "--board", str(board)]).output
    sentence = "The reference baselines are not shown, for their runs lie in a checkout"
    assert sentence in output
    assert sentence in (board / "README.md").read_text()
    assert sentence in (board / "site" / "index.html").read_text()
    (note,) = verify(board / "entries" / "honest", among=board, draw_items=False).notes
    assert note.startswith("copies of reference curves, for their runs lie in a checkout")


def test_verifying_and_building_load_torch_only_where_items_are_drawn(board: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from multistep_bench.leaderboard.site.build import build
from multistep_bench.leaderboard.verify import verify
board = Path({str(board)!r})
assert verify(board / "entries" / "honest", among=board, draw_items=False).sound
assert build(board).refused == {{}}
assert "torch" not in sys.modules
assert verify(board / "entries" / "honest").sound
assert "torch" in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


def test_the_readme_states_the_bounds_that_are_checked() -> None:
    readme = (entries.ROOT / "leaderboard" / "README.md").read_text()
    for stated in (
        f"{reading.ENTRY_BYTES >> 20} MiB and {reading.ENTRY_FILES} files in all",
        f"a page of {site.PAGE_BYTES >> 20} MiB",
        f"{reading.CELLS:,} cells, {reading.EVALUATIONS:,} evaluations each",
        f"{reading.FIRST_LINE_BYTES >> 10} KiB for the first line",
        f"{reading.ENVIRONMENT_BYTES >> 10} KiB for each environment",
        f"the hash of all that | {reading.FILE_BYTES >> 20} MiB |",
    ):
        assert stated in readme
