"""The one list of figures that the suite draws of runs; `plot` and the report both read it.

A figure shows each run by itself or the models of each task together. `write_plot` lays its panels out on a figure
as wide as a paper's column or page; the report shows the same panels of every figure in the list.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from multistep_bench.errors import BenchError, NotFound
from multistep_bench.reporting.auxiliary_plots import (
    auxiliary_names,
    draw_auxiliary,
    plot_auxiliary,
    rate_legend,
    rate_styles,
)
from multistep_bench.reporting.compare_plots import CAPTION, compare_panels, plot_compare
from multistep_bench.reporting.curve_plots import curve_legend, draw_curves, plot_curves
from multistep_bench.reporting.diagnostic_plots import (
    attention_legend,
    attention_panels,
    gradient_legend,
    gradient_panels,
    plot_attention,
    plot_gradients,
)
from multistep_bench.reporting.dose_plots import plot_dose
from multistep_bench.reporting.forest_plots import plot_forest
from multistep_bench.reporting.inside_plots import (
    map_panels,
    no_marks,
    plot_maps_of,
    plot_probes_of,
    probe_marks,
    probe_panels,
)
from multistep_bench.reporting.labels import rate_label
from multistep_bench.reporting.paper import on_paper
from multistep_bench.reporting.region_bars import plot_regions, region_legend, region_panels
from multistep_bench.reporting.task_plots import BY_RATE, ROBUSTNESS, SURVIVAL, TaskPanel, plot_by_task
from multistep_bench.runs.store import Run
from multistep_bench.scoring.run import RunScore
from multistep_bench.scoring.score import Score


@dataclass(frozen=True)
class RunPanel:
    """One axes about one run. name: what distinguishes it from the run's other panels; draw: fills the axes."""

    name: str
    draw: Callable[[Axes], None]


@dataclass(frozen=True)
class Plot:
    """A kind of figure, which shows each run by itself, the models of each task together, or compares all runs.

    kind:    its name in `plot --kind` and in the report's addresses. title: its heading.
    text:    what a reader should know of it. {measured} stands for "accuracy", "loss" or both.
    write:   (runs, their score in the same order, path, options by name) → path. path ends in .png, .svg or .pdf, else
             `BenchError`.
    needs:   what at least one run must hold; empty where every run will do. remedy: which runs hold it.
    of_run:  the panels of one run, none where it lacks what is needed. legend: what their marks mean.
    of_task: (runs, their score) → the panels of a task, each given the runs of its models. The report shows no kind
             without panels.
    options: the names of those that `write` takes.
    """

    kind: str
    title: str
    text: str
    write: Callable[..., Path]
    needs: str = ""
    remedy: str = ""
    of_run: Callable[[Run, RunScore], Iterator[RunPanel]] | None = None
    legend: Callable[[Run, RunScore], Mapping[str, Line2D]] | None = None
    of_task: Callable[[Sequence[Run], Score], Sequence[TaskPanel]] | None = None
    options: Sequence[str] = ()


def write_plot(
    kind: str,
    runs: Sequence[Run],
    score: Score,
    path: str | Path,
    *,
    width: str | float | None = None,
    font_size: float | None = None,
    **options: str | None,
) -> Path:
    """Writes the figure of that kind and returns its path.

    runs: those that `score` is of, in its order. path: ends in .png, .svg or .pdf. width: in inches, or "single" or
    "double" for a paper's column or page. font_size: in points. options: of that kind, None for its default.
    Raises `NotFound` for a kind that is not in `PLOTS`, `BenchError` where the runs lack what the figure needs, it
    takes no such option, or it cannot be written.
    """
    kinds = {plot.kind: plot for plot in PLOTS}
    if kind not in kinds:
        raise NotFound("kind of plot", kind, kinds, f"one of {', '.join(kinds)}")
    plot = kinds[kind]
    if plot.needs and plot.of_run and not any(any(plot.of_run(*pair)) for pair in zip(runs, score.runs, strict=True)):
        raise BenchError(
            f"no {plot.needs} stand in {', '.join(str(run.path) for run in runs)}; choose another kind of plot, or"
            f" {plot.remedy}"
        )
    given = {name: value for name, value in options.items() if value is not None}
    for name, value in given.items():
        if name not in plot.options:
            takers = ", ".join(each.kind for each in PLOTS if name in each.options)
            raise BenchError(f"--{name} {value}: a plot of kind {kind} takes no such option; leave it out ({takers})")
    with on_paper(width, font_size):
        return plot.write(runs, score, path, **given)


def _curves(run: Run, scored: RunScore) -> Iterator[RunPanel]:
    for index, rate in enumerate(scored.spec.protocol.learning_rates):
        yield RunPanel(
            f"learning rate {rate_label(rate)}", partial(draw_curves, run=run, scored=scored, rate_index=index)
        )


def _auxiliary(run: Run, scored: RunScore) -> Iterator[RunPanel]:
    for name in auxiliary_names(run):
        yield RunPanel(name, partial(draw_auxiliary, run=run, name=name, styles=rate_styles([run])))


def _named(panels: Callable[[Run, RunScore], Iterator[tuple[str, Callable[[Axes], None]]]]) -> Callable[..., Any]:
    def of_run(run: Run, scored: RunScore) -> Iterator[RunPanel]:
        for name, draw in panels(run, scored):
            yield RunPanel(name, partial(_titled, name=name, draw=draw))

    return of_run


def _titled(axes: Axes, name: str, draw: Callable[[Axes], None]) -> None:
    draw(axes)
    axes.set_title(name, loc="left")


def _by_task(kind: str, title: str, text: str, panels: Sequence[TaskPanel]) -> Plot:
    def write(runs: Sequence[Run], score: Score, path: str | Path) -> Path:
        return plot_by_task(score, path, panels)

    return Plot(kind, title, text, write, of_task=lambda runs, score: panels)


PLOTS = (
    Plot(
        kind="compare",
        title="Models compared",
        text=f"{{measured}} over training samples, {CAPTION}.",
        write=plot_compare,
        of_task=compare_panels,
    ),
    Plot(
        kind="curves",
        title="Curves",
        text="{measured} over training samples: a line is a seed, a star marks its Eureka-moment. Rest the pointer"
        " on a line for its numbers.",
        write=plot_curves,
        of_run=_curves,
        legend=lambda run, scored: curve_legend([scored]),
    ),
    Plot(
        kind="auxiliary",
        title="Auxiliary measurements",
        text="Measured beside the scored {measured} and not scored. Thin lines are seeds, thick lines their means.",
        write=plot_auxiliary,
        needs="auxiliary measurements",
        remedy="a run of a task that has some, such as lookup-v1",
        of_run=_auxiliary,
        legend=lambda run, scored: rate_legend([run]),
    ),
    Plot(
        kind="gradients",
        title="Gradients",
        text="L2 norm of the gradient of W_K, and of W_Q, over that of W_V, geometric mean over layers, on a batch of"
        " held-out items. A line is a cell; shaded is its time on the shortcut, a star marks its Eureka-moment.",
        write=plot_gradients,
        needs="diagnostics of gradients",
        remedy="train one with --diagnostics gradients",
        of_run=_named(gradient_panels),
        legend=gradient_legend,
    ),
    Plot(
        kind="attention_share",
        title="Attention by region",
        text="Share of attention on each region from the token that logits are read from, mean over heads, and the"
        " entropy of attention over all tokens in units of ln n, n the keys a query sees.",
        write=plot_attention,
        needs="diagnostics of attention by region",
        remedy="train one with --diagnostics attention on a task with a layout",
        of_run=_named(attention_panels),
        legend=attention_legend,
    ),
    Plot(
        kind="gradient_regions",
        title="Gradients by region",
        text="L2 norm of the part of the gradient of W_Q, W_K and W_V that comes from the tokens of each region, over"
        " all layers together: before training, on average on the plateau, and just after the Eureka-moment. Means over"
        " the cells of all learning rates with 95 % intervals; the scales of the panels differ.",
        write=plot_regions,
        needs="diagnostics of gradients by region",
        remedy="train one with --diagnostics gradients on a task with a layout",
        of_run=_named(region_panels),
        legend=region_legend,
    ),
    Plot(
        kind="probes",
        title="Linear probes",
        text="Accuracy of a linear probe on held-out items by layer and representation, before and after the"
        " Eureka-moment, with 95 % intervals over seeds, as mstep-bench probe left it in the run's folder.",
        write=plot_probes_of,
        needs="tables of probes",
        remedy="run `mstep-bench probe` on one that was trained with --keep-checkpoints",
        of_run=_named(probe_panels),
        legend=probe_marks,
    ),
    Plot(
        kind="attention",
        title="Attention maps",
        text="Where the token that logits are read from attends in one held-out sample, by layer and head, as"
        " mstep-bench attention left it in the run's folder. Heat is as bright as the largest weight on a patch; black"
        " is weight 1.",
        write=plot_maps_of,
        needs="maps of attention",
        remedy="run `mstep-bench attention` on one that was trained with --keep-checkpoints",
        of_run=_named(map_panels),
        legend=no_marks,
    ),
    _by_task(
        "survival",
        "Survival",
        "Share of cells without a Eureka-moment so far, over all learning rates, with 95 % bands.",
        SURVIVAL,
    ),
    _by_task(
        "rates",
        "By learning rate",
        "Over the seeds at each learning rate, with 95 % intervals. Points are shifted sideways so that none covers"
        " another.",
        BY_RATE,
    ),
    _by_task(
        "robustness",
        "Other thresholds",
        "The same curves scored under lower and higher thresholds, over all learning rates, with 95 % intervals.",
        ROBUSTNESS,
    ),
    Plot(
        kind="dose",
        title="Dose and effect",
        text="Over one option of the model, a line a learning rate, with 95 % intervals; other runs are level lines.",
        write=plot_dose,
        options=("by",),
    ),
    Plot(
        kind="forest",
        title="Effects",
        text="Difference in convergence speed between each run and a reference on its task, with 95 % intervals.",
        write=plot_forest,
        options=("reference",),
    ),
)
