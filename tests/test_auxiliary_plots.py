"""The panels of auxiliary measurements show every cell and the means of the learning rates."""

from pathlib import Path

import numpy as np
import pytest
import records
from matplotlib.figure import Figure

from multistep_bench.reporting import figures
from multistep_bench.reporting.auxiliary_plots import auxiliary_names, draw_auxiliary, plot_auxiliary, rate_styles
from multistep_bench.runs.spec import Cell
from multistep_bench.runs.store import Run, read_run
from multistep_bench.scoring.score import score


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two rates of two seeds: the first cell of a rate has 200 right throughout, the second 600; one cell broke."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    further = {"hop 1": [200] * 101, "hop 2": [100] * 101}
    records.make_run(folder, {(0, 0): records.flat(), (1, 0): records.flat()}, seeds=2, auxiliary=further)
    run = read_run(folder)
    more = {"hop 1": [600] * 101, "hop 2": [100] * 101}
    whole = records.make_record(run.spec, Cell(0, 1), records.flat(), more)
    broken = records.make_record(run.spec, Cell(1, 1), records.Ended("diverged", [100] * 11), more)
    return read_run(records.write_run(folder, run.spec, [*run.records, whole, broken]))


def lines(run: Run, name: str) -> dict[tuple[str, float], list[tuple[np.ndarray, np.ndarray]]]:
    """What is drawn, by colour and width."""
    axes = figures.new_figure(3, 2).subplots()
    draw_auxiliary(axes, run, name, rate_styles([run]))
    drawn: dict[tuple[str, float], list[tuple[np.ndarray, np.ndarray]]] = {}
    for line in axes.get_lines():
        x, y = (np.asarray(values) for values in line.get_data())
        drawn.setdefault((str(line.get_color()), line.get_linewidth()), []).append((x, y))
    assert axes.get_title(loc="left") == name
    return drawn


def test_every_cell_has_a_thin_line_and_every_rate_a_thick_mean(run: Run) -> None:
    assert auxiliary_names(run) == ["hop 1", "hop 2"]
    drawn = lines(run, "hop 1")
    thin, thick = sorted({width for _, width in drawn})
    first, second = (look["color"] for look in rate_styles([run]).values())
    assert [y.tolist() for _, y in drawn[first, thin]] == [[0.2] * 101, [0.6] * 101]
    ((times, mean),) = drawn[first, thick]
    assert times.tolist() == list(range(0, 100_001, 1000))
    assert mean == pytest.approx(np.full(101, 0.4))
    ((times, mean),) = drawn[second, thick]
    assert times[-1] == 10_000  # where the broken cell ends
    assert mean == pytest.approx(np.full(11, 0.4))
    assert [len(y) for _, y in drawn[second, thin]] == [101, 11]


def test_a_run_without_records_or_measurements_has_no_panel(tmp_path: Path) -> None:
    plain = read_run(records.make_run(tmp_path / "plain", {(0, 0): records.flat()}))
    assert auxiliary_names(plain) == []


def test_a_figure_has_a_row_for_each_run_that_measured_and_a_panel_for_each_measurement(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Figure] = []
    monkeypatch.setattr(figures, "save", lambda figure, path: made.append(figure))
    plain = read_run(records.make_run(tmp_path / "plain", {(0, 0): records.flat()}, model="bert"))
    one = read_run(
        records.make_run(tmp_path / "one", {(0, 0): records.flat()}, model="gpt", auxiliary={"hop 1": [300] * 101})
    )
    plot_auxiliary([run, plain, one], score([run, plain, one]), tmp_path / "figure.png")
    panels = [axes for axes in made[0].axes if axes.axison]
    assert [axes.get_title(loc="left") for axes in panels] == ["hop 1", "hop 2", "hop 1"]
    assert [axes.get_ylabel().split("\n")[0] for axes in panels] == ["vit", "", "gpt"]
    assert [axes.get_xlabel() for axes in panels] == ["", "training samples", "training samples"]
    (legend,) = made[0].legends
    assert [text.get_text() for text in legend.get_texts()] == ["rate 1e-3", "rate 2e-3"]


def test_runs_of_other_rates_share_one_legend(run: Run, tmp_path: Path) -> None:
    other = read_run(records.make_run(tmp_path / "other", {(0, 0): records.flat()}, rates=[5e-4, 2e-3]))
    assert list(rate_styles([run, other])) == [5e-4, 1e-3, 2e-3]
