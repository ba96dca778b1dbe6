"""Figures of one to twenty runs: who is where, nothing covers anything, and sizes as a paper asks for them."""

import struct
from pathlib import Path

import numpy as np
import pytest
import records
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.text import Text

import multistep_bench as mb
from multistep_bench.errors import BenchError, NotFound
from multistep_bench.reporting import curve_plots, figures, task_plots
from multistep_bench.reporting.compare_plots import curve_notes, draw_medians, median_curve, median_curves
from multistep_bench.reporting.labels import rate_label, row_label
from multistep_bench.reporting.plots import write_plot
from multistep_bench.reporting.ticks import count_ticks, end_on_ticks, keep_apart, tick_count
from multistep_bench.runs.store import Run, read_run
from multistep_bench.scoring.score import score

RATES = (5e-4, 1e-3, 2e-3)


def make(folder: Path, count: int) -> list[Run]:
    """Runs of models with long names at three learning rates, three seeds each."""
    made = []
    for index in range(count):
        name = f"vit_{index:02d}_" + "long_name_" * (index % 3)
        curves = {(rate, seed): records.jump(0.02 * (1 + index + seed + rate)) for rate in range(3) for seed in (0, 1)}
        curves |= {(rate, 2): records.flat() for rate in range(3)}
        made.append(read_run(records.make_run(folder / f"{count}-{index}", curves, model=name, rates=RATES)))
    return made


def drawn(runs: list[Run], kind: str, **options: str | float) -> Figure:
    figure = mb.plot(runs, kind, **options)  # type: ignore[arg-type]
    with figures.style():
        figure.draw_without_rendering()
    return figure


def all_axes(figure: Figure) -> list[Axes]:
    return [axes for axes in figure.findobj(Axes) if isinstance(axes, Axes) and axes.axison]


@pytest.mark.parametrize("kind", ["compare", "survival", "rates", "robustness"])
@pytest.mark.parametrize("count", [1, 2, 6, 7, 20])
def test_no_text_is_cut_and_no_legend_covers_a_panel(kind: str, count: int, tmp_path: Path) -> None:
    figure = drawn(make(tmp_path, count), kind)
    page = figure.bbox
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        if text.get_text().strip() and text.get_visible():
            box = text.get_window_extent()
            hidden = text.axes is not None and not text.axes.axison
            ticks = text.axes is not None and text in [*text.axes.get_xticklabels(), *text.axes.get_yticklabels()]
            if not hidden and not ticks:
                assert page.x0 - 1 <= box.x0, text.get_text()
                assert box.x1 <= page.x1 + 1, text.get_text()
                assert page.y0 - 1 <= box.y0, text.get_text()
                assert box.y1 <= page.y1 + 1, text.get_text()
    legends = [legend for legend in figure.findobj(Legend) if isinstance(legend, Legend)]
    assert len(legends) == (1 if count <= task_plots.OVERLAID else 0)
    panels = [axes.get_tightbbox() for axes in all_axes(figure)]
    for legend in legends:
        box = legend.get_window_extent()
        assert not any(panel is not None and box.y1 > panel.y0 + 1 for panel in panels)
    assert min(axes.get_window_extent().height / figure.dpi for axes in all_axes(figure)) > 0.5  # inches


@pytest.mark.parametrize("count", [7, 12, 20])
def test_many_runs_have_a_named_panel_each_with_the_others_in_grey(count: int, tmp_path: Path) -> None:
    runs = make(tmp_path, count)
    panels = all_axes(drawn(runs, "survival"))
    titles = ["".join(axes.get_title("left").split()) for axes in panels]
    assert titles == [run.spec.model.name for run in runs]
    for number, axes in enumerate(panels):
        colours = [line.get_color() for line in axes.get_lines()]
        assert colours.count(figures.FAINT) == count - 1
        (own,) = [line for line in axes.get_lines() if line.get_color() == figures.SERIES[0]]
        assert np.asarray(own.get_xdata())[1] == pytest.approx(0.02 * (1 + number) * records.BUDGET)


@pytest.mark.parametrize("count", [1, 2, 5, 6])
def test_points_stand_nearer_to_their_own_rate_than_to_any_other(count: int, tmp_path: Path) -> None:
    axes, _ = all_axes(drawn(make(tmp_path, count), "rates"))
    assert len(axes.containers) == count
    places = set()
    for container in axes.containers:
        for x, rate in zip(container.lines[0].get_xdata(), RATES, strict=True):  # type: ignore[attr-defined]
            assert min(RATES, key=lambda other: abs(np.log(other / x))) == rate
            assert abs(np.log(x / rate)) <= np.log(2) / 4 + 1e-9
            places.add(round(float(np.log(x)), 6))
    assert len(places) == 3 * count  # none covers another
    assert [label.get_text() for label in axes.get_xticklabels()] == [rate_label(rate) for rate in RATES]


@pytest.mark.parametrize(("budget", "ends"), [(256_000, "256k"), (51_200, "51.2k"), (143_360, "143k"), (2e9, "2G")])
def test_the_time_axis_ends_on_a_tick_at_the_budget(budget: float, ends: str) -> None:
    axes = figures.new_figure(3, 2).subplots()
    axes.set_xlim(0, budget)
    axes.set_yticks([0, 0.5, 1])
    axes.set_ylim(0.05, 1.02)
    count_ticks(axes)
    end_on_ticks(axes)
    assert axes.get_xticks().tolist() == [0, budget / 4, budget / 2, 3 * budget / 4, budget]
    assert tick_count(axes.get_xticks()[-1]) == ends
    assert axes.spines["bottom"].get_bounds() == (0, budget)
    assert axes.spines["left"].get_bounds() == (0.5, 1)  # 0 is out of sight


@pytest.mark.parametrize(
    ("places", "apart"),
    [
        ([0, 1, 2], [0, 1, 2]),
        ([0, 0], [-0.25, 0.25]),
        ([0, 0.2, 0.4], [-0.3, 0.2, 0.7]),
        ([0, 0.4, 5], [-0.05, 0.45, 5]),
        ([1, 1, 1.5], [2 / 3, 7 / 6, 5 / 3]),  # the pair at 0.75 and 1.25 still collides with 1.5
    ],
)
def test_labels_that_collide_move_about_their_mean(places: list[float], apart: list[float]) -> None:
    assert keep_apart(places, 0.5) == pytest.approx(apart)


def test_a_run_that_is_not_finished_counts_the_cells_it_has(tmp_path: Path) -> None:
    curves = {(0, 0): records.flat(), (1, 0): records.jump(0.3)}
    run = read_run(records.make_run(tmp_path / "run", curves, seeds=3))
    scored = score([run]).runs[0]
    titles = []
    for rate in (0, 1):
        axes = figures.new_figure(3, 2).subplots()
        curve_plots.draw_curves(axes, run, scored, rate)
        titles.append(axes.get_title("left"))
    assert titles == ["rate 1e-3   ★ 0/1, 2 missing", "rate 2e-3   ★ 1/1, 2 missing"]


def test_the_curve_of_a_model_is_the_median_of_its_cells_at_the_best_rate(tmp_path: Path) -> None:
    curves = {(0, seed): records.flat() for seed in range(4)}
    curves |= {(1, 0): records.jump(0.2), (1, 1): records.jump(0.4), (1, 2): records.jump(0.8)}
    curves[1, 3] = records.Ended("diverged", [100, 550, 550], "loss is nan")  # type: ignore[assignment]
    run = read_run(records.make_run(tmp_path / "run", curves, seeds=5))
    curve = median_curve(run, score([run]).runs[0])
    assert (curve.rate, curve.cells, curve.seeds) == (2e-3, 4, 5)
    assert curve.samples.tolist() == [1000 * index for index in range(101)]
    # At 50 evaluations two cells have jumped, one plateaus, and the diverged one counts as at chance.
    cells = sorted([0.95, 0.95, 0.55, 0.1])
    assert curve.median[50] == pytest.approx((0.55 + 0.95) / 2)
    assert curve.low[50] == pytest.approx(cells[0] + 0.75 * (cells[1] - cells[0]))
    assert curve.high[50] == pytest.approx(0.95)
    assert curve.median[1] == pytest.approx(0.55)
    assert curve_notes([("vit", curve)]) == ["rate 2e-3, n = 4 of 5"]


def test_a_missing_evaluation_is_left_out_of_the_median(tmp_path: Path) -> None:
    gaps = [records.jump(0.2), [None if index in (30, 31) else count for index, count in enumerate(records.flat())]]
    gaps[0][31] = None  # type: ignore[call-overload]
    run = read_run(records.make_run(tmp_path / "run", {(0, seed): counts for seed, counts in enumerate(gaps)}))
    curve = median_curve(run, score([run]).runs[0])
    assert curve.median[30] == pytest.approx(0.95)
    assert np.isnan(curve.median[31])


def test_models_are_overlaid_on_one_scale_with_rates_and_counts_below(tmp_path: Path) -> None:
    runs = make(tmp_path, 3)
    scored = score(runs)
    styled = task_plots.by_task(scored.runs)["steps-v1 quick"]
    axes = figures.new_figure(3, 2).subplots()
    draw_medians(axes, styled, curves=median_curves(runs, scored))
    named = {line.get_label(): line for line in axes.get_lines()}
    for run in runs:
        values = np.asarray(named[run.spec.model.name].get_ydata())
        assert values[[0, -1]] == pytest.approx([0.1, 0.95])
    assert len(axes.collections) == 3  # bands
    assert (axes.get_ylim()[0] <= 0, axes.get_ylim()[1] >= 1) == (True, True)
    assert axes.get_xlabel() == "training samples\nrate 5e-4, n = 3"
    low, high = median_curve(runs[0], scored.runs[0]), median_curve(runs[1], scored.runs[1])
    other = type(high)(2e-3, *[getattr(high, name) for name in ("samples", "median", "low", "high", "cells", "seeds")])
    assert curve_notes([("a", low), ("b", other), ("c", low)]) == ["rate 5e-4, n = 3: a, c", "rate 2e-3, n = 3: b"]


def test_width_and_letters_are_those_of_the_paper(tmp_path: Path) -> None:
    runs = make(tmp_path, 2)
    for width, inches in (("single", 3.25), ("double", 6.75), (5.5, 5.5), ("4", 4.0)):
        png = write_plot("rates", runs, score(runs), tmp_path / "plot.png", width=width).read_bytes()
        assert struct.unpack(">I", png[16:20])[0] == int(inches * 300)
    figure = drawn(runs, "compare", width="single", font_size=11)
    assert figure.get_figwidth() == 3.25
    assert {axes.xaxis.label.get_fontsize() for axes in all_axes(figure)} == {11}
    with figures.style():
        assert figures.matplotlib.rcParams["font.size"] == 8  # no trace is left
    with pytest.raises(BenchError, match=r"--width 0\.5: give inches from 2 to 40, or single or double"):
        write_plot("rates", runs, score(runs), tmp_path / "plot.png", width=0.5)
    with pytest.raises(NotFound, match=r"no width 'singel'. Did you mean 'single'\?"):
        write_plot("rates", runs, score(runs), tmp_path / "plot.png", width="singel")
    with pytest.raises(BenchError, match="--font-size 0: give points from 4 to 24"):
        write_plot("rates", runs, score(runs), tmp_path / "plot.png", font_size=0)


def test_tasks_of_a_panel_each_stand_two_beside_one_another(tmp_path: Path) -> None:
    runs = [
        read_run(records.make_run(tmp_path / task, {(0, 0): records.jump(0.3)}, task={"id": task}))
        for task in ("a-v1", "b-v1", "c-v1")
    ]
    boxes = [axes.get_window_extent() for axes in all_axes(drawn(runs, "compare"))]
    assert boxes[0].x1 < boxes[1].x0
    assert boxes[2].y1 < boxes[0].y0
    narrow = [axes.get_window_extent() for axes in all_axes(drawn(runs, "compare", width="single"))]
    assert narrow[1].y1 < narrow[0].y0


def test_a_long_name_beside_a_row_is_broken_where_a_reader_would(tmp_path: Path) -> None:
    spec = make(tmp_path, 1)[0].spec
    assert row_label("vit", spec, {"a"}) == "vit\naccuracy"
    assert row_label("gpt_small_init_normsoftmax", spec, {"a"}) == "gpt_small_init_\nnormsoftmax\naccuracy"
    assert row_label("vit_heat", spec, {"a", "b"}) == "vit_heat, steps-v1 quick\naccuracy"
    assert row_label("x" * 30, spec, {"a"}) == f"{'x' * 24}\n{'x' * 6}\naccuracy"
