"""What `inside` says of runs follows by hand from their diagnostics and tables of probes."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import records
from commands import in_process
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

from multistep_bench.errors import BenchError, RunError
from multistep_bench.reporting import figures
from multistep_bench.reporting.inside_plots import map_panels, plot_probes_of, probe_panels
from multistep_bench.reporting.inside_table import inside_tables, markdown
from multistep_bench.reporting.plots import write_plot
from multistep_bench.reporting.region_bars import region_gradients, region_panels
from multistep_bench.reporting.report import write_report
from multistep_bench.runs.diagnostics import save_diagnostics
from multistep_bench.runs.inside import INSIDE_FOLDER, KeptMaps, load_maps, load_probes, save_maps, save_probes
from multistep_bench.runs.spec import Cell
from multistep_bench.runs.store import Run, read_run
from multistep_bench.scoring.inside import inside_of, region_groups
from multistep_bench.scoring.phases import PHASES
from multistep_bench.scoring.score import score

SAMPLES = (0, 20_000, 40_000, 60_000, 80_000)  # the event of a jump at 0.6 is at 60,000, its plateau from 1,000
PROBE = {
    "at": "before",
    "variable": "same",
    "layer": 1,
    "representation": "residual",
    "place": "reading",
    "cells": 2,
    "items": 1000,
    "chance": 0.5,
    "bits": None,
    "uniform": 1.0,
    "accuracy": 0.75,
    "low": 0.7,
    "high": 0.8,
}


def figures_at(samples: int, factor: float) -> dict[str, np.ndarray]:
    """Two layers with W_K's gradient `factor` and 16 times `factor` of W_V's; W_Q's is always a fifth of W_V's."""
    share = samples / 100_000
    by_region = np.zeros((2, 3, 3))
    by_region[:, 1] = [[3 * factor, 0, 0], [4 * factor, 1, 2]]
    return {
        "gradients.l2": np.array([[0.8, 4 * factor, 4.0], [0.4, 32 * factor, 2.0]]),
        "gradients.l2_by_region": by_region,
        "gradients.tokens": np.array(["target_a", "target_b", "elsewhere"]),
        "attention.share_reading": np.array([[[share, 0.0], [share, 0.2]], [[0.0, 0.0], [np.nan, np.nan]]]),
        "attention.relative_entropy": np.array([[1.0, 0.5], [0.25, np.nan]]),
        "attention.layers": np.array(["blocks.0", "blocks.1"]),
        "regions": np.array(["target_a", "target_b"]),
    }


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Two seeds that jump at 60,000, with W_K's gradients of 1/4 and 1 at first, twice that later."""
    folder = tmp_path / "run"
    records.make_run(folder, {(0, 0): records.jump(0.6), (0, 1): records.jump(0.6)})
    for seed, factor in ((0, 0.25), (1, 1.0)):
        recorded = [(samples, figures_at(samples, factor * (1 + (samples > 0)))) for samples in SAMPLES]
        save_diagnostics(folder, Cell(0, seed), recorded)
    return read_run(folder)


def test_ratios_are_geometric_means_over_layers_and_cells(run: Run) -> None:
    """W_K over W_V: √(1·16) = 4 times 1/4 and 1, their geometric mean is 2; later all twice that."""
    inside = inside_of(run, score([run]).runs[0])
    assert inside.cells == {"start": 2, "plateau": 2, "event": 2}
    keys, queries = inside.ratios["W_K / W_V"], inside.ratios["W_Q / W_V"]
    assert [keys[phase].estimate for phase in PHASES] == pytest.approx([2.0, 4.0, 4.0])
    assert [queries[phase].estimate for phase in PHASES] == pytest.approx([0.2] * 3)
    spread = 12.706 * math.log(4) / 2  # t of one degree of freedom, standard error half the difference of logarithms
    assert keys["start"].high == pytest.approx(2 * math.exp(spread), rel=1e-3)
    assert keys["start"].low == pytest.approx(2 * math.exp(-spread), rel=1e-3)


def test_shares_of_alike_regions_are_added_and_averaged_over_heads(run: Run) -> None:
    """On the plateau, at 20,000 and 40,000: (0.3 + (0.3 + 0.2)) / 2 heads. A head that a layer lacks is left out."""
    first, second = inside_of(run, score([run]).runs[0]).attention
    assert first.layer == "blocks.0"
    assert [first.shares["target"][phase].estimate for phase in PHASES] == pytest.approx([0.1, 0.4, 0.7])
    assert first.entropy["plateau"].estimate == 0.75
    assert second.entropy["plateau"].estimate == 0.25
    assert second.shares["target"]["event"].estimate == 0.0


def test_regions_that_differ_in_a_last_letter_or_number_belong_together() -> None:
    names = ["indicator_1", "target_a", "target_b", "indicator_2", "match", "match_label", "noun_10"]
    assert region_groups(names) == {
        "indicator": [0, 3],
        "target": [1, 2],
        "match": [4],
        "match_label": [5],
        "noun": [6],
    }


def test_a_cell_that_failed_and_a_phase_that_never_came_are_left_out(tmp_path: Path) -> None:
    records.make_run(tmp_path / "run", {(0, 0): records.flat(), (0, 1): records.flat()[:50]})
    for seed in (0, 1):
        save_diagnostics(tmp_path / "run", Cell(0, seed), [(0, figures_at(0, 1.0)), (50_000, figures_at(50_000, 1.0))])
    run = read_run(tmp_path / "run")
    inside = inside_of(run, score([run]).runs[0])
    assert inside.cells == {"start": 1, "plateau": 1}
    assert set(inside.ratios["W_K / W_V"]) == {"start", "plateau"}


def test_probes_are_those_of_the_variable_that_the_card_names(run: Run) -> None:
    named = run.spec.task.intermediate.partition(":")[0]
    save_probes(run.path, [PROBE | {"variable": named}, PROBE | {"variable": "label"}])
    (row,) = inside_of(run, score([run]).runs[0]).readable
    assert (row.variable, row.accuracy.low, row.chance) == (named, 0.7, 0.5)
    save_probes(run.path, [PROBE])  # replaces what stood there
    assert load_probes(run.path) == [PROBE]


def test_a_run_without_anything_is_told_how_to_get_it(tmp_path: Path) -> None:
    plain = read_run(records.make_run(tmp_path / "plain", {(0, 0): records.flat()}))
    with pytest.raises(RunError, match=r"has neither diagnostics nor probes; train with --diagnostics"):
        inside_of(plain, score([plain]).runs[0])
    assert load_maps(plain.path) is None
    assert load_probes(plain.path) == []
    for kind, remedy in (("gradient_regions", "--diagnostics"), ("probes", "probe"), ("attention", "attention")):
        with pytest.raises(BenchError, match=f"choose another kind of plot, or .*{remedy}"):
            write_plot(kind, [plain], score([plain]), tmp_path / "plot.png")


@pytest.mark.parametrize(
    "content", ["{", '{"a": 1}', '[{"at": "before"}]', json.dumps([PROBE | {"accuracy": 2.0}]), '[["a"]]']
)
def test_a_damaged_table_of_probes_is_named(run: Run, content: str) -> None:
    save_probes(run.path, [PROBE])
    (run.path / INSIDE_FOLDER / "probes.json").write_text(content)
    with pytest.raises(RunError, match=r"run `mstep-bench probe` again"):
        inside_of(run, score([run]).runs[0])


def maps(**changes: np.ndarray) -> KeptMaps:
    """Two moments, two layers of one head, three tokens."""
    weights = changes.get("weights", np.array([[[0.1, 0.2, 0.7], [1.0, 0.0, 0.0]]]))
    tokens = changes.get("tokens", np.array([["one", "two", "three"]]))
    images = changes.get("images", np.zeros((0,), np.uint8))
    heads = ("layer 1 head 1", "layer 2 head 1")
    return KeptMaps("seed 0", ("before", "after"), heads, {"before": weights, "after": 0 * weights}, tokens, images)


def test_maps_are_kept_as_they_were_and_damaged_ones_are_named(run: Run) -> None:
    path = save_maps(run.path, maps())
    kept = load_maps(run.path)
    assert kept is not None
    assert (kept.title, kept.moments, kept.heads) == (
        "seed 0",
        ("before", "after"),
        ("layer 1 head 1", "layer 2 head 1"),
    )
    assert kept.weights["before"][0, 0] == pytest.approx([0.1, 0.2, 0.7])
    assert not kept.weights["after"].any()
    assert kept.tokens.tolist() == [["one", "two", "three"]]
    save_maps(run.path, maps(tokens=np.array([["one", "two"]])))
    with pytest.raises(RunError, match="other shapes than its tokens"):
        load_maps(run.path)
    np.savez(path, weights=np.zeros(1))
    with pytest.raises(RunError, match="holds no maps of attention"):
        load_maps(run.path)
    path.write_bytes(b"\x80\x04N.")
    with pytest.raises(RunError, match=r"is damaged.*run `mstep-bench attention` again"):
        load_maps(run.path)


def axes() -> Axes:
    return figures.new_figure(3, 2).subplots()


def test_bars_of_regions_are_norms_over_all_layers(run: Run) -> None:
    """The layers' 3 and 4 together are 5: 5/4 and 5 at the start, twice that on the plateau."""
    scored = score([run]).runs[0]
    names, values = region_gradients(run, scored)
    assert names == ["target_a", "target_b", "elsewhere"]
    assert values["start"][:, 1, 0].tolist() == pytest.approx([1.25, 5.0])
    assert values["plateau"][:, 1, 0].tolist() == pytest.approx([2.5, 10.0])
    assert values["plateau"][:, 1, 1:].tolist() == [[1.0, 2.0]] * 2
    assert [name for name, _ in region_panels(run, scored)] == ["W_Q", "W_K", "W_V"]
    drawn = axes()
    dict(region_panels(run, scored))["W_K"](drawn)
    heights = [patch.get_height() for patch in drawn.patches]  # type: ignore[attr-defined]
    assert heights == pytest.approx([3.125, 1, 2, 6.25, 1, 2, 6.25, 1, 2])
    assert [text.get_text() for text in drawn.get_xticklabels()] == names


def test_maps_of_tokens_are_rows_of_heads(run: Run) -> None:
    scored = score([run]).runs[0]
    save_maps(run.path, maps())
    panels = dict(map_panels(run, scored))
    assert list(panels) == ["before", "after"]
    drawn = axes()
    panels["before"](drawn)
    (image,) = drawn.get_images()
    assert np.asarray(image.get_array()) == pytest.approx(np.array([[0.1, 0.2, 0.7], [1.0, 0.0, 0.0]]))
    assert [text.get_text() for text in drawn.get_xticklabels()] == ["one", "two", "three"]


def test_maps_of_images_are_pictures_under_heat_a_row_a_layer_and_a_column_a_head(run: Run) -> None:
    """A class token, which has no place, and two patches of 4 by 4 black pixels."""
    heads = ("layer 1 head 1", "layer 1 head 2", "layer 2 head 1", "layer 2 head 2")
    weights = np.array([[[0.9, 0.0, 0.1], [0.2, 0.8, 0.0], [0.0, 0.5, 0.5], [1.0, 0.0, 0.0]]])
    tokens, images = np.array([["0", "1", "2"]]), np.zeros((1, 4, 8, 3), np.uint8)
    save_maps(run.path, KeptMaps("seed 0", ("before",), heads, {"before": weights}, tokens, images))
    drawn = axes()
    dict(map_panels(run, score([run]).runs[0]))["before"](drawn)
    picture = np.asarray(drawn.get_images()[0].get_array())
    assert picture.shape == (4 + 2 + 4, 8 + 2 + 8, 3)
    bright, dark = picture[0, 4], picture[0, 0]
    assert bright.sum() > 1 > dark.sum()
    for row, column, lit in ((0, 0, (0, 1)), (0, 1, (1, 0)), (1, 0, (1, 1)), (1, 1, (0, 0))):
        head = picture[6 * row : 6 * row + 4, 10 * column : 10 * column + 8]
        for half, on in zip((head[:, :4], head[:, 4:]), lit, strict=True):
            np.testing.assert_allclose(half, np.broadcast_to(bright if on else dark, half.shape))
    assert [text.get_text() for text in drawn.get_yticklabels()] == ["layer 1", "layer 2"]
    assert [text.get_text() for text in drawn.get_xticklabels()] == ["head 1", "head 2"]


def test_probes_have_a_panel_a_variable(run: Run) -> None:
    save_probes(run.path, [PROBE, PROBE | {"variable": "label", "accuracy": 0.25}, PROBE | {"layer": 2}])
    panels = dict(probe_panels(run, score([run]).runs[0]))
    assert list(panels) == ["same", "label"]
    drawn = axes()
    panels["same"](drawn)
    assert [patch.get_height() for patch in drawn.patches] == [0.75, 0.75]  # type: ignore[attr-defined]


def test_a_moment_looks_as_the_legend_says_in_every_run(run: Run, tmp_path: Path) -> None:
    """One run was probed before and after its event, the other at the end only."""
    other = read_run(records.make_run(tmp_path / "other", {(0, 0): records.jump(0.6)}, model="other"))
    save_probes(run.path, [PROBE | {"at": at} for at in ("before", "after", "final")])
    save_probes(other.path, [PROBE | {"at": "final"}])
    with figures.collected() as found:
        plot_probes_of([run, other], score([run, other]), tmp_path / "plot.png")
    (legend,) = found[0].legends
    told = [line.get_color() for line in legend.get_lines()]
    first, second = (
        [to_hex(patch.get_facecolor()) for patch in axes.patches] for axes in found[0].axes if axes.patches
    )
    assert [text.get_text() for text in legend.get_texts()] == ["before", "after", "final", "chance"]
    assert first == [to_hex(colour) for colour in told[:3]]
    assert second == first[2:]


def test_all_of_it_stands_in_one_self_contained_report_and_in_figures(run: Run, tmp_path: Path) -> None:
    save_probes(run.path, [PROBE])
    save_maps(run.path, maps(tokens=np.array([["0", "1", "2"]]), images=np.zeros((1, 4, 8, 3), np.uint8)))
    result = score([run])
    page = write_report([run], result, tmp_path / "report.html").read_text(encoding="utf-8")
    for title in ("Gradients by region", "Linear probes", "Attention maps"):
        assert f"<h2>{title}</h2>" in page
    assert "data:image/png;base64," in page
    assert 'href="http' not in page
    for kind, name in (("gradient_regions", "a.png"), ("probes", "b.svg"), ("attention", "c.pdf")):
        assert write_plot(kind, [run], result, tmp_path / name).stat().st_size > 5_000


def test_the_command_prints_one_content_as_table_markdown_and_json(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    named = run.spec.task.intermediate.partition(":")[0]
    save_probes(run.path, [PROBE | {"variable": named}])
    code, text, _ = in_process(capsys, "inside", str(run.path), "--format", "json")
    (content,) = json.loads(text)
    assert code == 0
    assert content["ratios"]["W_Q / W_V"]["start"]["estimate"] == pytest.approx(0.2)
    result = score([run])
    shown = markdown(inside_tables([run], result.runs, [inside_of(run, result.runs[0])]))
    assert in_process(capsys, "inside", str(run.path), "--format", "markdown")[:2] == (0, f"{shown.rstrip()}\n")
    lines = shown.splitlines()
    assert "| run | cells | W_K / W_V | W_Q / W_V |" in lines
    assert any("| 2 → 2 → 2 | 2.00 [" in line and "0.20 [0.20, 0.20] → 0.20 [" in line for line in lines)
    assert any("75 [70, 80] | 50 |" in line for line in lines)
    assert any(line.startswith("| vit | blocks.0 | plateau | 2 | 0.75 [") for line in lines)
    only = in_process(capsys, "inside", str(run.path), "--format", "markdown", "--at", "event")[1]
    assert "| event | 2 |" in only
    assert "| plateau | 2 |" not in only
    assert "75 [70, 80]" not in only
    assert "75 [70, 80]" in in_process(capsys, "inside", str(run.path), "--format", "markdown", "--at", "before")[1]
    code, _, error = in_process(capsys, "inside", str(run.path), "--at", "after")
    assert (code, error) == (2, "error: --at after is none of start, plateau, event, before\n")
    _, table, _ = in_process(capsys, "inside", str(run.path))
    assert "75 [70, 80]" in table
    assert in_process(capsys, "inside", str(run.path), "--format", "yaml")[0] == 2
