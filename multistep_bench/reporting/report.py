"""The report: one HTML file with every score, curve and specification of some runs, readable without a network."""

import base64
import hashlib
import json
import shlex
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from multistep_bench import __version__
from multistep_bench.errors import BenchError, RunError
from multistep_bench.reporting import figures, plots
from multistep_bench.reporting.auxiliary_plots import auxiliary_names, draw_auxiliary, rate_name, rate_styles
from multistep_bench.reporting.labels import (
    changes_label,
    counted,
    duration,
    measured,
    number,
    rate_label,
    run_labels,
    seeds_needed,
    task_label,
)
from multistep_bench.runs.spec import RunSpec
from multistep_bench.runs.store import Run
from multistep_bench.scoring.cell_set import CellScore
from multistep_bench.scoring.compare import compare
from multistep_bench.scoring.run import RunScore
from multistep_bench.scoring.score import SCORER_VERSION, Score

SECTIONS = {
    "summary": "Summary",
    "curves": "Curves",
    "survival": "Survival",
    "rates": "By learning rate",
    "robustness": "Other thresholds",
    "cells": "Every cell",
    "reproduce": "How to reproduce",
}
CURVES_SIZE = 3.1, 2.0  # inches: three beside one another on a wide screen
CHART_SIZE = 4.2, 2.5  # two beside one another


def write_report(runs: Sequence[Run], score: Score, path: str | Path) -> Path:
    """Writes the report of runs and returns its path.

    runs: those that `score` is of, in its order. path: ends in .html.
    The file asks for nothing outside itself, and all text in it is escaped. Raises `BenchError` where it cannot
    be written.
    """
    path = Path(path)
    if path.suffix.lower() not in (".html", ".htm"):
        raise BenchError(f"a report cannot be written as '{path.name}'; end the name in .html")
    page = _environment().from_string(_file("report.html.j2")).render(_content(runs, score))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise BenchError(f"the report {path} cannot be written: {error.strerror}; choose another place") from error
    return path


def _environment() -> Environment:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters |= {
        "number": number,
        "rate": rate_label,
        "count": lambda value: "–" if value is None else f"{value:,.0f}",
        "duration": lambda value: "–" if value is None else duration(value),
    }
    return environment


def _file(name: str) -> str:
    return resources.files("multistep_bench.reporting").joinpath(name).read_text(encoding="utf-8")


def _content(runs: Sequence[Run], score: Score) -> dict[str, Any]:
    """What the template shows."""
    script = _file("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    tasks = plots.by_task(score.runs)
    labels = run_labels(score.runs)
    marks = plots.curve_legend(score.runs)
    return {
        "title": f"{_counted(dict.fromkeys(labels), 'models')} on {_counted(tasks, 'tasks')}",
        "lead": f"{len(runs)} run{'s' * (len(runs) > 1)} scored by multistep-bench {__version__} (scorer"
        f" {SCORER_VERSION}). Brackets are 95 % intervals, times are training samples.",
        "sections": SECTIONS.items(),
        "measured": measured(run.spec for run in score.runs),
        "runs": [_run(*entry) for entry in zip(runs, score.runs, labels, strict=True)],
        "several_tasks": len(tasks) > 1,
        "notes": _notes(score.runs, labels, len(tasks) > 1),
        "comparisons": list(_comparisons(runs)),
        "overall": score.overall,
        "curve_legend": _legend((name, line.get_color(), line.get_linestyle()) for name, line in marks.items()),
        "charts": list(_charts(tasks)),
        "css": Markup(_file("report.css")),
        "js": Markup(script),
        "script_hash": f"sha256-{digest}",
    }


def _counted(names: Collection[str], noun: str) -> str:
    return " and ".join(names) if len(names) < 3 else f"{len(names)} {noun}"


def _run(run: Run, scored: RunScore, label: str) -> dict[str, Any]:
    spec = run.spec
    levels, threshold = spec.task.levels, spec.task.levels.threshold(spec.task.scoring.threshold_fraction)
    known = [("chance", levels.chance), ("shortcut", levels.shortcut), ("threshold", threshold)]
    return {
        "label": label,
        "task": task_label(spec),
        "score": scored,
        "cells": [cell for cells in scored.cells_by_rate for cell in cells],
        "by_rate": list(zip(spec.protocol.learning_rates, scored.by_rate, strict=True)),
        "levels": ", ".join(f"{name} {number(level)}" for name, level in [*known, ("ceiling", levels.ceiling)]),
        "curves": [_curves(run, scored, label, index) for index in range(len(scored.by_rate))],
        "auxiliary": [_auxiliary(run, label, name) for name in auxiliary_names(run)],
        "rate_legend": _legend(
            (rate_name(rate), look["color"], look["linestyle"]) for rate, look in rate_styles([run]).items()
        ),
        "command": run_command(spec),
        "setups": setups(run),
        "sha256": spec.identity(),
        "spec": json.dumps(spec.dump(), indent=2, ensure_ascii=False),
    }


def _notes(runs: Sequence[RunScore], labels: Sequence[str], several_tasks: bool) -> list[str]:
    """What a reader should know before quoting a number, each once, after the runs it is about."""
    about: dict[str, list[str]] = {}
    for run, label in zip(runs, labels, strict=True):
        for note in _notes_on(run):
            about.setdefault(note, []).append(f"{label} on {task_label(run.spec)}" if several_tasks else label)
    return [f"{', '.join(names)}: {note}" for note, names in about.items()]


def _notes_on(run: RunScore) -> Iterator[str]:
    protocol = run.spec.protocol
    if run.problems:
        counts = Counter(reason.partition(":")[0] for reason in run.problems.values())
        listed = ", ".join(f"{count} {reason}" for reason, count in counts.items())
        yield f"of {len(run.cells)} cells {listed}; they count as runs without a Eureka-moment."
    if needed := seeds_needed(protocol.seeds):
        yield f"{counted(protocol.seeds, 'seed')} per learning rate; {needed}."
    if run.best_rate_at_edge and len(run.by_rate) > 1 and run.grid.events:
        best = rate_label(protocol.learning_rates[run.best_rate])
        yield f"the best learning rate, {best}, is at the edge of the grid; a better one may lie outside."
    if run.control:
        yield "a control task without an intermediate step has no p and no Q."
    if run.spec.changes:
        yield f"changed from the card that ships: {changes_label(run.spec)}."


def _comparisons(runs: Sequence[Run]) -> Iterator[str]:
    """Each run against the first one on its task and protocol, in a sentence."""
    first: dict[str, Run] = {}
    for run in runs:
        baseline = first.setdefault(task_label(run.spec), run)
        if run is not baseline:
            try:
                yield compare(run, baseline).sentence()
            except RunError as error:
                yield f"{run.spec.model.name} against {baseline.spec.model.name}: {error}."


def _charts(tasks: Mapping[str, plots.Styled]) -> Iterator[dict[str, Any]]:
    """The sections that compare the models of each task."""
    rate_text = "Over the seeds at each learning rate; points are set apart sideways so that none covers another."
    sections: dict[str, tuple[str, Sequence[Callable[..., None]]]] = {
        "survival": ("Share of runs that have had no Eureka-moment yet, over all learning rates.", plots.SURVIVAL),
        "rates": (rate_text, plots.BY_RATE),
        "robustness": ("The same curves under lower and higher thresholds, over all learning rates.", plots.ROBUSTNESS),
    }
    for id, (text, panels) in sections.items():
        shown = [
            {
                "name": task,
                "legend": _legend((label, look["color"], look["linestyle"]) for _, label, look in styled),
                "panels": [
                    _chart(f"{SECTIONS[id]}, {task}, panel {index + 1}", partial(draw, styled=styled), CHART_SIZE)
                    for index, draw in enumerate(panels)
                ],
            }
            for task, styled in tasks.items()
        ]
        yield {"id": id, "name": SECTIONS[id], "text": text, "tasks": shown}


def _curves(run: Run, scored: RunScore, label: str, index: int) -> Markup:
    rate = rate_label(run.spec.protocol.learning_rates[index])
    shown = measured([run.spec])
    titles = {cell.cell.name: _cell_title(cell, shown) for cell in scored.cells_by_rate[index]}
    name = f"{shown.capitalize()} curves of {label}, {task_label(run.spec)}, learning rate {rate}"
    return _chart(name, lambda axes: plots.draw_curves(axes, run, scored, index), CURVES_SIZE, titles)


def _auxiliary(run: Run, label: str, name: str) -> Markup:
    title = f"{measured([run.spec]).capitalize()} curves of {label}, {task_label(run.spec)}, {name}"
    return _chart(title, lambda axes: draw_auxiliary(axes, run, name, rate_styles([run])), CURVES_SIZE)


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
    lines = {"-": "solid", "--": "dashed", ":": "dotted"}
    return [
        {"name": name, "colour": figures.PAGE_COLOURS[colour], "line": lines[line]} for name, colour, line in entries
    ]


def run_command(spec: RunSpec) -> str:
    """The command that trains the same cells again."""
    parts = ["mstep-bench", "run", "--task", spec.task.id, "--model", spec.model.name, "--protocol", spec.protocol_name]
    for key, value in spec.changes.items():
        parts += ["--set", f"{key}={json.dumps(value)}"]
    return shlex.join(parts)


def setups(run: Run) -> list[dict[str, Any]]:
    """Which versions on which hardware trained how many cells."""
    counts = Counter(
        ", ".join(f"{key} {value}" for key, value in {**where.versions, **where.hardware}.items())
        + f"; trained {where.engine}"
        for where in (record.environment for record in run.records)
    )
    return [{"cells": cells, "text": f"with {text}"} for text, cells in counts.items()]
