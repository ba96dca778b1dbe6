"""`mstep-bench score` of many runs: one table, nothing cut, nothing wrapped in a pipe, other formats."""

import csv
import io
import json
from pathlib import Path

import pytest
from commands import in_process
from records import Ended, flat, jump, make_run
from rich.console import Console

from multistep_bench.reporting.score_table import print_score_table
from multistep_bench.runs.search import find_runs
from multistep_bench.scoring.score import Score, score


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four runs in nested folders; one model twice with other changes, one on two tasks, one broken cell."""
    broken = Ended("failed", reason="out of luck")
    changes = {"protocol.seeds": 2}
    make_run(tmp_path / "a" / "one", {(0, 0): jump(0.2), (0, 1): flat()}, model="a", changes=changes)
    make_run(
        tmp_path / "a" / "deep", {(0, 0): flat(), (0, 1): flat()}, model="a", changes={**changes, "model.depth": 4}
    )
    make_run(tmp_path / "b" / "steps", {(0, 0): jump(0.5), (0, 1): broken}, model="b")
    make_run(tmp_path / "b" / "other", {(0, 0): jump(0.5), (0, 1): jump(0.5)}, model="b", task={"id": "other-v1"})
    return tmp_path


def printed(shown: Score, width: int, terminal: bool = True) -> list[str]:
    console = Console(file=io.StringIO(), width=width, force_terminal=terminal, color_system=None)
    print_score_table(console, shown)
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_a_wide_terminal_shows_a_row_a_run(folder: Path) -> None:
    lines = printed(score(find_runs([folder])), 160)
    assert lines[0] == "Score of 4 runs: 8 cells (1 failed)"
    row = next(line for line in lines if line.startswith(" a  "))
    assert row.split()[:6] == ["a", "steps-v1", "quick", "1/2", "0.500", "[0.09,"]
    assert any(line.startswith(" a · depth=4  ") for line in lines)  # not protocol.seeds, which both have
    assert "b on steps-v1 quick: 1 of 2 cells are missing or broken and count as having no Eureka-moment" in lines
    assert [line for line in lines if ": Q over" in line] == [
        line for line in lines if line.startswith("b quick: Q over 2")
    ]
    assert sum(": Q over" in line for line in lines) == 1


@pytest.mark.parametrize("width", [60, 80])
def test_a_narrow_terminal_shows_every_number_whole(folder: Path, width: int) -> None:
    lines = printed(score(find_runs([folder])), width)
    text = "\n".join(lines)
    assert "…" not in text
    assert "a · depth=4 · steps-v1 quick" in lines
    place = lines.index("a · steps-v1 quick")
    assert lines[place + 1].split()[:3] == ["1/2", "0.500", "0.400"]
    assert "[0.09, 0.91]" in lines[place + 2]


def test_nothing_is_wrapped_or_cut_in_a_pipe(folder: Path) -> None:
    lines = printed(score(find_runs([folder])), 40, terminal=False)
    row = next(line for line in lines if line.startswith(" b ") and "other-v1" in line)
    assert row.split()[:4] == ["b", "other-v1", "quick", "2/2"]
    assert "1.000 [0.34, 1.00]" in row
    assert row.endswith("0")  # the last column counts failed cells
    assert any("--verbose shows every learning rate and explains the columns" in line for line in lines)


def test_the_command_searches_folders_and_knows_formats(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = in_process(capsys, "score", str(folder))
    assert (code, out.splitlines()[0]) == (0, "Score of 4 runs: 8 cells (1 failed)")
    code, out, _ = in_process(capsys, "score", str(folder), "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["model"] for row in rows] == ["a · depth=4", "a", "b", "b"]
    code, out, _ = in_process(capsys, "score", str(folder), "--format", "csv", "--by", "cell")
    assert (code, len(out.splitlines())) == (0, 9)
    code, out, _ = in_process(capsys, "score", str(folder), "--format", "markdown")
    assert out.startswith("| model | task |")
    code, out, _ = in_process(capsys, "score", str(folder), "--format", "latex")
    assert out.startswith(r"\begin{tabular}")
    by_format = in_process(capsys, "score", str(folder), "--format", "json")[1]
    assert json.loads(by_format) == json.loads(in_process(capsys, "score", str(folder), "--json")[1])


def test_one_run_and_verbose_show_every_learning_rate(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = in_process(capsys, "score", str(folder / "a" / "one"))[1]
    assert "confirmed by the next evaluations" in out
    verbose = in_process(capsys, "score", str(folder), "--verbose")[1]
    assert verbose.count("2 seeds × 1 learning rate") == 4
    assert "a · depth=4 on steps-v1 quick" in verbose


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "cvs"], "no format 'cvs'. Did you mean 'csv'?"),
        (["--by", "cell"], "--by cell: only --format csv has other lines than runs"),
        (["--by", "rate", "--format", "latex"], "--by rate: only --format csv"),
    ],
)
def test_wrong_formats_are_refused(
    arguments: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, error = in_process(capsys, "score", str(folder), *arguments)
    assert (code, out) == (2, "")
    assert message in error


def test_reports_and_plots_search_folders_too(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page, picture = folder / "report.html", folder / "survival.svg"
    assert in_process(capsys, "report", str(folder), "-o", str(page))[0] == 0
    assert "4 runs scored by multistep-bench" in page.read_text()
    assert in_process(capsys, "plot", str(folder), "--kind", "survival", "-o", str(picture))[0] == 0
    assert "other-v1 quick" in picture.read_text()
