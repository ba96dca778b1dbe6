"""The figures of diagnostics show every cell's arrays, its plateau and its Eureka-moment."""

from pathlib import Path

import numpy as np
import pytest
import records
from matplotlib.axes import Axes

from multistep_bench.errors import BenchError
from multistep_bench.reporting import figures
from multistep_bench.reporting.diagnostic_plots import (
    attention_legend,
    attention_panels,
    gradient_panels,
    gradient_ratios,
    plot_attention,
    shortcut_reached,
)
from multistep_bench.reporting.plots import write_plot
from multistep_bench.reporting.report import write_report
from multistep_bench.runs.diagnostics import save_diagnostics
from multistep_bench.runs.spec import Cell
from multistep_bench.runs.store import Run, read_run
from multistep_bench.scoring.score import score

SAMPLES = (0, 50_000, 100_000)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two rates of a seed: the first jumps at 60,000 samples; W_K's gradient grows from 1/8 to 1/2 of W_V's."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    records.make_run(folder, {(0, 0): records.jump(0.6), (1, 0): records.flat()}, rates=(1e-3, 1e-2))
    for cell in (Cell(0, 0), Cell(1, 0)):
        save_diagnostics(folder, cell, [(samples, figures_at(samples)) for samples in SAMPLES])
    return read_run(folder)


def figures_at(samples: int) -> dict[str, np.ndarray]:
    ratio = 2.0 ** (samples / 50_000 - 3)
    share = samples / 100_000
    return {
        "gradients.l2": np.array([[1.0, 2 * ratio, 4.0], [1.0, 2 * ratio, 1.0]]),  # means of ratios over two layers
        "attention.share_reading": np.array([[[share, 0.0], [share, 1.0]]]),  # one layer, two heads, two regions
        "attention.relative_entropy": np.array([[1.0, 0.5]]),
        "attention.layers": np.array(["blocks.0"]),
        "regions": np.array(["context", "query"]),
    }


def drawn(axes: Axes, name: str) -> dict[str, tuple[list[float], list[float]]]:
    """The lines of a cell, by colour."""
    lines = [line for line in axes.get_lines() if line.get_gid() == name]
    return {str(line.get_color()): tuple(np.asarray(each).tolist() for each in line.get_data()) for line in lines}  # type: ignore[misc]


def test_ratios_are_geometric_means_over_layers() -> None:
    arrays = {"gradients.l2": np.array([[[1.0, 2.0, 4.0], [1.0, 8.0, 1.0]], [[0.0, 1.0, 1.0], [1.0, 1.0, 1.0]]])}
    ratios = gradient_ratios(arrays)
    assert ratios["W_K / W_V"].tolist() == pytest.approx([2.0, 1.0])
    assert ratios["W_Q / W_V"].tolist() == pytest.approx([0.5, 0.0])


def test_gradients_have_a_panel_a_rate_with_event_and_plateau(run: Run) -> None:
    scored = score([run]).runs[0]
    panels = list(gradient_panels(run, scored))
    assert [name for name, _ in panels] == ["learning rate 1e-3", "learning rate 1e-2"]
    axes = figures.new_figure(3, 2).subplots()
    panels[0][1](axes)
    values = [line for _, line in drawn(axes, "rate0-seed0").values()]
    assert values[0] == pytest.approx([2 * 2.0**power / 2 for power in (-3, -2, -1)])
    assert drawn(axes, "rate1-seed0") == {}
    (star,) = [line for line in axes.get_lines() if line.get_marker() == "*"]
    assert np.asarray(star.get_xdata()).tolist() == [60_000]
    (span,) = axes.patches
    assert span.get_extents().transformed(axes.transData.inverted()).intervalx == pytest.approx([1_000, 60_000])
    axes = figures.new_figure(3, 2).subplots()
    panels[1][1](axes)
    (span,) = axes.patches  # no event: until the end
    assert span.get_extents().transformed(axes.transData.inverted()).intervalx == pytest.approx([1_000, 100_000])


def test_attention_has_a_panel_a_layer_with_means_over_heads(run: Run) -> None:
    scored = score([run]).runs[0]
    (name, draw), _ = attention_panels(run, scored)
    assert name == "learning rate 1e-3, blocks.0"
    axes = figures.new_figure(3, 2).subplots()
    draw(axes)
    first, second, entropy = (values for _, values in drawn(axes, "rate0-seed0").values())
    assert first == pytest.approx([0.0, 0.5, 1.0])
    assert second == pytest.approx([0.5] * 3)
    assert entropy == pytest.approx([0.75] * 3)
    assert list(attention_legend(run, scored))[:3] == ["context", "query", "entropy / ln n"]


def test_a_region_looks_as_the_legend_says_in_every_run(run: Run, tmp_path: Path) -> None:
    """Another task names the query first and the context not at all."""
    folder = tmp_path / "other"
    records.make_run(folder, {(0, 0): records.jump(0.6)}, rates=(1e-3,), task={"id": "other-v1"})
    arrays = [(samples, figures_at(samples) | {"regions": np.array(["query", "verb"])}) for samples in SAMPLES]
    save_diagnostics(folder, Cell(0, 0), arrays)
    runs = [run, read_run(folder)]
    with figures.collected() as found:
        plot_attention(runs, score(runs), tmp_path / "plot.png")
    (legend,) = found[0].legends
    told = {
        text.get_text(): line.get_color() for text, line in zip(legend.get_texts(), legend.get_lines(), strict=True)
    }
    first, second = (list(drawn(found[0].axes[panel], "rate0-seed0")) for panel in (0, 2))
    assert first == [told["context"], told["query"], told["entropy / ln n"]]
    assert second == [told["query"], told["verb"], told["entropy / ln n"]]
    assert len(set(told.values())) == len(told) - 1  # the plateau and W_K may share a colour, regions do not


def test_the_plateau_begins_where_most_of_the_way_to_the_shortcut_is_gone(run: Run) -> None:
    """From 0.1 to 0.55, nine tenths are 0.505."""
    spec = run.spec
    slow = records.make_record(spec, Cell(0, 0), [100, 300, 504, 505, 550] + [550] * 96)
    assert shortcut_reached(run, slow) == 3_000
    assert shortcut_reached(run, records.make_record(spec, Cell(0, 0), [100] * 101)) is None


@pytest.mark.parametrize("kind", ["gradients", "attention_share"])
def test_both_are_written_and_shown_in_the_report(run: Run, tmp_path: Path, kind: str) -> None:
    result = score([run])
    path = write_plot(kind, [run], result, tmp_path / "plot.png")
    assert path.stat().st_size > 10_000
    write_report([run], result, tmp_path / "report.html")
    assert "Attention by region" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_runs_without_diagnostics_are_told_how_to_get_them(tmp_path: Path) -> None:
    plain = read_run(records.make_run(tmp_path / "plain", {(0, 0): records.flat()}))
    result = score([plain])
    with pytest.raises(BenchError, match=r"no diagnostics of gradients stand in .* train one with --diagnostics"):
        write_plot("gradients", [plain], result, tmp_path / "plot.png")
