"""Dose tables of the baselines' page: their rows, what these are compared with, and when they are stale."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import records

from multistep_bench.errors import BenchError
from multistep_bench.reporting.dose_tables import dose_rows, dose_rows_sha256, dose_table, replace_doses
from multistep_bench.reporting.figures import source_of
from multistep_bench.reporting.forest_plots import reference_rows
from multistep_bench.reporting.rate_maps import rate_blocks
from multistep_bench.reporting.reference_tables import details, overview, update_page
from multistep_bench.reporting.references import Results, read_references, reference_name, reference_runs
from multistep_bench.runs.store import read_run
from multistep_bench.scoring.compare import compare
from multistep_bench.scoring.holm import holm

KEY = "attention_options.temperature"
NAME = f"steps-v1 quick vit {KEY}"
BLOCK = f"<!-- dose: {NAME} -->\nold\n<!-- end -->\n"
TABLES = "<!-- results: all -->\n<!-- end -->\n<!-- results: steps-v1 quick -->\n<!-- end -->\n"
FIGURE = "figures/dose-steps-v1-quick-vit-temperature.png"
EVENTS = {16.0: [None, None], 4.0: [0.6, 0.2], 0.25: [0.2, 0.1]}  # of a temperature: when the two rates jump


def curves(times: list[float | None]) -> dict[tuple[int, int], Any]:
    """Four seeds at each rate, that jump within a few evaluations of one another."""
    return {
        (rate, seed): records.flat() if at is None else records.jump(at + seed / 100)
        for rate, at in enumerate(times)
        for seed in range(4)
    }


def store(
    folder: Path,
    stem: str,
    times: list[float | None],
    config: dict[str, Any] | None = None,
    *,
    in_card: bool = False,
    **keys: Any,
) -> Path:
    """A run results/steps-v1/quick/STEM.jsonl; config: changes of the model, or in_card: what its card says."""
    made = records.make_run(folder / stem, curves(times), **{"model": stem, **keys})
    run = read_run(made)
    changed = {} if in_card else config or {}
    changes = {**run.spec.changes, **{f"model.{name}": value for name, value in changed.items()}}
    model = run.spec.model.model_copy(update={"config": config or {}})
    spec = run.spec.model_copy(update={"model": model, "changes": changes})
    place = folder / "results" / "steps-v1" / "quick" / f"{stem}.jsonl"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(read_run(records.write_run(made, spec, run.records)).packed)
    return place


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three temperatures of `vit`, `vit` as it is, another rule of its family, and a model of another family."""
    for temperature, times in EVENTS.items():
        config = {"attention_options": {"temperature": temperature}}
        store(tmp_path, f"vit-t{temperature:g}", times, config, model="vit")
    store(tmp_path, "vit", [0.8, None])
    store(tmp_path, "vit_heat", [0.5, 0.5])
    store(tmp_path, "bert", [0.3, 0.3])
    return tmp_path


def results(folder: Path) -> Results:
    return read_references(reference_runs(folder))


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_row_a_dose_by_rising_number_with_its_comparison_with_the_plain_model(folder: Path) -> None:
    _, (series,) = replace_doses(BLOCK, results(folder), "README.md")
    lines = list(dose_table(series))
    assert lines[0].endswith(f"({FIGURE})")
    table = [cells(line) for line in lines if line.startswith("|")]
    assert table[0] == ["temperature", "1e-3", "2e-3", "p", "S", "ΔS against `vit`", "p of ΔS"]
    assert [row[:3] for row in table[2:]] == [["0.25", "4/4", "4/4"], ["4", "4/4", "4/4"], ["16", "0/4", "0/4"]]
    assert [row[3] for row in table[2:]] == ["8/8 = 1.00 [0.68, 1.00]"] * 2 + ["0/8 = 0.00 [0.00, 0.32]"]
    assert [row[4][:4] for row in table[2:]] == ["0.83", "0.58", "0.00"]  # mean of 1 − time/budget over both rates
    assert [row[5][:5] for row in table[2:]] == ["+0.74", "+0.49", "-0.09"]  # vit has (0.185 + 0) / 2
    place = folder / "results" / "steps-v1" / "quick"
    stems = ("vit-t0.25", "vit-t4", "vit-t16", "vit_heat")  # all that is compared under this protocol
    tests = [compare(place / f"{stem}.jsonl", place / "vit.jsonl").grid for stem in stems]
    expected = holm([each.permutation for each in tests])
    assert [float(row[6]) for row in table[2:]] == pytest.approx(expected[:3], rel=0.06)


def test_level_lines_are_the_unchanged_runs_of_the_family_and_nothing_is_compared_without_the_plain_one(
    folder: Path,
) -> None:
    _, (series,) = replace_doses(BLOCK, results(folder), "README.md")
    assert [name for name, _ in series.others] == ["vit", "vit_heat"]
    store(folder, "vit_tau", [0.5, 0.5], changes={"protocol.seeds": 4})
    _, (series,) = replace_doses(BLOCK, results(folder), "README.md")
    assert [name for name, _ in series.others] == ["vit", "vit_heat"]
    (folder / "results" / "steps-v1" / "quick" / "vit.jsonl").unlink()
    _, (series,) = replace_doses(BLOCK, results(folder), "README.md")
    assert [cells(line)[5:] for line in dose_table(series) if line.startswith("| 4 ")] == [["–", "–"]]


def test_each_model_has_a_table_of_its_own(folder: Path) -> None:
    config = {"attention_options": {"temperature": 2.0}}
    store(folder, "bert-t2", [0.5, 0.5], config, model="bert")
    text, both = replace_doses(BLOCK + BLOCK.replace("vit", "bert"), results(folder), "README.md")
    assert [[dose for dose, _ in each.doses] for each in both] == [[0.25, 4, 16], [2]]
    assert text.count("| 2 | 4/4 | 4/4 |") == 1


def rows(lines: Iterable[str]) -> list[list[str]]:
    """The cells of the lines that begin with a model."""
    return [cells(line) for line in lines if line.startswith("| `")]


def test_a_dose_stands_in_its_dose_table_and_else_in_that_of_its_task(folder: Path) -> None:
    entries = results(folder)["steps-v1", "quick"]
    assert sum(entry.variant for entry in entries) == 3
    named = [row[0] for row in rows(details(entries))]
    doses = ["`vit`, temperature 16", "`vit`, temperature 4", "`vit`, temperature 0.25"]
    assert named == ["`bert`", "`vit`", *doses, "`vit_heat`"]
    text, _ = replace_doses(BLOCK, results(folder), "README.md")
    (folder / "README.md").write_text(text + TABLES, encoding="utf-8")
    update_page(folder)
    page = (folder / "README.md").read_text(encoding="utf-8")
    assert [row[0] for row in rows(page.splitlines()) if row[0] != "`steps-v1`"] == ["`bert`", "`vit`", "`vit_heat`"]
    store(folder, "vit", [0.8, None], {"attention_options": {"temperature": 1.0}}, model="vit", in_card=True)
    update_page(folder)
    page = (folder / "README.md").read_text(encoding="utf-8")
    assert page.count("\n| 1 | ") == 1  # a dose, and a model as its card says
    assert [row[0] for row in rows(page.splitlines()) if row[0] != "`steps-v1`"] == ["`bert`", "`vit`", "`vit_heat`"]
    store(folder, "vit_heat-t1", [None, None], {"attention_options": {"temperature": 1.0}}, model="vit_heat")
    other = {("other-v1", "quick"): entries}  # a rule has a column where it ran twice
    shown = [row for row in rows(overview({**results(folder), **other})) if row[0] == "`steps-v1`"]
    # without bert, which has no rules here
    assert [(row[2], row[5].strip("*")) for row in shown] == [("`vit`", "+0.39")]
    store(folder, "vit_tau", [0.5, 0.5], changes={"protocol.seeds": 4})  # a changed protocol has its sentence
    assert "`vit_tau` with protocol.seeds=4: 8/8" in "\n".join(details(results(folder)["steps-v1", "quick"]))


def test_a_variant_is_named_after_its_model_and_itself(folder: Path) -> None:
    names = [reference_name(path) for path in reference_runs(folder)]
    assert "steps-v1/quick/vit-t0.25" in names
    assert len(names) == 6


def test_the_page_is_stale_until_its_table_and_its_figure_are_of_the_present_runs(folder: Path) -> None:
    page = folder / "README.md"
    page.write_text(f"before\n{BLOCK}after\n{TABLES}", encoding="utf-8")
    assert not update_page(folder, check=True)
    assert not (folder / FIGURE).exists()
    assert not update_page(folder)
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"before\n<!-- dose: {NAME} -->\n\n![")
    assert "| 0.25 | 4/4 |" in text
    assert "\n\n<!-- end -->\nafter\n" in text
    assert update_page(folder, check=True)
    drawn = source_of(folder / FIGURE)
    (folder / FIGURE).unlink()
    assert not update_page(folder, check=True)
    assert not update_page(folder)
    assert source_of(folder / FIGURE) == drawn is not None
    store(folder, "vit_heat", [0.5, 0.4])  # a level line moves
    assert not update_page(folder)
    assert source_of(folder / FIGURE) != drawn
    drawn = source_of(folder / FIGURE)
    store(folder, "vit_heat", [0.4, 0.5])  # two rates change places
    assert not update_page(folder)
    assert source_of(folder / FIGURE) != drawn
    assert update_page(folder, check=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BLOCK + BLOCK, f"has the table '{NAME}' twice"),
        (BLOCK + BLOCK.replace("quick", "standard"), "without runs; remove `<!-- dose: steps-v1 standard vit"),
        (BLOCK.replace("temperature", "heads"), "heads' without runs"),
        (BLOCK.replace(f" {KEY}", ""), "write TASK PROTOCOL MODEL KEY after `dose:`"),
    ],
    ids=["twice", "no runs", "another option", "no option"],
)
def test_tables_and_runs_that_do_not_belong_together_are_refused(folder: Path, text: str, message: str) -> None:
    with pytest.raises(BenchError, match=message):
        replace_doses(text, results(folder), "README.md")


def test_a_dose_under_another_protocol_is_refused(folder: Path) -> None:
    config = {"attention_options": {"temperature": 2.0}}
    store(folder, "vit-t2", [0.5, 0.5], config, model="vit", protocol={"batch_size": 20})
    with pytest.raises(BenchError, match="cannot be compared: batch_size 20 against 10; train both models"):
        results(folder)


def test_each_setting_is_a_table_with_its_own_plain_model_and_its_own_correction(folder: Path) -> None:
    """A setting is what was changed beside the attention; a rule is compared with softmax in the same one."""
    small = {"init_std": 0.02}
    cold = {"attention_options": {"temperature": 0.25}}
    store(folder, "vit-small", [None, None], small, model="vit")
    store(folder, "vit-t0.25-small", [0.2, 0.2], small | cold, model="vit")
    store(folder, "vit_heat-small", [0.5, 0.5], small, model="vit_heat")
    entries = results(folder)["steps-v1", "quick"]
    lines = list(details(entries))
    assert lines.count("With `model.init_std=0.02`:") == 1
    assert sum("4 seeds × 2 learning rates" in line for line in lines) == 1  # the protocol is the same
    below = rows(lines[lines.index("With `model.init_std=0.02`:") :])
    assert [row[0] for row in below] == ["`vit`", "`vit`, temperature 0.25", "`vit_heat`"]
    assert [row[6][:5] for row in below] == ["–", "+0.78", "+0.48"]  # against 0 cells of 8, not vit's 4
    place = folder / "results" / "steps-v1" / "quick"
    tests = [
        compare(place / f"{stem}.jsonl", place / "vit-small.jsonl").grid
        for stem in ("vit-t0.25-small", "vit_heat-small")
    ]
    assert [entry.corrected_p for entry in entries if entry.setting and entry.comparison] == pytest.approx(
        holm([each.permutation for each in tests])
    )
    first, second = rate_blocks(results(folder), "quick")
    assert (first.title, second.title) == ("steps-v1, vit", "steps-v1, vit, model.init_std=0.02")
    assert list(second.shares) == ["plain softmax", "temperature 0.25", "Heat Treatment"]
    assert second.shares["temperature 0.25"] == ((4, 4), (4, 4))
    assert [row.label for row in reference_rows(results(folder), "quick")] == ["vit_heat"]  # in its card's setting


def test_the_plot_over_all_tasks_has_a_row_where_several_temperatures_ran(folder: Path) -> None:
    page, figure = folder / "README.md", folder / "figures" / "dose-quick.png"
    page.write_text(f"![](figures/dose-quick.png)\n{TABLES}", encoding="utf-8")
    rows = dose_rows(results(folder), "quick")
    assert list(rows) == ["steps-v1, vit"]  # bert has no other temperature
    doses, others = rows["steps-v1, vit"]
    assert [dose for dose, _ in doses] == [0.25, 4, 16]
    assert [name for name, _ in others] == ["plain softmax", "Heat Treatment"]
    store(folder, "vit-small", [0.5, None], {"width": 8}, model="vit")
    assert list(dose_rows(results(folder), "quick")) == ["steps-v1, vit"]  # the setting has no temperature
    for temperature in (1.0, 2.0):
        config = {"width": 8, "attention_options": {"temperature": temperature}}
        store(folder, f"vit-small-t{temperature:g}", [0.5, None], config, model="vit")
    rows = dose_rows(results(folder), "quick")
    assert list(rows) == ["steps-v1, vit", "steps-v1, vit, model.width=8"]
    assert [dose for dose, _ in rows["steps-v1, vit, model.width=8"][0]] == [1, 2]
    assert not update_page(folder)
    assert source_of(figure) == dose_rows_sha256(rows)
    assert update_page(folder, check=True)
    store(folder, "vit-small-t2", [0.4, None], {"width": 8, "attention_options": {"temperature": 2.0}}, model="vit")
    assert not update_page(folder, check=True)
    page.write_text(f"![](figures/dose-paper.png)\n{TABLES}", encoding="utf-8")
    with pytest.raises(BenchError, match=r"shows figures/dose-paper\.png, and no runs under paper belong in it"):
        update_page(folder)
