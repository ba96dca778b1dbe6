"""The forest plot: its rows, whom each is compared with, which are significant, and how its file is told stale."""

from pathlib import Path
from typing import Any

import pytest
import records
from matplotlib.colors import to_hex

from multistep_bench.errors import BenchError
from multistep_bench.reporting import figures
from multistep_bench.reporting.figures import PAPER, SERIES, source_of
from multistep_bench.reporting.forest_plots import (
    ForestRow,
    draw_forest,
    forest_rows,
    plot_forest,
    reference_rows,
    rows_sha256,
    write_forest,
)
from multistep_bench.reporting.paper import on_paper
from multistep_bench.reporting.plots import write_plot
from multistep_bench.reporting.references import read_references
from multistep_bench.runs.store import Run, read_run
from multistep_bench.scoring.compare import compare
from multistep_bench.scoring.score import score
from multistep_bench.scoring.statistics import Interval


def at(*times: float) -> dict[tuple[int, int], Any]:
    return {(0, seed): records.jump(time) for seed, time in enumerate(times)}


EARLY, LATE = at(0.2, 0.22, 0.24, 0.26, 0.28), at(0.7, 0.72, 0.74, 0.76, 0.78)


@pytest.fixture
def runs(tmp_path: Path) -> list[Run]:
    made = {"vit_tau": EARLY, "vit": LATE, "vit_heat": at(0.71, 0.73, 0.73, 0.77, 0.77)}
    return [read_run(records.make_run(tmp_path / name, curves, model=name)) for name, curves in made.items()]


def test_each_run_is_compared_with_the_plain_model_of_its_family(runs: list[Run]) -> None:
    rows = forest_rows(runs, score(runs))
    assert [(row.task, row.label, row.reference, row.n) for row in rows] == [
        ("steps-v1 quick", "vit_tau", "vit", 5),
        ("steps-v1 quick", "vit_heat", "vit", 5),
    ]
    assert rows[0].effect.estimate == pytest.approx(0.5)
    alone = compare(runs[0], runs[1]).grid
    assert rows[0].effect == alone.speed
    assert rows[0].p == pytest.approx(2 * alone.permutation)  # Holm over two comparisons
    assert rows[1].p == pytest.approx(1)


def test_a_chosen_reference_takes_the_place_of_the_plain_model(runs: list[Run]) -> None:
    rows = forest_rows(runs, score(runs), "vit_tau")
    assert [(row.label, row.reference, round(row.effect.estimate, 6)) for row in rows] == [
        ("vit", "vit_tau", -0.5),
        ("vit_heat", "vit_tau", -0.502),
    ]


def test_a_changed_model_is_compared_with_the_one_of_its_card(runs: list[Run], tmp_path: Path) -> None:
    folder = records.make_run(tmp_path / "deep", EARLY, model="vit", changes={"model.depth": 9})
    both = [read_run(folder), runs[1]]
    (row,) = forest_rows(both, score(both))
    assert (row.label, row.reference) == ("vit · depth=9", "vit")
    assert row.effect.estimate == pytest.approx(0.5)


def test_correction_is_within_a_task(runs: list[Run], tmp_path: Path) -> None:
    task = {"id": "other-v1"}
    other = [
        read_run(records.make_run(tmp_path / f"o{name}", curves, model=name, task=task))
        for name, curves in (("vit", LATE), ("vit_tau", EARLY))
    ]
    rows = forest_rows([*runs, *other], score([*runs, *other]))
    assert [row.task for row in rows] == ["steps-v1 quick", "steps-v1 quick", "other-v1 quick"]
    assert rows[2].p == pytest.approx(rows[0].p / 2)


def test_what_cannot_be_compared_is_an_error(runs: list[Run], tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"no run of 'vit' on steps-v1 quick stands beside .*vit_tau; give one"):
        forest_rows(runs[:1], score(runs[:1]))
    with pytest.raises(BenchError, match="only references were given; add other runs"):
        forest_rows(runs[1:2], score(runs[1:2]))
    short = read_run(records.make_run(tmp_path / "short", EARLY, model="vit_tau", protocol={"budget": 50_000}))
    sentence = "vit_tau cannot be compared with vit: budget 50000 against 100000"
    with pytest.raises(BenchError, match=f"^{sentence}$"):
        forest_rows([short, runs[1]], score([short, runs[1]]))
    with pytest.raises(BenchError, match=f"nothing to show: {sentence}"):
        plot_forest([short, runs[1]], score([short, runs[1]]), tmp_path / "forest.png")
    left_out: list[str] = []
    three = [short, runs[1], read_run(records.make_run(tmp_path / "late", EARLY, model="vit_heat"))]
    assert [row.label for row in forest_rows(three, score(three), left_out=left_out)] == ["vit_heat"]
    assert left_out == [sentence]
    svg = plot_forest(three, score(three), tmp_path / "forest.svg").read_text()
    assert all(word in svg for word in ("cannot be compared with vit", "50000 against 100000"))


def row(estimate: float, p: float, task: str = "a-v1 quick") -> ForestRow:
    return ForestRow(task, "vit_tau", "vit", Interval(estimate, estimate - 0.1, estimate + 0.2), p, 5, 5)


def test_rows_stand_below_their_task_and_filled_marks_are_significant() -> None:
    rows = [row(0.3, 0.049), row(-0.2, 0.05), row(0.1, 1, task="b-v1 quick")]
    with figures.style():
        axes = figures.new_figure(5, 3).subplots()
        draw_forest(axes, rows)
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "a-v1 quick",
        *["vit_tau − vit  (n 5, 5)"] * 2,
        "b-v1 quick",
        "vit_tau − vit  (n 5, 5)",
    ]
    points = [container.lines[0] for container in axes.containers]  # type: ignore[attr-defined]
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in points] == [(0.3, -1), (-0.2, -2), (0.1, -4)]
    assert [to_hex(line.get_markerfacecolor()) for line in points] == [SERIES[0], PAPER, PAPER]
    ends = [container.lines[2][0].get_segments()[0][:, 0] for container in axes.containers]  # type: ignore[attr-defined]
    assert ends[0] == pytest.approx([0.2, 0.5])


def test_many_rows_stand_in_two_columns_of_whole_tasks_on_one_scale(tmp_path: Path) -> None:
    rows = [row(0.01 * index, 1, task=f"{'abcdef'[index // 10]}-v1 quick") for index in range(56)]  # 62 lines
    svg = write_forest(rows, tmp_path / "forest.svg").read_text()
    first, second = svg.split('id="axes_2"')
    assert [name for name in "abcdef" if f"<!-- {name}-v1 quick -->" in first] == list("abc")
    assert [name for name in "abcdef" if f"<!-- {name}-v1 quick -->" in second] == list("def")
    assert svg.count("<!-- −0.5 -->") == svg.count("<!-- 1.0 -->") == 2
    few = write_forest(rows[:50], tmp_path / "few.svg").read_text()  # 55 lines
    assert 'id="axes_2"' not in few
    with on_paper("single"):
        assert 'id="axes_2"' not in write_forest(rows, tmp_path / "narrow.svg").read_text()
    one_task = write_forest([row(0.1, 1)] * 70, tmp_path / "one.svg").read_text()
    assert 'id="axes_2"' not in one_task


def test_a_picture_carries_the_hash_of_its_rows(tmp_path: Path) -> None:
    rows = [row(0.3, 0.04)]
    path = write_forest(rows, tmp_path / "forest.png")
    assert source_of(path) == rows_sha256(rows)
    assert rows_sha256(rows) != rows_sha256([row(0.3001, 0.04)]) != rows_sha256([row(0.3, 0.05)])
    assert rows_sha256(rows) == rows_sha256([row(0.3 + 1e-9, 0.04)])  # rounding of another machine
    assert source_of(tmp_path / "absent.png") is None
    (tmp_path / "broken.png").write_bytes(b"no picture")
    assert source_of(tmp_path / "broken.png") is None


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_the_same_runs_give_the_same_file(runs: list[Run], ending: str, tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.{ending}" for name in ("a", "b")]
    for path in paths:
        write_plot("forest", runs, score(runs), path, reference="vit")
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_committed_runs_are_the_rows_of_one_protocol(runs: list[Run], tmp_path: Path) -> None:
    paths = []
    for protocol in ("quick", "standard"):
        place = tmp_path / "results" / "steps-v1" / protocol
        place.mkdir(parents=True)
        for run in runs:
            (place / f"{run.spec.model.name}.jsonl").write_bytes(run.packed)
            paths.append(place / f"{run.spec.model.name}.jsonl")
    rows = reference_rows(read_references(paths), "quick")
    assert [(entry.task, entry.label, entry.n_reference) for entry in rows] == [
        ("steps-v1 quick", "vit_tau", 5),
        ("steps-v1 quick", "vit_heat", 5),
    ]
    assert rows[0].effect == forest_rows(runs, score(runs))[0].effect
