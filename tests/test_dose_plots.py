"""The dose plot: where its points stand, which runs are level lines, and which runs it refuses to join."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import records
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text

from multistep_bench.errors import BenchError
from multistep_bench.reporting import figures
from multistep_bench.reporting.dose_plots import Looks, dose_of, draw_dose, part_doses, plot_dose
from multistep_bench.reporting.plots import write_plot
from multistep_bench.runs.store import Run, read_run
from multistep_bench.scoring.run import score_run
from multistep_bench.scoring.score import score

KEY = "attention_options.temperature"
MODELS = ("plain", "third")
LATE = {(rate, seed): records.jump(0.8) for rate in range(2) for seed in range(3)}


def with_config(folder: Path, curves: dict, config: dict[str, Any], **keys: Any) -> Run:
    run = read_run(records.make_run(folder, curves, **keys))
    model = run.spec.model.model_copy(update={"config": config})
    changes = {f"model.{name}": value for name, value in config.items()}
    spec = run.spec.model_copy(update={"model": model, "changes": changes})
    return read_run(records.write_run(folder, spec, run.records))


@pytest.fixture
def runs(tmp_path: Path) -> list[Run]:
    """Three temperatures, the lower the earlier at the first rate and never at the second, and one other rule."""
    made = []
    for dose, at in ((4.0, 0.6), (0.25, 0.2), (1.0, 0.4)):
        curves = {(0, seed): records.jump(at) for seed in range(3)} | {(1, seed): records.flat() for seed in range(3)}
        made.append(with_config(tmp_path / f"{dose}", curves, {"attention_options": {"temperature": dose}}))
    return [*made, with_config(tmp_path / "plain", LATE, {}, model="plain")]


def legend_entries(figure: Figure) -> Iterator[tuple[Text, Line2D]]:
    (legend,) = figure.legends
    return zip(legend.get_texts(), legend.get_lines(), strict=True)


def look(line: Line2D) -> tuple[object, object]:
    return line.get_color(), line.get_linestyle()


def drawn(runs: list[Run], quantity: str) -> Axes:
    members = [(run.spec.model.name, score_run(run)) for run in runs]
    with figures.style():
        axes = figures.new_figure(3, 2).subplots()
        doses, others = part_doses(members, KEY)
        draw_dose(axes, doses, others, quantity, KEY, Looks.of([(doses, others)]))
    return axes


def test_a_line_a_rate_and_one_over_all_stand_at_the_doses_with_the_intervals_of_the_score(runs: list[Run]) -> None:
    axes = drawn(runs, "speed")
    named = {container.get_label(): container.lines for container in axes.containers}  # type: ignore[attr-defined]
    assert list(named) == ["learning rate 1e-3", "learning rate 2e-3", "all rates"]
    first, second, whole = (lines[0] for lines in named.values())
    assert first.get_ydata() == pytest.approx([0.8, 0.6, 0.4])  # by rising dose, 1 − time/budget
    assert second.get_ydata() == pytest.approx([0, 0, 0])
    assert whole.get_ydata() == pytest.approx([0.4, 0.3, 0.2])
    assert list(whole.get_xdata()) == [0.25, 1, 4]
    assert np.all(np.diff([first.get_xdata(), whole.get_xdata(), second.get_xdata()], axis=0) > 0)  # none is covered
    (bars,) = named["all rates"][2]
    grid = score_run(runs[1]).grid.speed
    assert bars.get_segments()[0][:, 1] == pytest.approx([grid.low, grid.high])
    assert axes.get_xscale() == "log"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0.25", "1", "4"]


def test_a_run_without_a_dose_is_a_level_line_over_all_rates(runs: list[Run]) -> None:
    for quantity, value in (("speed", 0.2), ("probability", 1.0)):
        (level,) = [line for line in drawn(runs, quantity).get_lines() if line.get_label() == "plain"]
        assert list(np.asarray(level.get_ydata())) == pytest.approx([value, value])


def test_a_line_looks_as_the_legend_says_in_every_row(runs: list[Run], tmp_path: Path) -> None:
    """Two tasks whose learning rates overlap at another place, and whose runs without a dose come in another order."""
    other = {"task": {"id": "other-v1"}, "rates": (5e-4, 1e-3)}
    first = [*runs, with_config(tmp_path / "third", LATE, {}, model="third")]
    second = [with_config(tmp_path / f"other_{name}", LATE, {}, model=name, **other) for name in ("third", "plain")]
    for dose in (1.0, 2.0):
        second.append(
            with_config(tmp_path / f"other_{dose}", LATE, {"attention_options": {"temperature": dose}}, **other)
        )
    every = [*first, *second]
    with figures.collected() as found:
        plot_dose(every, score(every), tmp_path / "dose.png", by=KEY)
    told = {text.get_text(): line for text, line in legend_entries(found[0])}
    seen = set()
    for axes in found[0].axes:
        lines = {str(each.get_label()): each.lines[0] for each in axes.containers}  # type: ignore[attr-defined]
        lines |= {f"{each.get_label()}, all rates": each for each in axes.get_lines() if each.get_label() in MODELS}
        for name, line in lines.items():
            assert look(line) == look(told[name]), name
        seen |= lines.keys()
    assert seen == told.keys()
    assert {f"learning rate {rate}" for rate in ("5e-4", "1e-3", "2e-3")} <= seen


def test_the_dose_is_a_number_at_a_dotted_key(runs: list[Run]) -> None:
    spec = runs[0].spec
    assert dose_of(spec, KEY) == 4
    assert dose_of(spec, "attention_options") is None
    assert dose_of(spec, "attention_options.temperature.more") is None
    switched = spec.model_copy(update={"model": spec.model.model_copy(update={"config": {"causal": True}})})
    assert dose_of(switched, "causal") is None  # a switch is no number


def test_runs_that_do_not_belong_on_one_line_are_refused(runs: list[Run], tmp_path: Path) -> None:
    def refused(others: list[Run], message: str, by: str | None = KEY) -> None:
        with pytest.raises(BenchError, match=message):
            plot_dose(others, score(others), tmp_path / "dose.png", by=by)
        assert not (tmp_path / "dose.png").exists()

    wider = with_config(tmp_path / "wider", LATE, {"attention_options": {"temperature": 2.0}, "width": 8})
    twin = with_config(tmp_path / "twin", LATE, {"attention_options": {"temperature": 1.0}}, model="twin")
    longer = with_config(tmp_path / "longer", LATE, {}, model="longer", protocol={"budget": 200_000})
    refused(runs, "needs the option it is drawn by; give --by KEY", None)
    refused(runs, "no run on steps-v1 quick has a number at depth", "depth")
    refused([*runs, wider], r"temperature = (2|0.25) on steps-v1 quick differs from the others in more than that")
    refused([*runs, twin], "two runs on steps-v1 quick have attention_options.temperature = 1; leave one of them out")
    refused([*runs, longer], "runs on steps-v1 quick have different protocols")


def test_a_default_that_a_card_names_is_no_difference(tmp_path: Path) -> None:
    """The card of gpt_tau names softmax attention, that of gpt leaves it out."""
    configs: list[dict[str, Any]] = [
        {"causal": True, "attention_options": {"temperature": 2.0}},
        {"causal": True, "attention": "softmax", "attention_options": {"temperature": 1.0}},
        {"causal": True, "attention": "sigmoid", "attention_options": {"temperature": 4.0}},
    ]
    members = []
    for index, config in enumerate(configs):
        run = with_config(tmp_path / f"{index}", LATE, config)
        model = run.spec.model.model_copy(update={"builder": "sequence"})
        members.append((run.path.name, replace(score_run(run), spec=run.spec.model_copy(update={"model": model}))))
    doses, _ = part_doses(members[:2], KEY)
    assert [dose for dose, _ in doses] == [1, 2]
    with pytest.raises(BenchError, match="temperature = 4 on steps-v1 quick differs from the others in more than that"):
        part_doses(members, KEY)


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_the_same_runs_give_the_same_file(runs: list[Run], ending: str, tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.{ending}" for name in ("a", "b")]
    for path in paths:
        write_plot("dose", runs, score(runs), path, by=f"model.{KEY}", reference=None)
    assert paths[0].read_bytes() == paths[1].read_bytes()
