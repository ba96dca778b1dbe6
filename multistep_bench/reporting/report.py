"""The report: one HTML file with every score, curve and specification of some runs, readable without a network."""

import base64
import hashlib
import json
import re
import shlex
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape

from multistep_bench import __version__
from multistep_bench.errors import BenchError
from multistep_bench.reporting import report_matrix
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
from multistep_bench.reporting.report_charts import sections
from multistep_bench.runs.spec import RunSpec
from multistep_bench.runs.store import Run
from multistep_bench.scoring.names import overall_labels
from multistep_bench.scoring.run import RunScore
from multistep_bench.scoring.score import SCORER_VERSION, Score

GENERATOR = "multistep-bench report"  # in the page's head, which `write_report` knows its own pages by
HEAD = 2000  # bytes
SHOWN_AT_ONCE = 6  # panels of a section; more are folded, run by run and task by task
SUMMARY, CELLS, REPRODUCE = ("summary", "Summary"), ("cells", "Every cell"), ("reproduce", "How to reproduce")


def write_report(
    runs: Sequence[Run], score: Score, path: str | Path, *, reference: str | None = None, force: bool = False
) -> Path:
    """Writes the report of runs and returns its path.

    runs: those that `score` is of, in its order. path: ends in .html. reference: see `against.compare_all`.
    The file asks for nothing outside itself, and all text in it is escaped. Raises `BenchError` where it cannot
    be written, and for a file that is there and is no report, unless `force` overwrites it.
    """
    path = Path(path)
    if path.suffix.lower() not in (".html", ".htm"):
        raise BenchError(f"a report cannot be written as '{path.name}'; end the name in .html")
    if not force and path.is_file() and not _is_report(path):
        raise BenchError(f"{path} is no report of mstep-bench; choose another name, or overwrite it with --force")
    page = _environment().from_string(_file("report.html.j2")).render(_content(runs, score, reference))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise BenchError(f"the report {path} cannot be written: {error.strerror}; choose another place") from error
    return path


def _is_report(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return GENERATOR.encode() in file.read(HEAD)
    except OSError:
        return False


def _environment() -> Environment:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters |= {
        "breakable": breakable,
        "number": number,
        "rate": rate_label,
        "count": lambda value: "–" if value is None else f"{value:,.0f}",
        "duration": lambda value: "–" if value is None else duration(value),
    }
    return environment


def breakable(name: str) -> Markup:
    """A name that a narrow column breaks where its words end."""
    return Markup(re.sub(r"([_.,/-])", r"\1<wbr>", str(escape(name))))


def _file(name: str) -> str:
    return resources.files("multistep_bench.reporting").joinpath(name).read_text(encoding="utf-8")


def _content(runs: Sequence[Run], score: Score, reference: str | None) -> dict[str, Any]:
    """What the template shows."""
    script = _file("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    tasks = dict.fromkeys(task_label(run.spec) for run in runs)
    labels = run_labels(score.runs)
    models = {label: f"model-{index}" for index, label in enumerate(dict.fromkeys(labels))}
    charts = list(sections(runs, score, labels, models))
    for chart in charts:
        chart["folded"] = sum(len(group["panels"]) for group in chart["groups"]) > SHOWN_AT_ONCE
        chart["beside"] = chart["wide"] and not chart["folded"] and all(len(g["panels"]) == 1 for g in chart["groups"])
    return {
        "generator": GENERATOR,
        "title": f"{_counted(models, 'models')} on {_counted(tasks, 'tasks')}",
        "lead": f"{len(runs)} run{'s' * (len(runs) > 1)} scored by multistep-bench {__version__} (scorer"
        f" {SCORER_VERSION}). Brackets are 95 % intervals, times are training samples.",
        "sections": [SUMMARY, *((section["id"], section["title"]) for section in charts), CELLS, REPRODUCE],
        "measured": measured(run.spec for run in score.runs),
        "models": models,
        "runs": [{**_run(*entry), "model": models[entry[2]]} for entry in zip(runs, score.runs, labels, strict=True)],
        "several_tasks": len(tasks) > 1,
        "notes": _notes(score.runs, labels, len(tasks) > 1),
        "matrix": report_matrix.content(score, report_matrix.comparisons_of(score, reference), models),
        "overall": [
            {"entry": entry, "label": label, "model": models[label]}
            for entry, label in zip(score.overall, overall_labels(score), strict=True)
        ],
        "charts": charts,
        "css": Markup(_file("report.css")),
        "js": Markup(script),
        "script_hash": f"sha256-{digest}",
    }


def _counted(names: Collection[str], noun: str) -> str:
    return " and ".join(names) if len(names) < 3 else f"{len(names)} {noun}"


def _run(run: Run, scored: RunScore, label: str) -> dict[str, Any]:
    spec = run.spec
    return {
        "label": label,
        "task": task_label(spec),
        "score": scored,
        "cells": [cell for cells in scored.cells_by_rate for cell in cells],
        "by_rate": list(zip(spec.protocol.learning_rates, scored.by_rate, strict=True)),
        "command": run_command(spec),
        "setups": setups(run),
        "sha256": spec.identity(),
        "spec": json.dumps(spec.dump(), indent=2, ensure_ascii=False),
    }


def _notes(runs: Sequence[RunScore], labels: Sequence[str], several_tasks: bool) -> list[str]:
    """What a reader should know before quoting a number: each note once, after the names of its runs."""
    about: dict[str, list[str]] = {}
    for run, label in zip(runs, labels, strict=True):
        for note in _notes_on(run):
            about.setdefault(note, []).append(f"{label} on {task_label(run.spec)}" if several_tasks else label)
    every = f"all {len(runs)} runs" if len(runs) > 3 else ""
    return [
        f"{every if every and len(names) == len(runs) else ', '.join(names)}: {note}" for note, names in about.items()
    ]


def _notes_on(run: RunScore) -> Iterator[str]:
    protocol = run.spec.protocol
    if run.problems:
        counts = Counter(reason.partition(":")[0] for reason in run.problems.values())
        listed = ", ".join(f"{count} {reason}" for reason, count in counts.items())
        yield f"of {len(run.cells)} cells {listed}; they count as having no Eureka-moment."
    if needed := seeds_needed(protocol.seeds):
        yield f"{counted(protocol.seeds, 'seed')} per learning rate; {needed}."
    if run.best_rate_at_edge and len(run.by_rate) > 1 and run.grid.events:
        best = rate_label(protocol.learning_rates[run.best_rate])
        yield f"the best learning rate, {best}, is at the edge of the learning-rate grid; a better one may lie outside."
    if run.control:
        yield "a control task without an intermediate step has no p and no Q."
    if run.spec.changes:
        yield f"changed from the card that ships: {changes_label(run.spec)}."


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
