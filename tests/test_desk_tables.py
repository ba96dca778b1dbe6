"""Scores as rows, frames, CSV, Markdown and LaTeX, and what prompts and notebooks show of runs and scores."""

import base64
import csv
import io
import math
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from records import BUDGET, LOSS_TASK, Ended, fall, flat, jump, make_run

import multistep_bench as mb
from multistep_bench.desk.rows import comparison_rows, curve_rows, score_rows
from multistep_bench.errors import BenchError
from multistep_bench.scoring.score import Score
from multistep_bench.scoring.statistics import boschloo, newcombe, wilson

BROKEN = Ended("failed", reason="out of luck")
NAN = Ended("diverged", [100, 550, 550], "loss is nan")


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """Two rates of three seeds: two jumps, three broken cells in three ways, one that stays."""
    curves = {(0, 0): jump(0.2), (0, 1): flat(), (0, 2): BROKEN, (1, 0): jump(0.4), (1, 1): NAN}
    return make_run(tmp_path / "plain", curves)


@pytest.fixture
def scored(plain: Path, tmp_path: Path) -> Score:
    deeper = make_run(tmp_path / "deeper", {(0, 0): flat()}, changes={"model.depth": 4, "protocol.seeds": 1})
    return mb.score([plain, deeper])


def test_a_row_a_run_names_its_intervals_and_broken_cells(scored: Score) -> None:
    row, other = score_rows(scored)
    names = ("model", "task", "protocol", "seeds", "learning_rates", "cells", "missing", "failed", "events")
    assert [row[name] for name in names] == ["vit", "steps-v1", "quick", 3, 2, 6, 1, 2, 2]
    expected = wilson(2, 6)
    assert (row["p"], row["p_low"], row["p_high"]) == (expected.estimate, expected.low, expected.high)
    assert row["S"] == pytest.approx((0.8 + 0.6) / 6)
    assert row["S_low"] < row["S"] < row["S_high"]
    assert row["A"] == pytest.approx((2 * 0.95 + 0.55 + 3 * 0.1) / 6)
    assert row["A_given_eureka"] == pytest.approx(0.95)
    assert row["Q"] == pytest.approx((math.log(5) + math.log(2.5)) / math.log(64) / 6)
    assert row["best_rate"] == 1e-3
    assert (other["model"], other["changes"]) == (
        "vit (model.depth=4, protocol.seeds=1)",
        "model.depth=4, protocol.seeds=1",
    )
    assert row["S_tuned"] == scored.runs[0].tuned.speed.estimate != row["S"]  # type: ignore[union-attr]
    assert other["p_tuned"] is None  # one seed
    assert list(row) == list(other)


def test_rows_of_learning_rates_and_of_cells(scored: Score) -> None:
    rates = score_rows(scored, "rate")
    assert [(row["learning_rate"], row["events"], row["cells"]) for row in rates] == [
        (1e-3, 1, 3),
        (2e-3, 1, 3),
        (1e-3, 0, 1),
    ]
    assert rates[0]["S"] == pytest.approx(0.8 / 3)
    cells = score_rows(scored, "cell")
    assert [(row["learning_rate"], row["seed"], row["status"]) for row in cells[:6]] == [
        (1e-3, 0, "completed"),
        (1e-3, 1, "completed"),
        (1e-3, 2, "failed"),
        (2e-3, 0, "completed"),
        (2e-3, 1, "diverged"),
        (2e-3, 2, "missing"),
    ]
    assert [row["eureka"] for row in cells] == [0.2 * BUDGET, None, None, 0.4 * BUDGET, None, None, None]
    assert cells[2]["problem"] == "failed: out of luck"
    with pytest.raises(BenchError, match="by='seed' is none of run, rate, cell"):
        score_rows(scored, "seed")  # type: ignore[arg-type]


def test_csv_has_every_number_in_full_and_no_formula(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", {(0, 0): jump(0.3), (0, 1): flat(), (0, 2): flat()}, model="=cmd()")
    score = mb.score(run)
    (line,) = csv.DictReader(io.StringIO(score.to_csv()))
    assert line["model"] == "'=cmd()"
    assert float(line["p_low"]) == wilson(1, 3).low
    assert line["median"] == ""
    assert len(score.to_csv(by="cell").splitlines()) == 4


def test_markdown_and_latex_are_tables_to_read(scored: Score, tmp_path: Path) -> None:
    header, rule, first, second = scored.to_markdown().splitlines()
    assert header == "| model | Eureka | p | S | final accuracy | Q | median | missing | failed |"
    assert rule == "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    assert second.startswith("| vit (model.depth=4, protocol.seeds=1) | 0/1 |")
    assert first.startswith("| vit | 2/6 | 0.333 [0.10, 0.70] | 0.233 [")
    assert first.endswith(" | – | 1 | 2 |")
    odd = make_run(tmp_path / "odd", {(0, 0): fall(0.3)}, model="a_b|50%<b>", task=LOSS_TASK)
    score = mb.score(odd)
    assert r"a_b\|50%&lt;b>" in score.to_markdown()
    latex = score.to_latex()
    assert r"a\_b$|$50\%$<$b$>$ & 1/1 & 1.000 [0.21, 1.00] & 0.700" in latex
    assert r"model & Eureka & p & S & final loss & Q & median \\" in latex
    assert "–" not in scored.to_latex()  # not a character that every engine has
    assert " & -- & " in scored.to_latex()
    assert latex.startswith("\\begin{tabular}{lrrrrrr}\n\\toprule\n")
    assert latex.endswith("\\bottomrule\n\\end{tabular}\n")


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="LaTeX is not installed")
def test_latex_compiles_with_names_of_any_letters(scored: Score, tmp_path: Path) -> None:
    odd = make_run(tmp_path / "odd", {(0, 0): jump(0.3)}, model=r"a_b\c^~|50%<b>#$&{}")
    other = make_run(tmp_path / "other", {(0, 0): flat()}, model="vit", changes={"model.depth": 4})
    tables = [
        scored.to_latex(),
        mb.score([odd, other]).to_latex(),
        mb.compare([odd, other], reference="vit").to_latex(),
    ]
    text = (
        "\n\n".join(tables).replace("\\toprule", "\\hline").replace("\\midrule", "").replace("\\bottomrule", "\\hline")
    )
    document = tmp_path / "tables.tex"  # \hline: booktabs is not in every LaTeX
    document.write_text("\\documentclass{article}\n\\begin{document}\n" + text + "\\end{document}\n")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", document.name]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-1000:]
    assert "Missing character" not in (tmp_path / "tables.log").read_text(errors="replace")


def test_a_table_over_tasks_says_what_each_run_was_trained_on(tmp_path: Path) -> None:
    one = make_run(tmp_path / "one", {(0, 0): jump(0.5)})
    two = make_run(
        tmp_path / "two", {(0, 0): flat()}, task={"id": "other-v1", "levels": {"chance": 0.1, "ceiling": 1.0}}
    )
    lines = mb.score([one, two]).to_markdown().splitlines()
    assert lines[0].startswith("| model | task | Eureka |")
    assert lines[2].startswith("| vit | steps-v1 quick | 1/1 |")
    assert lines[3].startswith("| vit | other-v1 quick | ")
    assert "| – |" in lines[3]  # a control task has no p


def test_a_comparison_has_a_row_for_the_grid_and_one_for_tuned_rates(tmp_path: Path) -> None:
    a = make_run(tmp_path / "a", {(0, seed): jump(0.5) for seed in range(4)}, model="new")
    b = make_run(tmp_path / "b", {(0, seed): flat() for seed in range(3)}, seeds=4, model="old")
    comparison = mb.compare(a, b)
    grid, tuned = comparison_rows(comparison)
    assert [row["cells"] for row in (grid, tuned)] == ["grid", "tuned"]
    assert (grid["A"], grid["B"], grid["n_A"], grid["events_A"], grid["events_B"]) == ("new", "old", 4, 4, 0)
    expected = newcombe(4, 4, 0, 4)
    assert (grid["p_difference"], grid["p_difference_low"]) == (expected.estimate, expected.low)
    assert grid["p_boschloo"] == boschloo(4, 4, 0, 4) != grid["S_logrank"]
    assert (grid["S_A"], grid["S_B"], grid["S_difference"]) == (0.5, 0, 0.5)
    head, sentence = repr(comparison).splitlines()
    assert head == "Comparison of A, new, and B, old, on steps-v1 quick: A 4 cells; B 4 cells (1 missing)"
    assert sentence == comparison.sentence()
    page = Tables.read(comparison._repr_html_())
    assert page.rows[0] == ["", "grid", "tuned"]
    assert page.rows[1] == ["Eureka-moments of A", "4/4", "4/4"]


def test_curves_have_a_row_an_evaluation(tmp_path: Path) -> None:
    curves = {(0, 0): jump(0.5), (1, 0): [100, None, *flat()[2:]]}
    run = mb.load_run(make_run(tmp_path / "run", curves, auxiliary={"loss": [300] * 101}))
    rows = curve_rows(run)
    assert len(rows) == 202
    assert rows[0] == {
        "learning_rate": 1e-3,
        "seed": 0,
        "samples": 0,
        "accuracy": 0.1,
        "loss": 1.0,
        "train_loss": None,
        "seconds": 0.0,
        "auxiliary_loss": 0.3,
    }
    assert [rows[50][name] for name in ("samples", "accuracy", "train_loss", "seconds")] == [50_000, 0.75, 1.0, 50.0]
    assert (rows[102]["learning_rate"], rows[102]["accuracy"], rows[102]["loss"]) == (2e-3, None, None)


def test_frames_have_numbers_where_there_are_numbers(scored: Score, plain: Path) -> None:
    pytest.importorskip("pandas")
    frame = scored.to_frame()
    assert list(frame.columns) == list(score_rows(scored)[0])
    assert frame["p"].tolist() == [row["p"] for row in score_rows(scored)]
    assert str(frame["median"].dtype) == "float64"  # of nothing but None
    assert frame["p_tuned"].isna().tolist()[1]
    assert frame["model"].tolist() == [row["model"] for row in score_rows(scored)]
    assert len(scored.to_frame(by="cell")) == 7
    curves = mb.load_run(plain).curves()
    assert curves.groupby(["learning_rate", "seed"])["accuracy"].last().tolist()[0] == 0.95  # of 1e-3, seed 0
    assert mb.compare(plain, plain).to_frame()["S_difference"].tolist() == pytest.approx([0, 0])


def test_without_pandas_one_sentence_says_what_to_install(scored: Score, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(BenchError, match=r"a frame needs pandas, which is not installed: pip install"):
        scored.to_frame()


def test_a_prompt_says_first_what_it_is_and_what_is_missing(scored: Score, plain: Path, tmp_path: Path) -> None:
    head, *rest = repr(scored).splitlines()
    assert head == "Score of 2 runs: 7 cells (1 missing, 1 failed, 1 diverged)"
    assert rest[0].startswith("vit on steps-v1 quick: Eureka 2/6, p 0.333 [0.10, 0.70], S 0.233 [")
    assert rest[0].endswith("(1 missing, 1 failed, 1 diverged)")
    assert rest[1].startswith("vit (model.depth=4, protocol.seeds=1) on steps-v1 quick: Eureka 0/1, p 0.000")
    twice = [plain, make_run(tmp_path / "other", {(0, 0): flat()}, seeds=3, model="other")]
    assert repr(mb.score(twice)).splitlines()[0] == "Score of 2 runs: 9 cells (3 missing, 1 failed, 1 diverged)"
    run = repr(mb.load_run(plain)).splitlines()
    assert run == ["Run of vit on steps-v1 quick: 6 cells (1 missing, 1 failed, 1 diverged)", f"in {plain}"]


class Tables(HTMLParser):
    """The texts of table rows and the sources of pictures on a page, and every tag."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.pictures: list[str] = []
        self.tags: set[str] = set()

    @classmethod
    def read(cls, page: str) -> "Tables":
        made = cls()
        made.feed(page)
        return made

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag == "img":
            self.pictures.append(dict(attrs)["src"] or "")

    def handle_data(self, data: str) -> None:
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += data


def test_a_notebook_shows_tables_and_the_curves_of_a_run(scored: Score, tmp_path: Path) -> None:
    page = Tables.read(scored._repr_html_())
    assert page.rows[0][:3] == ["model", "Eureka", "p"]
    assert page.rows[1][:3] == ["vit", "2/6", "0.333 [0.10, 0.70]"]
    hostile = make_run(tmp_path / "hostile", {(0, 0): flat()}, model="<script>alert(1)</script>")
    shown = mb.load_run(hostile)._repr_html_()
    assert shown.count("&lt;script&gt;") == 3  # heading, table, and what stands for the picture
    assert "<script" not in shown
    run = Tables.read(shown)
    assert run.tags <= {"div", "strong", "table", "thead", "tbody", "tr", "th", "td", "img"}
    (picture,) = run.pictures
    data = re.fullmatch("data:image/png;base64,(.*)", picture)
    assert data is not None
    assert base64.b64decode(data[1]).startswith(b"\x89PNG")


def test_plot_returns_the_figure_and_writes_it_where_asked(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    from matplotlib.figure import Figure

    figure = mb.plot(tmp_path, out=tmp_path / "pictures" / "curves.svg")
    assert isinstance(figure, Figure)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["rate 1e-3   ★ 1/3", "rate 2e-3   ★ 1/2, 1 missing"]
    assert (tmp_path / "pictures" / "curves.svg").read_text().startswith("<?xml")
    survival = mb.plot([mb.load_run(plain)], kind="survival")
    assert survival._repr_png_().startswith(b"\x89PNG")  # type: ignore[attr-defined]
    assert mb.load_run(plain)._repr_html_()
    assert not list(tmp_path.glob("*.png"))  # nothing that was not asked for
    with pytest.raises(BenchError, match="Did you mean 'rates'"):
        mb.plot(plain, kind="rate")
    with pytest.raises(BenchError, match=r"end the name in \.png"):
        mb.plot(plain, out=tmp_path / "curves.gif")
    with pytest.raises(BenchError, match="takes no such option"):
        mb.plot(plain, by="depth")
