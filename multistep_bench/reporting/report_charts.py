"""The report's figures: the panels of every plot in the list, as inline SVG with legends."""

import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes

from multistep_bench.reporting import figures
from multistep_bench.reporting.labels import measured, number, task_label
from multistep_bench.reporting.plots import PLOTS, Plot
from multistep_bench.reporting.task_plots import OVERLAID, Styled, TaskPanel, by_task, draw_one_of_many
from multistep_bench.reporting.ticks import end_on_ticks
from multistep_bench.runs.spec import RunSpec
from multistep_bench.runs.store import Run
from multistep_bench.scoring.cell_set import CellScore
from multistep_bench.scoring.run import RunScore
from multistep_bench.scoring.score import Score

RUN_SIZE = 3.1, 2.0  # inches: three beside one another on a wide screen
TASK_SIZE = 4.2, 2.5  # two beside one another


def sections(
    runs: Sequence[Run], score: Score, labels: Sequence[str], models: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    """A section of the page for each plot in the list that has panels of these runs.

    runs: those that `score` is of, in its order; labels: their names; models: what the page's toggles know a name by.
    """
    for plot in PLOTS:
        if plot.of_run is not None:
            each = zip(runs, score.runs, labels, strict=True)
            groups = [group for entry in each if (group := _run_group(plot, *entry, models))["panels"]]
        else:
            groups = list(_task_groups(plot, plot.of_task(runs, score), score, models)) if plot.of_task else []
        if groups:
            text = plot.text.format(measured=measured(run.spec for run in score.runs))
            text = text[0].upper() + text[1:]
            wide = plot.of_run is None
            yield {"id": plot.kind, "title": plot.title, "text": text, "groups": groups, "wide": wide}


def _run_group(plot: Plot, run: Run, scored: RunScore, label: str, models: Mapping[str, str]) -> dict[str, Any]:
    """What a plot shows of one run."""
    assert plot.of_run is not None
    assert plot.legend is not None
    task, shown = task_label(run.spec), measured([run.spec])
    titles = {cell.cell.name: _cell_title(cell, shown) for cell in scored.cells}
    name = f"{shown.capitalize()} curves of {label}, {task}"
    panels = [
        {"svg": _chart(f"{name}, {panel.name}", panel.draw, RUN_SIZE, titles), "model": None}
        for panel in plot.of_run(run, scored)
    ]
    lines = plot.legend(run, scored).items() if panels else ()
    legend = _legend((entry, line.get_color(), line.get_linestyle()) for entry, line in lines)
    group = {"label": label, "task": task, "levels": _levels(run.spec), "legend": legend, "panels": panels}
    return {**group, "model": models[label], "named": _named(panels)}


def _named(panels: Sequence[dict[str, Any]]) -> bool:
    """Whether any line of the panels has a text of its own."""
    return any("<title>" in panel["svg"] for panel in panels)


def _task_groups(
    plot: Plot, panels: Sequence[TaskPanel], score: Score, models: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    """What a plot shows of each task: up to `OVERLAID` models together, of more each in a panel of its own."""
    for task, plain in by_task(score.runs).items():
        styled = [(run, label, {**look, "gid": models[label]}) for run, label, look in plain]
        small = len(styled) > OVERLAID
        shown = [
            {"svg": _chart(f"{plot.title}, {task}, panel {index + 1}{name}", draw, size), "model": model}
            for index, panel in enumerate(panels)
            for name, model, draw, size in (_of_each(panel, styled, models) if small else _of_all(panel, styled))
        ]
        legend = () if small else _legend((label, look["color"], look["linestyle"]) for _, label, look in styled)
        for entry in legend:
            entry["model"] = models[entry["name"]]
        group = {"label": None, "task": task, "levels": None, "legend": legend, "panels": shown}
        yield {**group, "model": None, "named": False}


Drawn = Iterator[tuple[str, str | None, Callable[[Axes], None], tuple[float, float]]]  # name, model, draw, size


def _of_all(panel: TaskPanel, styled: Styled) -> Drawn:
    def draw(axes: Axes) -> None:
        panel(axes, styled, ())
        end_on_ticks(axes)

    yield "", None, draw, TASK_SIZE


def _of_each(panel: TaskPanel, styled: Styled, models: Mapping[str, str]) -> Drawn:
    def of_one(number: int) -> Callable[[Axes], None]:
        def draw(axes: Axes) -> None:
            draw_one_of_many(axes, panel, styled, number)
            axes.set_title(textwrap.fill(styled[number][1], 40), loc="left")

        return draw

    for index, (_, label, _) in enumerate(styled):
        yield f", {label}", models[label], of_one(index), RUN_SIZE


def _levels(spec: RunSpec) -> str:
    levels = spec.task.levels
    named = {"chance": levels.chance, "shortcut": levels.shortcut}
    named |= {"threshold": levels.threshold(spec.task.scoring.threshold_fraction), "ceiling": levels.ceiling}
    return ", ".join(f"{name} {number(level)}" for name, level in named.items())


def _cell_title(cell: CellScore, measured: str) -> str:
    if cell.problem is not None:
        return f"seed {cell.cell.seed_index}, {cell.problem}"
    event = "no Eureka-moment" if cell.curve.eureka is None else f"Eureka-moment at {cell.curve.eureka:,.0f}"
    return f"seed {cell.cell.seed_index}, {event}, final {measured} {number(cell.curve.final_accuracy)}"


def _chart(
    name: str, draw: Callable[[Any], None], size: tuple[float, float], titles: Mapping[str, str] | None = None
) -> Markup:
    """One axes as inline SVG; the name is unique in the report."""
    with figures.style(**{"svg.fonttype": "none", "svg.hashsalt": name}):
        figure = figures.new_figure(*size)
        draw(figure.subplots())
        return Markup(figures.inline_svg(figure, name, titles or {}))


def _legend(entries: Iterable[tuple[str, Any, Any]]) -> list[dict[str, str]]:
    """Names with colours and lines of matplotlib, as the page's variables and CSS name them."""
    lines = {"-": "solid", "--": "dashed", ":": "dotted", "-.": "dashed", "None": "solid"}  # None: a mark alone
    return [
        {"name": name, "colour": figures.PAGE_COLOURS[colour], "line": lines[line], "model": ""}
        for name, colour, line in entries
    ]
