"""Tables of reference runs: what stands in them, which runs are compared, and that only tables are rewritten."""

import json
from pathlib import Path
from typing import Any

import pytest
import records

from multistep_bench import cli
from multistep_bench.errors import BenchError
from multistep_bench.reporting.reference_tables import details, overview, update_page
from multistep_bench.reporting.references import Results, read_references, reference_runs, split_name
from multistep_bench.runs.store import RUN_FILE
from multistep_bench.scoring.holm import holm

EARLY = {(rate, seed): records.jump(0.2) for rate in range(2) for seed in range(4)}
LATE = {(rate, seed): records.jump(0.8) for rate in range(2) for seed in range(4)}
NEVER = {(rate, seed): records.flat() for rate in range(2) for seed in range(4)}
TABLES = "<!-- results: all -->\nold\n<!-- end -->\nprose\n<!-- results: steps-v1 quick -->\n<!-- end -->\nend\n"


def stored(path: Path, curves: dict, **keys: Any) -> Path:
    """A packed run at a path."""
    folder = records.make_run(path.with_suffix(""), curves, **keys)
    (folder / RUN_FILE).rename(path)
    folder.rmdir()
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("baselines")
    place = folder / "results" / "steps-v1" / "quick"
    hops = {"hop 1": [500] * 101}
    stored(place / "vit_tau.jsonl", EARLY, model="vit_tau")
    stored(place / "vit.jsonl", LATE, model="vit", auxiliary=hops)
    stored(place / "vit_heat.jsonl", LATE, model="vit_heat")
    stored(place / "bert_tau.jsonl", NEVER, model="bert_tau")
    stored(place / "vit_sigmoid.jsonl", EARLY, model="vit_sigmoid", changes={"protocol.seeds": 4})
    return folder


@pytest.fixture(scope="module")
def results(folder: Path) -> Results:
    return read_references(reference_runs(folder))


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_holm_steps_down_and_never_falls() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1, 1]
    assert holm([]) == []


def test_runs_are_found_as_files(tmp_path: Path) -> None:
    place = tmp_path / "results" / "steps-v1" / "quick"
    run = stored(place / "vit.jsonl", {(0, 0): records.flat()})
    (place / "gpt.jsonl").touch()
    (place / "curves.png").touch()
    assert reference_runs(tmp_path) == [place / "gpt.jsonl", run]


def test_a_name_is_a_family_and_a_rule() -> None:
    assert split_name("vit") == ("vit", "")
    assert split_name("bert_normsoftmax_var") == ("bert", "normsoftmax_var")
    assert split_name("bert_small_init") == ("bert_small_init", "")
    assert split_name("bert_small_init_normsoftmax") == ("bert_small_init", "normsoftmax")


def test_a_rule_is_compared_with_the_plain_model_of_its_family(results: Results) -> None:
    entries = {entry.model: entry for entry in results["steps-v1", "quick"]}
    assert list(entries) == ["vit", "bert_tau", "vit_tau", "vit_heat", "vit_sigmoid"]
    assert {name for name, entry in entries.items() if entry.comparison} == {"vit_tau", "vit_heat"}
    comparison = entries["vit_tau"].comparison
    assert comparison is not None
    assert comparison.speed.estimate == pytest.approx(0.6)
    assert entries["vit_tau"].corrected_p == pytest.approx(2 * comparison.permutation)
    assert entries["vit_heat"].corrected_p == 1


def test_the_table_of_a_task_has_a_row_a_run(results: Results) -> None:
    lines = list(details(results["steps-v1", "quick"]))
    assert lines[0] == (
        "4 seeds × 2 learning rates, 100,000 samples a cell, 100 evaluations of 1000 items."
        " Levels: chance 0.1, shortcut 0.55, threshold 0.75, ceiling 0.95."
    )
    table = [cells(line) for line in lines if line.startswith("|")]
    assert table[0] == ["model", "1e-3", "2e-3", "p", "S", "final accuracy", "hop 1", "ΔS", "p of ΔS"]
    assert [row[0] for row in table[2:]] == ["`vit`", "`bert_tau`", "`vit_tau`", "`vit_heat`"]
    assert table[2][1:7] == ["4/4", "4/4", "8/8 = 1.00 [0.68, 1.00]", "0.20 [0.19, 0.21]", "0.95 [0.93, 0.96]", "0.500"]
    assert table[2][7:] == ["–", "–"]
    assert table[3][1:4] == ["0/4", "0/4", "0/8 = 0.00 [0.00, 0.32]"]
    assert table[4][7].startswith("+0.60 [")
    assert 0 < float(table[4][8]) < 0.05
    assert table[5][7:] == ["+0.00 [-0.02, +0.02]", "1"]
    assert lines[-1].startswith(
        "`vit_sigmoid` with protocol.seeds=4: 8/8 = 1.00, S 0.80 [0.79, 0.81], final accuracy 0.95"
    )


def test_the_first_table_has_a_column_a_rule_that_ran_more_than_once(results: Results) -> None:
    twice = {**results, ("steps-v1", "standard"): results["steps-v1", "quick"]}
    table = [cells(line) for line in overview(twice) if line.startswith("|")]
    assert table[0] == ["task", "protocol", "plain model", "its p", "its S", "ΔS temperature ⅓", "ΔS Heat Treatment"]
    assert table[2] == ["`steps-v1`", "quick", "`vit`", "8/8 = 1.00", "0.20", "**+0.60**", "+0.00"]
    assert table[3][1] == "standard"
    assert "temperature" not in next(overview(results))


def test_a_rule_of_another_family_whose_name_begins_alike_is_in_its_own_row(tmp_path: Path) -> None:
    for task in ("steps-v1", "other-v1"):
        place = tmp_path / "results" / task / "quick"
        for model, curves in (("bert", LATE), ("bert_heat", LATE), ("bert_small", LATE), ("bert_small_heat", EARLY)):
            stored(place / f"{model}.jsonl", curves, model=model)
    table = [cells(line) for line in overview(read_references(reference_runs(tmp_path))) if line.startswith("|")]
    assert [row[2:] for row in table[2:4]] == [
        ["`bert`", "8/8 = 1.00", "0.20", "+0.00"],
        ["`bert_small`", "8/8 = 1.00", "0.20", "**+0.60**"],
    ]


def test_only_tables_are_rewritten_and_a_current_page_is_left(folder: Path) -> None:
    page = folder / "README.md"
    page.write_text(f"before\n{TABLES}", encoding="utf-8")
    assert not update_page(folder, check=True)
    assert "old" in page.read_text(encoding="utf-8")
    assert not update_page(folder)
    text = page.read_text(encoding="utf-8")
    assert text.startswith("before\n<!-- results: all -->\n\n| task |")
    assert "\n\n<!-- end -->\nprose\n<!-- results: steps-v1 quick -->\n\n4 seeds" in text
    assert text.endswith("\n\n<!-- end -->\nend\n")
    assert "\nold\n" not in text
    assert update_page(folder, check=True)
    page.write_text(text.replace("0.60", "0.61"), encoding="utf-8")
    assert not update_page(folder, check=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<!-- results: all -->\n<!-- end -->\n", "has no table 'steps-v1 quick'; write the two lines"),
        (f"{TABLES}<!-- results: other-v1 quick -->\n<!-- end -->\n", "has a table 'other-v1 quick' without runs"),
        (TABLES + TABLES, "has a table 'all' without runs, or twice"),
        (TABLES.replace("<!-- end -->\nprose", "prose"), "has no table 'steps-v1 quick'"),
    ],
)
def test_tables_and_runs_of_other_tasks_are_an_error_and_nothing_is_written(
    folder: Path, text: str, message: str
) -> None:
    page = folder / "README.md"
    page.write_text(text, encoding="utf-8")
    with pytest.raises(BenchError, match=message):
        update_page(folder)
    assert page.read_text(encoding="utf-8") == text


def test_without_results_the_error_says_where_they_are(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(TABLES)
    with pytest.raises(BenchError, match=r"holds no README.md or no results; run `mstep-bench baselines build`"):
        update_page(tmp_path)


def test_the_command_checks_and_builds(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "README.md").write_text(TABLES, encoding="utf-8")
    stale = {"page": str(folder / "README.md"), "current": False}
    for arguments, code, current in ((["--check"], 1, False), ([], 0, False), (["--check"], 0, True)):
        with pytest.raises(SystemExit) as stop:
            cli.main(["baselines", "build", "--folder", str(folder), "--json", *arguments])
        assert stop.value.code == code
        assert json.loads(capsys.readouterr().out) == {**stale, "current": current}
