"""The forest plot: how much faster each run is than a reference on its task, a row a run."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from multistep_bench.errors import BenchError
from multistep_bench.reporting import figures
from multistep_bench.reporting.figures import INK, MUTED, PAGE, PAPER, SERIES, Look, figure_legend
from multistep_bench.reporting.labels import run_labels, task_label
from multistep_bench.reporting.paper import paper
from multistep_bench.reporting.references import Results, split_name
from multistep_bench.runs.store import Run
from multistep_bench.scoring.comparable import refusals
from multistep_bench.scoring.compare import compare_scores
from multistep_bench.scoring.holm import holm
from multistep_bench.scoring.run import RunScore
from multistep_bench.scoring.score import Score
from multistep_bench.scoring.statistics import Interval
from multistep_bench.strict import content_sha256

SIGNIFICANT = 0.05
ROW_HEIGHT = 0.155  # inches
FRAME_HEIGHT = 0.9  # of the axis below and the legend
COLUMN_LINES = 60  # more rows and names of tasks than that stand in two columns


@dataclass(frozen=True)
class ForestRow:
    """One run against its reference on the same task.

    effect: ΔS = S − S of the reference, with its 95 % interval. p: of the permutation test of ΔS, corrected by Holm for
    the comparisons of the same task and protocol. n, n_reference: cells.
    """

    task: str
    label: str
    reference: str
    effect: Interval
    p: float
    n: int
    n_reference: int


def plot_forest(runs: Sequence[Run], score: Score, path: str | Path, *, reference: str | None = None) -> Path:
    """Writes the forest plot of runs and returns its path.

    runs: those that `score` is of, in its order. path: ends in .png, .svg or .pdf. reference: see `forest_rows`.
    Raises `BenchError` where there is nothing to compare or the figure cannot be written.
    """
    left_out: list[str] = []
    return write_forest(forest_rows(runs, score, reference, left_out), path, left_out)


def forest_rows(
    runs: Sequence[Run], score: Score, reference: str | None = None, left_out: list[str] | None = None
) -> list[ForestRow]:
    """Each run against the reference run of its task and protocol, in the order given.

    reference: a model's name; by default the plain model of a run's family, such as "vit" for "vit_tau".
    left_out:  takes a sentence for each run that cannot be compared, with another budget, say.
    Raises `BenchError` for a run without a reference, or where no run is left to compare.
    """
    labels = run_labels(score.runs)
    tasks = [task_label(run.spec) for run in score.runs]
    pairs: dict[str, list[tuple[int, int]]] = {}
    for index, run in enumerate(runs):
        wanted = reference or split_name(run.spec.model.name)[0]
        same = [i for i, other in enumerate(runs) if tasks[i] == tasks[index] and other.spec.model.name == wanted]
        if not same:
            raise BenchError(
                f"no run of '{wanted}' on {tasks[index]} stands beside {run.path}; give one, or another --reference"
            )
        first = _unchanged(runs, same)
        if reasons := list(refusals(run.spec, runs[first].spec)):
            sentence = f"{labels[index]} cannot be compared with {labels[first]}: {'; '.join(reasons)}"
            if left_out is None:
                raise BenchError(sentence)
            left_out.append(sentence)
        elif first != index:
            pairs.setdefault(tasks[index], []).append((index, first))
    if not pairs and left_out:
        raise BenchError(f"a forest plot has nothing to show: {'; '.join(left_out)}")
    if not pairs:
        raise BenchError("a forest plot compares runs with a reference, and only references were given; add other runs")
    return [row for task, members in pairs.items() for row in _task_rows(task, score.runs, labels, members)]


def _unchanged(runs: Sequence[Run], indices: Sequence[int]) -> int:
    """Of several runs of a model the one whose model is as its card says, else the first."""
    changed = [any(key.startswith(("model.", "recipe.")) for key in runs[index].spec.changes) for index in indices]
    return indices[changed.index(False) if False in changed else 0]


def _task_rows(
    task: str, runs: Sequence[RunScore], labels: Sequence[str], pairs: Sequence[tuple[int, int]]
) -> list[ForestRow]:
    compared = [compare_scores(runs[index], runs[other]).grid for index, other in pairs]
    corrected = holm([each.permutation for each in compared])
    return [
        ForestRow(task, labels[index], labels[other], each.speed, p, each.n_a, each.n_b)
        for (index, other), each, p in zip(pairs, compared, corrected, strict=True)
    ]


def reference_rows(results: Results, protocol: str) -> list[ForestRow]:
    """The rows of the committed runs under one protocol, each against the plain model of its family."""
    return [
        ForestRow(
            task=f"{task} {protocol}",
            label=entry.model,
            reference=split_name(entry.model)[0],
            effect=entry.comparison.speed,
            p=entry.corrected_p,
            n=entry.comparison.n_a,
            n_reference=entry.comparison.n_b,
        )
        for (task, name), entries in results.items()
        for entry in entries
        if name == protocol and not entry.variant and entry.comparison is not None and entry.corrected_p is not None
    ]


def rows_sha256(rows: Sequence[ForestRow]) -> str:
    """A hash of what a forest plot shows, effects to six places; the figure carries it as its source."""
    shown = [asdict(row) for row in rows]
    for row in shown:
        row["effect"] = {name: f"{value:.6f}" for name, value in row["effect"].items()}
        row["p"] = f"{row['p']:.6f}"
    return content_sha256(shown)


def write_forest(rows: Sequence[ForestRow], path: str | Path, left_out: Sequence[str] = ()) -> Path:
    """Writes the forest plot of rows and returns its path; a PNG carries `rows_sha256` as its description.

    left_out: sentences that stand above the legend.
    """
    columns = _columns(rows)
    lines = max(map(_lines, columns))
    with figures.style():
        figure = figures.new_figure(PAGE, lines * ROW_HEIGHT + FRAME_HEIGHT)
        panels = figure.subplots(1, len(columns), sharex=True, squeeze=False)[0]
        for axes, column in zip(panels, columns, strict=True):
            draw_forest(axes, column)
            axes.set_ylim(bottom=0.4 - lines)
        _name_axis(panels)
        figure_legend(
            figure,
            {
                f"p < {SIGNIFICANT}, Holm's correction within a task": Line2D([], [], **_mark(significant=True)),
                "not significant": Line2D([], [], **_mark(significant=False)),
            },
            "; ".join(left_out) or None,
        )
        return figures.save(figure, path, source=rows_sha256(rows))


def _columns(rows: Sequence[ForestRow]) -> list[list[ForestRow]]:
    """The rows of whole tasks in one column, or in two of about one height where that is too high and the page wide."""
    tasks = [[row for row in rows if row.task == task] for task in dict.fromkeys(row.task for row in rows)]
    if _lines(rows) <= COLUMN_LINES or len(tasks) == 1 or (paper().width or PAGE) < PAGE:
        return [list(rows)]
    splits = [[list(chain(*part)) for part in (tasks[:index], tasks[index:])] for index in range(1, len(tasks))]
    return min(splits, key=lambda columns: max(map(_lines, columns)))


def _lines(rows: Sequence[ForestRow]) -> int:
    return len(rows) + len({row.task for row in rows})


def _name_axis(panels: Sequence[Axes]) -> None:
    """Names the shared horizontal axis of panels and ends it on ticks; two panels leave less room for both."""
    wide = len(panels) == 1
    locator = MaxNLocator(6 if wide else 4, steps=[1, 2, 5, 10])
    ends = locator.tick_values(*panels[0].get_xlim())
    name, than = ("ΔS, difference in convergence speed", " than the reference") if wide else ("ΔS", "")
    for axes in panels:
        axes.xaxis.set_major_locator(locator)
        axes.set_xlim(ends[0], ends[-1])
        axes.set_xlabel(f"{name}\n← slower{than}, faster →")


def draw_forest(axes: Axes, rows: Sequence[ForestRow]) -> None:
    """ΔS and its interval of every row below the name of its task; a filled mark is a significant difference."""
    ticks: list[tuple[int, str, str]] = []  # height, text, colour
    task = None
    for row in rows:
        if row.task != task:
            task = row.task
            ticks.append((-len(ticks), task, INK))
        height = -len(ticks)
        ticks.append((height, f"{row.label} − {row.reference}  (n {row.n}, {row.n_reference})", MUTED))
        effect = row.effect
        ends = [[effect.estimate - effect.low], [effect.high - effect.estimate]]
        axes.errorbar([effect.estimate], [height], xerr=ends, capsize=1.5, **_mark(significant=row.p < SIGNIFICANT))
    axes.axvline(0, color=MUTED, linewidth=0.8, zorder=0)
    axes.set_yticks([height for height, _, _ in ticks], [text for _, text, _ in ticks])
    for label, (_, _, colour) in zip(axes.get_yticklabels(), ticks, strict=True):
        label.set_color(colour)
        label.set_fontweight("bold" if colour == INK else "normal")
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(-len(ticks) + 0.4, 0.6)
    axes.spines["left"].set_visible(False)


def _mark(*, significant: bool) -> Look:
    return {
        "color": SERIES[0],
        "marker": "o",
        "markersize": 3.5,
        "markerfacecolor": SERIES[0] if significant else PAPER,
        "linewidth": 1,
        "linestyle": "none",
    }
