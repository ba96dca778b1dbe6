"""Many runs against a reference: who is compared with whom, corrected p-values, and how it is shown."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from records import flat, jump, make_run
from rich.console import Console

import multistep_bench as mb
from multistep_bench.desk.comparisons import comparisons_rows, readable_comparisons
from multistep_bench.errors import NotFound, RunError
from multistep_bench.reporting.comparison_tables import print_comparisons
from multistep_bench.scoring.against import Comparisons
from multistep_bench.scoring.compare import compare

SEEDS = 10


def run(folder: Path, jumps: int, model: str, **spec: Any) -> Path:
    """A run at two learning rates: at the first some seeds jump, at the second none."""
    curves = {(0, seed): jump(0.2) if seed < jumps else flat() for seed in range(SEEDS)}
    curves |= {(1, seed): flat() for seed in range(SEEDS)}
    return make_run(folder / f"{len(list(folder.iterdir()))}", curves, model=model, **spec)


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    return [run(tmp_path, jumps, model) for jumps, model in ((2, "vit"), (9, "fast"), (6, "middling"), (2, "same"))]


@pytest.fixture
def comparisons(runs: list[Path]) -> Comparisons:
    return mb.compare(runs)


def test_each_run_is_compared_with_the_first(comparisons: Comparisons, runs: list[Path]) -> None:
    (task,) = comparisons.tasks
    assert (task.task, task.reference) == ("steps-v1 quick", "vit")
    assert [each.label for each in task.against] == ["fast", "middling", "same"]
    for each, path in zip(task.against, runs[1:], strict=True):
        pair = compare(path, runs[0])
        assert (each.comparison.grid, each.comparison.tuned) == (pair.grid, pair.tuned)


def test_p_values_are_corrected_over_the_runs_for_each_measure_apart(
    comparisons: Comparisons, runs: list[Path]
) -> None:
    (task,) = comparisons.tasks
    tests = {"p": "boschloo", "S": "permutation", "A": "final_permutation"}
    for cells in ("tuned", "grid"):
        for name, test in tests.items():
            raw = [getattr(getattr(compare(path, runs[0]), cells), test) for path in runs[1:]]
            assert raw[0] < raw[1] < raw[2]
            by_hand = [3 * raw[0], max(3 * raw[0], 2 * raw[1]), max(3 * raw[0], 2 * raw[1], raw[2])]
            effects = [each.effects[cells][name] for each in task.against]
            assert [effect.p for effect in effects] == raw
            assert [effect.corrected_p for effect in effects] == pytest.approx([min(1, p) for p in by_hand])


def test_the_reference_is_named_by_model_label_or_run(runs: list[Path], tmp_path: Path) -> None:
    deep = run(tmp_path, 5, "vit", changes={"model.depth": 9})
    assert mb.compare([*runs, deep], reference="middling").tasks[0].reference == "middling"
    assert mb.compare([deep, *runs], reference="vit").tasks[0].reference == "vit"  # and not the changed one
    assert mb.compare([*runs, deep], reference="vit · depth=9").tasks[0].reference == "vit · depth=9"
    among = mb.compare(runs, reference=runs[2]).tasks[0]
    assert (among.reference, len(among.against)) == ("middling", 3)
    assert mb.compare(runs[1], runs[0]).labels == ("fast", "vit")
    loaded = [mb.load_run(path) for path in runs]
    assert mb.compare(loaded, reference=loaded[2]).to_dict() == mb.compare(runs, reference=runs[2]).to_dict()
    beside = mb.compare(runs[:2], reference=deep).tasks[0]  # a run that was not among them
    assert (beside.reference, len(beside.against)) == ("vit · depth=9", 2)
    with pytest.raises(NotFound, match=r"no run to compare with 'fats'. Did you mean 'fast'\?"):
        mb.compare(runs, reference="fats")


def test_a_folder_is_searched_and_each_task_has_its_reference(tmp_path: Path) -> None:
    for task in ("a-v1", "b-v1"):
        for jumps, model in ((2, "vit"), (9, "fast")):
            run(tmp_path, jumps, model, task={"id": task})
    run(tmp_path, 3, "fast", task={"id": "c-v1"})
    run(tmp_path, 4, "slow", task={"id": "c-v1"})
    found = mb.compare(tmp_path)
    assert [(task.task, task.reference, len(task.against)) for task in found.tasks] == [
        ("a-v1 quick", "vit", 1),
        ("b-v1 quick", "vit", 1),
        ("c-v1 quick", "fast", 1),  # no vit there
    ]
    asked = mb.compare(tmp_path, reference="vit")
    assert [task.task for task in asked.tasks] == ["a-v1 quick", "b-v1 quick"]
    assert asked.left_out[0].startswith("no run of 'vit' on c-v1 quick (card ")


def test_what_cannot_be_compared_is_left_out_with_a_reason(runs: list[Path], tmp_path: Path) -> None:
    longer = run(tmp_path, 5, "longer", protocol={"budget": 200_000})
    found = mb.compare([*runs, longer])
    assert len(found.tasks[0].against) == 3
    (reason,) = found.left_out
    assert reason.startswith("longer is the only run on steps-v1 quick (card ")
    assert reason.endswith(", budget 200,000)")
    with pytest.raises(RunError, match="cannot be compared: budget 100000 against 200000"):
        mb.compare([runs[0], longer])
    with pytest.raises(RunError, match=r"A is a list; write compare\(runs, reference='vit'\)"):
        mb.compare(["a", "b"], "vit")  # type: ignore[call-overload]
    with pytest.raises(RunError, match="one run cannot be compared with itself"):
        mb.compare([longer])


def test_another_recipe_is_compared_and_its_keys_are_listed(runs: list[Path], tmp_path: Path) -> None:
    other = run(tmp_path, 5, "vit", protocol={"weight_decay": 0.2}, changes={"protocol.weight_decay": 0.2})
    again = run(tmp_path, 5, "vit", protocol={"weight_decay": 0.3}, protocol_name="mine")
    rows = comparisons_rows(mb.compare([*runs, other, again]))
    recipes = {row["model"]: row["recipe"] for row in rows}
    assert recipes == {
        "fast": "",
        "middling": "",
        "same": "",
        "vit · weight_decay=0.2": "weight_decay",
        "vit (mine)": "protocol, weight_decay",
    }


def test_a_control_task_has_no_p(tmp_path: Path) -> None:
    control = {"levels": {"chance": 0.1, "ceiling": 0.9}}
    made = mb.compare([run(tmp_path, 2, "vit", task=control), run(tmp_path, 9, "fast", task=control)])
    (each,) = made.tasks[0].against
    assert list(each.effects["tuned"]) == ["S", "A"]
    assert readable_comparisons(made)[1][3:6] == ["–", "–", "–"]
    assert comparisons_rows(made)[0]["p_holm"] is None


def test_rows_frames_and_files_hold_the_same_numbers(comparisons: Comparisons) -> None:
    rows = comparisons_rows(comparisons)
    assert [(row["model"], row["cells"]) for row in rows[:3]] == [
        ("fast", "tuned"),
        ("fast", "grid"),
        ("middling", "tuned"),
    ]
    first = comparisons.tasks[0].against[0].effects["tuned"]["S"]
    assert (rows[0]["S_difference"], rows[0]["S_test"], rows[0]["S_holm"]) == (
        first.difference.estimate,
        first.p,
        first.corrected_p,
    )
    assert (rows[0]["events"], rows[0]["n"], rows[0]["events_reference"], rows[0]["n_reference"]) == (9, 10, 2, 10)
    read = list(csv.DictReader(io.StringIO(comparisons.to_csv())))
    assert [float(row["A_holm"]) for row in read] == [row["A_holm"] for row in rows]
    assert comparisons.to_frame()["p_holm"].tolist() == [row["p_holm"] for row in rows]
    assert json.loads(json.dumps(comparisons.to_dict(), allow_nan=False))["tasks"][0]["runs"][0]["corrected"]["tuned"][
        "S"
    ] == pytest.approx(first.corrected_p)


def test_markdown_and_latex_have_a_column_for_every_heading(comparisons: Comparisons) -> None:
    lines = comparisons.to_markdown().splitlines()
    assert lines[0].startswith("| model | reference | cells | Δp | p of Δp | Holm | ΔS | p of ΔS | Holm | ΔA |")
    assert {line.count("|") for line in lines} == {13}
    latex = comparisons.to_latex().splitlines()
    assert latex[0] == r"\begin{tabular}{lllrrrrrrrrr}"
    rows = [line for line in latex if line.endswith(r"\\")]
    assert {row.count("&") for row in rows} == {11}
    assert rows[0].startswith(r"model & reference & cells & $\Delta$p & p of $\Delta$p & Holm")
    assert all(ord(letter) < 128 for letter in comparisons.to_latex())
    assert "+0.00 [$-$0.24, +0.32]" in comparisons.to_latex()  # LaTeX sets a bare - as a hyphen


def printed(comparisons: Comparisons, **console: Any) -> str:
    out = io.StringIO()
    print_comparisons(Console(file=out, **console), comparisons)
    return out.getvalue()


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_number_is_cut_in_a_terminal(comparisons: Comparisons, width: int) -> None:
    text = printed(comparisons, width=width, force_terminal=True, color_system=None)
    assert max(map(len, text.splitlines())) <= width
    effect = comparisons.tasks[0].against[0].effects["tuned"]["S"]
    assert f"{effect.difference.estimate:+.3f}" in text
    assert f"[{effect.difference.low:+.2f}, {effect.difference.high:+.2f}]" in text
    flat_text = " ".join(text.split())
    assert "against vit on steps-v1 quick, at tuned learning rates" in flat_text
    assert "against vit on steps-v1 quick, over the whole grid" in flat_text
    assert "Holm's correction over the 3 comparisons of a task, for p, S and A apart." in flat_text


def test_a_file_gets_a_line_a_run(comparisons: Comparisons) -> None:
    lines = [line for line in printed(comparisons, width=40).splitlines() if line.strip().startswith("middling")]
    assert len(lines) == 2  # tuned, and the grid
    assert lines[0].count("Holm") == 3


def test_a_prompt_and_a_notebook_show_the_correction(comparisons: Comparisons) -> None:
    head, first, *_ = repr(comparisons).splitlines()
    assert head == "3 comparisons on 1 task; Holm's correction over the 3 comparisons of a task, for p, S and A apart"
    assert first.startswith("fast − vit on steps-v1 quick, at tuned learning rates: Δp +0.70 [")
    assert "<th>Holm</th>" in comparisons._repr_html_()


def test_the_model_as_its_card_says_is_the_reference_before_a_changed_one(tmp_path: Path) -> None:
    deep = run(tmp_path, 5, "vit", changes={"model.depth": 9})
    decayed = run(tmp_path, 5, "vit", protocol={"weight_decay": 0.2}, changes={"protocol.weight_decay": 0.2})
    other = run(tmp_path, 5, "fast")
    found = mb.compare([deep, decayed, other], reference="vit")
    assert found.tasks[0].reference == "vit · weight_decay=0.2"


def test_the_measures_have_each_their_own_test(tmp_path: Path) -> None:
    curves = {(0, seed): [*jump(0.2)[:90], *[300] * 11] for seed in range(SEEDS)}  # as fast, and worse at the end
    collapsed = make_run(tmp_path / "collapsed", curves, model="collapsed")
    steady = make_run(tmp_path / "steady", {(0, seed): jump(0.2) for seed in range(SEEDS)})
    effects = mb.compare([steady, collapsed]).tasks[0].against[0].effects["grid"]
    assert (effects["p"].p, effects["S"].p) == (1, 1)
    assert effects["A"].p < 0.001
    assert effects["A"].difference.estimate == pytest.approx(-0.65)
