"""Figures: what they show of known curves, and that the files are fit for a paper and the same every time."""

import struct
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import records
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from multistep_bench.errors import BenchError
from multistep_bench.reporting import curve_plots, figures, task_plots
from multistep_bench.reporting.plots import PLOTS, write_plot
from multistep_bench.runs.store import Run, read_run
from multistep_bench.scoring.score import Score, score

CURVES: dict[tuple[int, int], records.Counts | records.Ended] = {
    (0, 0): records.jump(0.3),
    (0, 1): [100, 550, None, *records.flat()[3:]],
    (1, 0): records.jump(0.6),
    (1, 1): records.Ended("diverged", [100, 300, 550], reason="the loss is not finite"),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    folder = tmp_path_factory.mktemp("runs")
    names = ("vit", r"hostile $\frac$ _^{ <b>&amp; " + "long" * 20)
    made = [records.make_run(folder / f"run{index}", CURVES, model=name) for index, name in enumerate(names)]
    return [read_run(path) for path in made]


@pytest.fixture(scope="module")
def scored(runs: list[Run]) -> Score:
    return score(runs)


KINDS = tuple(plot.kind for plot in PLOTS if not plot.needs and not plot.options)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_the_same_runs_give_the_same_file(
    kind: str, ending: str, runs: list[Run], scored: Score, tmp_path: Path
) -> None:
    first = write_plot(kind, runs, scored, tmp_path / "new" / f"first.{ending}").read_bytes()
    assert first == write_plot(kind, runs, scored, tmp_path / f"second.{ending.upper()}").read_bytes()
    assert first.startswith({"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[ending])
    assert b"CreationDate" not in first
    assert b"<dc:date>" not in first


@pytest.mark.parametrize(("kind", "inches"), [("survival", 3.25), ("compare", 3.25), ("curves", 6.75), ("rates", 6.75)])
def test_a_figure_is_as_wide_as_a_column_or_a_page(
    kind: str, inches: float, runs: list[Run], scored: Score, tmp_path: Path
) -> None:
    png = write_plot(kind, runs, scored, tmp_path / "figure.png").read_bytes()
    (width,) = struct.unpack(">I", png[16:20])
    assert width == int(inches * 300)


def test_another_ending_is_one_sentence_and_writes_nothing(runs: list[Run], scored: Score, tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"'curves.jpg'; end the name in .png, .svg or .pdf"):
        curve_plots.plot_curves(runs, scored, tmp_path / "curves.jpg")
    (tmp_path / "file").write_text("")
    with pytest.raises(BenchError, match=r"file/curves.png cannot be written: .*; choose another place"):
        curve_plots.plot_curves(runs, scored, tmp_path / "file" / "curves.png")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_users_matplotlib_neither_changes_nor_matters(runs: list[Run], scored: Score, tmp_path: Path) -> None:
    reference = write_plot("survival", runs, scored, tmp_path / "reference.png").read_bytes()
    with matplotlib.rc_context({"lines.linewidth": 7, "axes.grid": True}):
        before = dict(matplotlib.rcParams)
        assert write_plot("survival", runs, scored, tmp_path / "figure.png").read_bytes() == reference
        assert dict(matplotlib.rcParams) == before


def test_drawing_opens_no_window(tmp_path: Path) -> None:
    program = "import sys, multistep_bench.reporting.plots; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=tmp_path).returncode == 0


def axes_of_curves(run: Run, scored: Score, rate_index: int, index: int = 0) -> Axes:
    with figures.style():
        axes = figures.new_figure(3, 2).subplots()
        curve_plots.draw_curves(axes, run, scored.runs[index], rate_index)
        return axes


def marked(axes: Axes, marker: str) -> list[tuple[float, float]]:
    lines = [line for line in axes.get_lines() if line.get_marker() == marker]
    return [tuple(map(float, (*line.get_xdata(), *line.get_ydata()))) for line in lines]  # type: ignore[misc]


def test_curves_show_levels_events_and_breaks_where_they_are(runs: list[Run], scored: Score) -> None:
    lower, higher = (axes_of_curves(runs[0], scored, rate_index) for rate_index in (0, 1))
    assert marked(lower, "*") == [(30_000, 0.75)]
    assert marked(lower, "x") == []
    assert marked(higher, "x") == [(2000, 0.55)]
    assert lower.get_title("left") == "rate 1e-3   ★ 1/2"
    assert [text.get_text() for text in lower.texts] == ["chance", "shortcut", "threshold", "ceiling"]
    across = [line for line in lower.get_lines() if list(np.asarray(line.get_xdata())) == [0, 1]]
    assert [float(np.asarray(line.get_ydata())[0]) for line in across] == pytest.approx([0.1, 0.55, 0.75, 0.95])
    curve = next(line for line in lower.get_lines() if line.get_gid() == "rate0-seed1")
    accuracy = np.asarray(curve.get_ydata())
    assert np.isnan(accuracy[2])  # a missing evaluation is a gap
    assert accuracy[[0, 1, 3]] == pytest.approx([0.1, 0.55, 0.55])


def test_names_of_close_levels_do_not_overlap(tmp_path: Path) -> None:
    levels = {"chance": 0.1, "shortcut": 0.90, "ceiling": 0.95}
    folder = records.make_run(
        tmp_path / "run", {(0, 0): records.flat()}, task={"levels": levels}, protocol={"evaluation_items": 6000}
    )
    axes = axes_of_curves(read_run(folder), score([folder]), 0)
    heights = [text.get_position()[1] for text in axes.texts]
    assert np.diff(heights).min() > 0.08


def test_survival_falls_at_each_event_to_the_budget(scored: Score) -> None:
    with figures.style():
        axes = figures.new_figure(3, 2).subplots()
        task_plots.draw_survival(axes, task_plots.by_task(scored.runs)["steps-v1 quick"])
    first = axes.get_lines()[0]
    assert list(np.asarray(first.get_xdata())) == [0, 30_000, 60_000, 100_000]
    assert list(np.asarray(first.get_ydata())) == [1, 0.75, 0.5, 0.5]
    assert len(axes.get_lines()) == len(axes.collections) == 2  # a curve and a band for each run


def test_scores_by_rate_stand_at_their_rates_with_their_intervals(runs: list[Run], scored: Score) -> None:
    with figures.style():
        axes = figures.new_figure(3, 2).subplots()
        task_plots.draw_by_rate(axes, task_plots.by_task(scored.runs[:1])["steps-v1 quick"], quantity="speed")
    (container,) = axes.containers
    line, _, (bars,) = container.lines  # type: ignore[attr-defined]
    assert list(line.get_xdata()) == list(runs[0].spec.protocol.learning_rates)
    assert line.get_ydata() == pytest.approx([0.35, 0.2])  # (1 − .3)/2 and (1 − .6)/2
    ends = [segment[:, 1] for segment in bars.get_segments()]
    expected = [[scores.speed.low, scores.speed.high] for scores in scored.runs[0].by_rate]
    assert np.allclose(ends, expected)


def test_a_control_task_has_no_shortcut_and_no_probability_to_draw(tmp_path: Path) -> None:
    levels = {"chance": 0.1, "ceiling": 0.95}
    run = read_run(records.make_run(tmp_path / "run", CURVES, task={"levels": levels}))
    result = score([run])
    assert [text.get_text() for text in axes_of_curves(run, result, 0).texts] == ["chance", "threshold", "ceiling"]
    for kind in KINDS:
        write_plot(kind, [run], result, tmp_path / f"{kind}.png")


def test_runs_of_several_tasks_share_a_figure_but_no_panel(runs: list[Run], tmp_path: Path) -> None:
    harder = records.make_run(
        tmp_path / "harder", CURVES, changes={"task.label_noise": 0.1}, protocol={"budget": 50_000}
    )
    both = [runs[0], read_run(harder)]
    result = score(both)
    assert list(task_plots.by_task(result.runs)) == ["steps-v1 quick", "steps-v1 quick, task.label_noise=0.1"]
    looks = [look for styled in task_plots.by_task(result.runs).values() for _, _, look in styled]
    assert looks[0] == looks[1]  # one model, one look
    for kind in KINDS:
        write_plot(kind, both, result, tmp_path / f"{kind}.png")


def test_series_beyond_the_palette_differ_in_their_dashes() -> None:
    looks = [tuple(figures.series_style(index).values()) for index in range(18)]
    assert len(set(looks)) == 18


def test_the_legend_names_only_what_is_there(scored: Score, tmp_path: Path) -> None:
    assert list(curve_plots.curve_legend(scored.runs)) == [
        "Eureka-moment",
        "none within the budget",
        "diverged or failed",
    ]
    solved = score([records.make_run(tmp_path / "run", {(0, 0): records.jump(0.3)})])
    legend = curve_plots.curve_legend(solved.runs)
    assert list(legend) == ["Eureka-moment"]
    assert all(isinstance(entry, Line2D) for entry in legend.values())


def test_a_loss_has_an_axis_of_its_own_that_shows_all_of_its_curve(tmp_path: Path) -> None:
    run = read_run(records.make_run(tmp_path / "run", {(0, 0): records.fall(0.3)}, task=records.LOSS_TASK))
    scored = score([run])
    with figures.style():
        axes = figures.new_figure(3, 2).subplots()
        curve_plots.draw_curves(axes, run, scored.runs[0], 0)
    assert axes.get_ylim() == pytest.approx((0, 1.08 * 4))
    named = {text.get_text(): text.get_position()[1] for text in axes.texts}
    heights = {"threshold, ceiling": 2.0, "shortcut": 3.0, "chance": 4.0}  # nats; each name stands at its line
    assert named == pytest.approx({name: level / (1.08 * 4) for name, level in heights.items()})
    (star,) = [line for line in axes.lines if line.get_marker() == "*"]
    assert np.array(star.get_data()).tolist() == [[30_000], [2.0]]
    svg = curve_plots.plot_curves([run], scored, tmp_path / "curves.svg").read_text()
    assert "cross-entropy (nats)" in svg
    assert "accuracy" not in svg


def test_the_list_says_of_each_figure_what_it_shows() -> None:
    kinds = [plot.kind for plot in PLOTS]
    recorded = ["gradients", "attention_share", "gradient_regions", "probes", "attention"]
    assert kinds == ["compare", "curves", "auxiliary", *recorded, "survival", "rates", "robustness", "dose", "forest"]
    for plot in PLOTS:
        assert plot.title
        assert plot.text.endswith(".")
        assert not (plot.of_run and plot.of_task)
        assert bool(plot.of_run or plot.of_task) != bool(plot.options)  # those that take options are not in the report
        assert (plot.of_run is None) == (plot.legend is None)


def test_a_kind_that_runs_have_nothing_for_and_one_that_is_not_in_the_list_are_errors(
    runs: list[Run], scored: Score, tmp_path: Path
) -> None:
    with pytest.raises(BenchError, match=r"no auxiliary measurements stand in .*run0, .*run1; .*lookup-v1"):
        write_plot("auxiliary", runs, scored, tmp_path / "figure.png")
    with pytest.raises(BenchError, match=r"--by width: a plot of kind survival takes no such option; .* \(dose\)"):
        write_plot("survival", runs, scored, tmp_path / "figure.png", by="width")
    with pytest.raises(BenchError, match=r"no kind of plot 'rate'. Did you mean 'rates'\?"):
        write_plot("rate", runs, scored, tmp_path / "figure.png")
    assert not list(tmp_path.iterdir())
