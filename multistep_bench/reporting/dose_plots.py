"""The dose plot: p and S against one numeric option of a model, such as the temperature of its attention."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from multistep_bench.errors import BenchError
from multistep_bench.reporting import figures
from multistep_bench.reporting.figures import INK, MUTED, PAGE, PANEL_HEIGHT, Look, figure_legend
from multistep_bench.reporting.labels import rate_label, run_labels, task_label
from multistep_bench.reporting.task_plots import QUANTITIES, draw_intervals
from multistep_bench.runs.spec import RunSpec
from multistep_bench.runs.store import Run
from multistep_bench.scoring.run import RunScore
from multistep_bench.scoring.score import Score

LOG_FROM = 8  # times the smallest dose, from which on the axis is logarithmic
ALL_RATES: Look = {"color": INK, "linestyle": "-"}
LEVELS = ("--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 4)), (0, (8, 3)))  # of runs without a dose

Dosed = Sequence[tuple[float, RunScore]]  # by rising dose
Named = Sequence[tuple[str, RunScore]]


def plot_dose(runs: Sequence[Run], score: Score, path: str | Path, *, by: str | None = None) -> Path:
    """Writes p and S against a model option, a row a task; returns the path.

    by: the option, as in "model.attention_options.temperature". Runs whose model has a number there are the doses, a
    line a learning rate and one over all rates, with the suite's intervals; the others are drawn as horizontal lines.
    Raises `BenchError` for runs that cannot share a line: two of one dose, other protocols, or other options beside.
    """
    if by is None:
        raise BenchError(
            "a dose plot needs the option it is drawn by; give --by KEY, as in attention_options.temperature"
        )
    key = by.removeprefix("model.")
    labels = run_labels(score.runs)
    groups: dict[str, list[tuple[str, RunScore]]] = {}
    for label, run in zip(labels, score.runs, strict=True):
        groups.setdefault(task_label(run.spec), []).append((label, run))
    return write_doses({task: part_doses(members, key) for task, members in groups.items()}, key, path)


def write_doses(
    parted: Mapping[str, tuple[Dosed, Named]], key: str, path: str | Path, *, source: str | None = None
) -> Path:
    """Writes the dose plot of what `part_doses` made of each task, by task; source: see `figures.save`."""
    with figures.style():
        figure = figures.new_figure(PAGE, (PANEL_HEIGHT + 0.4) * len(parted) + 0.6)
        grid = figure.subplots(len(parted), len(QUANTITIES), squeeze=False)
        for row, (task, (doses, others)) in zip(grid, parted.items(), strict=True):
            for axes, quantity in zip(row, QUANTITIES, strict=True):
                draw_dose(axes, doses, others, quantity, key)
            row[0].set_title(task, loc="left")
        figure_legend(figure, _legend(parted.values()))
        return figures.save(figure, path, source=source)


def dose_of(spec: RunSpec, key: str) -> float | None:
    """The number that a dotted key has in the model's options, or None where it has none."""
    value: Any = spec.model.config
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def part_doses(members: Named, key: str) -> tuple[Dosed, Named]:
    """The runs of a task that have a dose, by rising dose, and the others; raises `BenchError` as `plot_dose` says."""
    doses: dict[float, RunScore] = {}
    others: list[tuple[str, RunScore]] = []
    for label, run in members:
        dose = dose_of(run.spec, key)
        if dose is None:
            others.append((label, run))
            continue
        if dose in doses:
            raise BenchError(f"two runs on {task_label(run.spec)} have {key} = {dose:g}; leave one of them out")
        doses[dose] = run
    if not doses:
        task = task_label(members[0][1].spec)
        raise BenchError(f"no run on {task} has a number at {key}; name an option that --set model.KEY changed")
    first = next(iter(doses.values())).spec
    for _, run in members:
        if run.spec.protocol != first.protocol:
            raise BenchError(f"runs on {task_label(first)} have different protocols; draw those of one protocol")
    for dose, run in doses.items():
        if _beside(run.spec, key) != _beside(first, key):
            raise BenchError(
                f"the run with {key} = {dose:g} on {task_label(first)} differs from the others in more than that;"
                " draw runs that differ in one option"
            )
    return sorted(doses.items()), others


def _beside(spec: RunSpec, key: str) -> tuple[object, ...]:
    """What a model is apart from the option."""

    def without(config: Mapping[str, Any], parts: Sequence[str]) -> dict[str, Any]:
        rest = {name: value for name, value in config.items() if name != parts[0]}
        inner = config.get(parts[0])
        return rest | ({parts[0]: without(inner, parts[1:])} if len(parts) > 1 and isinstance(inner, Mapping) else {})

    return spec.model.builder, without(spec.model.config, key.split(".")), spec.model.recipe


def draw_dose(axes: Axes, doses: Dosed, others: Named, quantity: str, key: str) -> None:
    """p or S (`QUANTITIES`) of each learning rate over the doses, and over all rates; other runs over all rates."""
    values = [dose for dose, _ in doses]
    logarithmic = values[0] > 0 and values[-1] >= LOG_FROM * values[0]
    span = values[-1] - values[0] or 1.0
    looks = _rate_looks(doses[0][1])
    for index, (rate, look) in enumerate(looks.items()):
        shift = (index - (len(looks) - 1) / 2) * 0.035
        moved = [x * 10**shift if logarithmic else x + shift * span for x in values]
        scores = [getattr(run.by_rate[index], quantity) for _, run in doses]
        draw_intervals(axes, moved, scores, rate, look)
    if len(looks) > 1:
        draw_intervals(axes, values, [getattr(run.grid, quantity) for _, run in doses], "all rates", ALL_RATES)
    for index, (label, run) in enumerate(others):
        score = getattr(run.grid, quantity)
        if score is not None:
            axes.axhline(score.estimate, color=MUTED, linestyle=LEVELS[index % len(LEVELS)], label=label, zorder=1)
    if logarithmic:
        axes.set_xscale("log")
    axes.set_xticks(values, [f"{value:.3g}" for value in values])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(key)
    axes.set_ylabel(QUANTITIES[quantity])


def _rate_looks(run: RunScore) -> dict[str, Look]:
    rates = run.spec.protocol.learning_rates
    return {f"learning rate {rate_label(rate)}": figures.series_style(index) for index, rate in enumerate(rates)}


def _legend(parted: Iterable[tuple[Dosed, Named]]) -> dict[str, Line2D]:
    """Names of all lines; a rate or a run that stands in several rows is named once."""
    entries: dict[str, Line2D] = {}
    for doses, others in parted:
        looks = _rate_looks(doses[0][1])
        entries |= {name: Line2D([], [], **look) for name, look in looks.items()}
        if len(looks) > 1:
            entries["all rates"] = Line2D([], [], **ALL_RATES)
        for index, (label, _) in enumerate(others):
            entries[f"{label}, all rates"] = Line2D([], [], color=MUTED, linestyle=LEVELS[index % len(LEVELS)])
    return entries
