"""Golden scripts of the researcher's desk: what once was silent, wrong or unreadable, run as a user runs it.

Of its six items the first, scripts that trained nothing, stands in test_launch.py (a script without a main guard, a run
with failed cells). Pictures are measured in test_plots_of_many_runs.py, the board's columns in test_site.py.
"""

import csv
import io
import json
import re
from pathlib import Path

import pytest
from commands import in_process
from records import flat, jump, make_run

import multistep_bench as mb
from multistep_bench.scoring.holm import holm

SEEDS = 6


def train(folder: Path, name: str, jumps: int, **spec: object) -> Path:
    """A run at two learning rates, in a folder of that name."""
    curves = {(0, seed): jump(0.2 + 0.01 * seed) if seed < jumps else flat() for seed in range(SEEDS)}
    curves |= {(1, seed): jump(0.5) if seed < jumps // 2 else flat() for seed in range(SEEDS)}
    return make_run(folder / name, curves, **spec)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two variants of one model, another model, and another recipe of it, on one task."""
    folder = tmp_path_factory.mktemp("desk") / "runs"
    train(folder, "1-vit", 3)
    train(folder, "2-cosine", 6, changes={"model.attention": "cosine:Cosine"})
    train(folder, "3-heat", 0, model="vit_heat")
    recipe = {"protocol.weight_decay": 0.2}
    train(folder, "4-decay", 4, model="vit_heat", changes=recipe, protocol={"weight_decay": 0.2})
    return folder


NAMES = ["vit", "vit · attention=cosine:Cosine", "vit_heat", "vit_heat · weight_decay=0.2"]


def test_1_a_run_with_missing_cells_says_so_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    part = make_run(tmp_path / "part", {(0, 0): jump(0.2)}, seeds=4)
    assert repr(mb.score(part)).splitlines()[0] == "Score of 1 run: 4 cells (3 missing)"
    assert repr(mb.load_run(part)).splitlines()[0].endswith("4 cells (3 missing)")
    other = train(tmp_path, "other", 6, model="vit_heat")
    assert in_process(capsys, "score", str(part), str(other))[1].splitlines()[0].endswith("16 cells (3 missing)")


def test_2_every_place_names_runs_apart(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = in_process(capsys, "score", str(runs), "--format", "csv")
    assert [row["model"] for row in csv.DictReader(io.StringIO(out))] == NAMES
    _, out, _ = in_process(capsys, "compare", str(runs), "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert list(dict.fromkeys(row["model"] for row in rows)) == NAMES[1:]
    assert {row["reference"] for row in rows} == {"vit"}
    assert in_process(capsys, "report", str(runs), "-o", str(tmp_path / "r.html"))[0] == 0
    page = (tmp_path / "r.html").read_text(encoding="utf-8").replace("<wbr>", "")
    over_tasks = page[page.index("Score over tasks") :].partition("</table>")[0]
    assert re.findall(r'<th scope="row">([^<]*)', over_tasks) == NAMES
    picture = tmp_path / "survival.svg"
    assert in_process(capsys, "plot", str(runs), "--kind", "survival", "-o", str(picture))[0] == 0
    assert "cosine:Cosine" in picture.read_text()


def test_3_the_figure_for_a_paper_is_one_command(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "compare.pdf"
    arguments = ("--kind", "compare", "--width", "single", "--font-size", "7", "-o", str(picture))
    code, out, error = in_process(capsys, "plot", str(runs), *arguments)
    assert (code, out.strip(), error) == (0, str(picture), "")
    width = re.search(rb"/MediaBox \[ 0 0 ([\d.]+)", picture.read_bytes())
    assert width is not None
    assert float(width[1]) == 3.25 * 72
    code, _, error = in_process(capsys, "plot", str(runs), "--kind", "compare", "--width", "0", "-o", str(picture))
    assert (code, error.count("\n")) == (2, 1)
    assert "--width 0: give inches from 2 to 40, or single or double" in error


def test_4_another_recipe_is_compared_with_an_interval_and_a_test_for_each_measure(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pair = str(runs / "4-decay"), str(runs / "3-heat")
    code, out, _ = in_process(capsys, "compare", *pair)
    assert code == 0
    assert "recipe differs: weight_decay 0.2 against 0.05" in out
    content = json.loads(in_process(capsys, "compare", *pair, "--json")[1])
    assert content["recipe"] == {"weight_decay": [0.2, 0.05]}
    for measure, test in (("probability", "boschloo"), ("speed", "permutation"), ("final", "final_permutation")):
        estimate, low, high = content["tuned"][measure]
        assert low < estimate < high
        assert 0 < content["tuned"][test] <= 1
    longer = train(tmp_path, "longer", 4, protocol={"budget": 200_000})
    code, out, error = in_process(capsys, "compare", str(runs / "1-vit"), str(longer))
    assert (code, out) == (2, "")
    assert "the two runs cannot be compared: budget 100000 against 200000; train both" in error


def test_5_p_values_of_many_comparisons_stand_beside_their_corrections(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = in_process(capsys, "compare", str(runs), "--reference", "vit_heat", "--format", "csv")
    assert code == 0
    rows = [row for row in csv.DictReader(io.StringIO(out)) if row["cells"] == "tuned"]
    assert [row["model"] for row in rows] == [NAMES[0], NAMES[1], NAMES[3]]
    for measure in ("p", "S", "A"):
        raw = [float(row[f"{measure}_test"]) for row in rows]
        assert [float(row[f"{measure}_holm"]) for row in rows] == pytest.approx(holm(raw))
        assert holm(raw) != raw
    table = " ".join(in_process(capsys, "compare", str(runs), "--reference", "vit_heat")[1].split())
    assert "Holm's correction over the 3 comparisons of a task, for p, S and A apart." in table
    page = tmp_path / "r.html"
    assert in_process(capsys, "report", str(runs), "--reference", "vit_heat", "-o", str(page))[0] == 0
    assert "Convergence speed against vit_heat" in page.read_text(encoding="utf-8")
    assert page.read_text(encoding="utf-8").count("corrected by Holm for the 3 comparisons on the task") == 3
    code, _, error = in_process(capsys, "compare", str(runs), "--reference", "vit_heta")
    assert code == 2
    assert "no run to compare with 'vit_heta'. Did you mean 'vit_heat'?" in error


def test_6_the_board_says_samples_and_flops_and_not_how_busy_a_machine_was() -> None:
    page = (Path(mb.__file__).parent / "leaderboard" / "site" / "board.html.j2").read_text(encoding="utf-8")
    assert 'column("samples", "samples to Eureka"' in page
    assert 'column("flops", "FLOPs to Eureka"' in page
    assert "seconds" not in page


def test_a_report_is_overwritten_and_nothing_else(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "index.html"
    page.write_text("mine")
    code, out, error = in_process(capsys, "report", str(runs), "-o", str(page))
    assert (code, out, page.read_text()) == (2, "", "mine")
    assert "is no report of mstep-bench; choose another name, or overwrite it with --force" in error
    assert in_process(capsys, "report", str(runs), "-o", str(page), "--force")[0] == 0
    assert in_process(capsys, "report", str(runs), "-o", str(page))[0] == 0
