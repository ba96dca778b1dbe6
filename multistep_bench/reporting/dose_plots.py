"""The dose plot: p and S against one numeric option of a model, such as the temperature of its attention."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from multistep_bench.errors import BenchError
from multistep_bench.registry import models
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
        looks = Looks.of(parted.values())
        for row, (task, (doses, others)) in zip(grid, parted.items(), strict=True):
            for axes, quantity in zip(row, QUANTITIES, strict=True):
                draw_dose(axes, doses, others, quantity, key, looks)
            row[0].set_title(task, loc="left")
        figure_legend(figure, looks.legend())
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

    config = {**_defaults(spec.model.builder), **spec.model.config}  # one card may name what another leaves out
    return spec.model.builder, without(config, key.split(".")), spec.model.recipe


def _defaults(builder: str) -> dict[str, Any]:
    """Of a model that ships with the suite; no other is imported."""
    if builder not in models.builtin:
        return {}
    parameters = signature(models.get(builder)).parameters
    return {name: each.default for name, each in parameters.items() if each.default is not each.empty}


@dataclass(frozen=True)
class Looks:
    """How the lines of a figure look: one look a learning rate and one a run without a dose, in every row the same."""

    rates: Mapping[float, Look]
    others: Mapping[str, Look]
    whole: bool  # some row has several rates, and with them a line over all

    @classmethod
    def of(cls, parted: Collection[tuple[Dosed, Named]]) -> "Looks":
        by_row = [doses[0][1].spec.protocol.learning_rates for doses, _ in parted]
        labels = dict.fromkeys(label for _, others in parted for label, _ in others)
        levels = {
            label: {"color": MUTED, "linestyle": LEVELS[index % len(LEVELS)]} for index, label in enumerate(labels)
        }
        rates = figures.series_styles(sorted({rate for rates in by_row for rate in rates}))
        return cls(rates, levels, any(len(rates) > 1 for rates in by_row))

    def legend(self) -> dict[str, Line2D]:
        """Names of all lines."""
        entries = {_rate_name(rate): Line2D([], [], **look) for rate, look in self.rates.items()}
        if self.whole:
            entries["all rates"] = Line2D([], [], **ALL_RATES)
        return entries | {f"{label}, all rates": Line2D([], [], **look) for label, look in self.others.items()}


def _rate_name(rate: float) -> str:
    return f"learning rate {rate_label(rate)}"


def draw_dose(axes: Axes, doses: Dosed, others: Named, quantity: str, key: str, looks: Looks) -> None:
    """p or S (`QUANTITIES`) of each learning rate over the doses, and over all rates; other runs over all rates."""
    values = [dose for dose, _ in doses]
    logarithmic = values[0] > 0 and values[-1] >= LOG_FROM * values[0]
    span = values[-1] - values[0] or 1.0
    rates = doses[0][1].spec.protocol.learning_rates
    for index, rate in enumerate(rates):
        shift = (index - (len(rates) - 1) / 2) * 0.035
        moved = [x * 10**shift if logarithmic else x + shift * span for x in values]
        scores = [getattr(run.by_rate[index], quantity) for _, run in doses]
        draw_intervals(axes, moved, scores, _rate_name(rate), looks.rates[rate])
    if len(rates) > 1:
        draw_intervals(axes, values, [getattr(run.grid, quantity) for _, run in doses], "all rates", ALL_RATES)
    for label, run in others:
        score = getattr(run.grid, quantity)
        if score is not None:
            axes.axhline(score.estimate, label=label, zorder=1, **looks.others[label])
    if logarithmic:
        axes.set_xscale("log")
    axes.set_xticks(values, [f"{value:.3g}" for value in values])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(key)
    axes.set_ylabel(QUANTITIES[quantity])
