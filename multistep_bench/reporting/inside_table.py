"""What diagnostics and probes say of runs as tables: in the terminal, and in Markdown."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from multistep_bench.desk import tables as desk_tables
from multistep_bench.errors import BenchError
from multistep_bench.printable import ONE_LINE, printable
from multistep_bench.reporting.labels import run_labels, task_label
from multistep_bench.reporting.terminal import print_wide
from multistep_bench.runs.store import Run
from multistep_bench.scoring.inside import PROJECTIONS, Inside
from multistep_bench.scoring.phases import PHASES
from multistep_bench.scoring.probe_rows import Row
from multistep_bench.scoring.run import RunScore
from multistep_bench.scoring.statistics import Interval

ARROW = " → "
NOTES = {
    "gradients": "L2 norm of the gradient over that of W_V, geometric mean over layers and cells, with 95 % intervals:"
    f" {ARROW.join(PHASES)}",
    "attention": "mean over heads and cells, with 95 % intervals. Entropy of all queries in units of ln n; shares of"
    " regions from the token that is read",
    "probes": "accuracy in % of a linear probe for the intermediate variable by layer, with 95 % intervals over seeds",
}


@dataclass(frozen=True)
class Lines:
    """One table: what it is of, a note, and lines of cells, the first of them the headings."""

    title: str
    note: str
    lines: list[list[str]]


def inside_tables(
    runs: Sequence[Run], scored: Sequence[RunScore], found: Sequence[Inside], at: Sequence[str] | None = None
) -> list[Lines]:
    """For each task three tables, those that its runs have anything for: gradients, attention, probes.

    at: phases of attention and moments of probes that have lines, by default all. Raises `BenchError` for another.
    """
    moments = dict.fromkeys((*PHASES, *(row.at for inside in found for row in inside.readable)))
    for name in at or ():
        if name not in moments:
            raise BenchError(f"--at {name} is none of {', '.join(printable(each, ONE_LINE) for each in moments)}")
    shown = list(moments if at is None else at)
    labels = run_labels(scored)
    tables = []
    for task in dict.fromkeys(task_label(run.spec) for run in runs):
        mine = {
            printable(label, ONE_LINE): inside
            for run, label, inside in zip(runs, labels, found, strict=True)
            if task_label(run.spec) == task
        }
        parts = {"gradients": _gradients(mine), "attention": _attention(mine, shown), "probes": _probes(mine, shown)}
        for name, made in parts.items():
            if len(lines := list(made)) > 1:
                tables.append(Lines(f"{name.capitalize()} on {task}", NOTES[name], lines))
    return tables


def print_tables(console: Console, tables: Sequence[Lines]) -> None:
    """Prints each under its title and note, as wide as it is: no number is ever cut."""
    for each in tables:
        console.print()
        console.print(Text(each.title, style="bold"))
        console.print(Text(each.note, style="dim"))
        header, *body = each.lines
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for index, name in enumerate(header):
            table.add_column(name, justify="right" if index else "left", no_wrap=True)
        for line in body:
            table.add_row(*map(Text, line))
        print_wide(console, table)


def markdown(tables: Sequence[Lines]) -> str:
    """The same tables in Markdown."""
    return "\n".join(f"**{each.title}**: {each.note}.\n\n{desk_tables.markdown(each.lines)}" for each in tables)


def _gradients(runs: Mapping[str, Inside]) -> Iterator[list[str]]:
    yield ["run", "cells", *PROJECTIONS]
    for label, inside in runs.items():
        if inside.ratios:
            yield [label, _counts(inside), *(_phases(inside.ratios[name]) for name in PROJECTIONS)]


def _attention(runs: Mapping[str, Inside], shown: Sequence[str]) -> Iterator[list[str]]:
    """A line a layer and phase."""
    groups = list(dict.fromkeys(name for inside in runs.values() for each in inside.attention for name in each.shares))
    yield ["run", "layer", "at", "cells", "entropy / ln n", *(printable(name, ONE_LINE) for name in groups)]
    for label, inside in runs.items():
        for layer in inside.attention:
            for phase in shown:
                if phase in layer.entropy:
                    shares = [layer.shares.get(name, {}).get(phase) for name in groups]
                    numbers = [_entry(value) if value else "–" for value in (layer.entropy[phase], *shares)]
                    yield [label, printable(layer.layer, ONE_LINE), phase, str(inside.cells[phase]), *numbers]


def _probes(runs: Mapping[str, Inside], shown: Sequence[str]) -> Iterator[list[str]]:
    """A line a moment, representation and token, a column a layer."""
    layers = sorted({row.layer for inside in runs.values() for row in inside.readable})
    yield ["run", "cells", "at", "variable", "read from", *(f"layer {layer}" for layer in layers), "chance"]
    for label, inside in runs.items():
        groups: dict[tuple[str, str, str], dict[int, Row]] = {}
        for row in (row for row in inside.readable if row.at in shown):
            groups.setdefault((row.at, row.representation, row.place), {})[row.layer] = row
        for (at, representation, place), rows in groups.items():
            first = next(iter(rows.values()))
            read = [_percent(rows[layer].accuracy) if layer in rows else "–" for layer in layers]
            names = [printable(text, ONE_LINE) for text in (at, first.variable, f"{representation}, {place}")]
            yield [label, str(first.cells), *names, *read, f"{100 * first.chance:.0f}"]


def _counts(inside: Inside) -> str:
    return ARROW.join(str(inside.cells.get(phase, 0)) for phase in PHASES)


def _phases(values: Mapping[str, Interval]) -> str:
    return ARROW.join(_entry(values[phase]) if phase in values else "–" for phase in PHASES)


def _entry(value: Interval) -> str:
    """Two significant digits or two decimals, whichever is longer for a small number."""
    digits = 2 if value.estimate >= 0.1 or value.estimate == 0 else 1 - int(np.floor(np.log10(value.estimate)))
    shown = f"{value.estimate:.{digits}f}"
    return f"{shown} [{value.low:.{digits}f}, {value.high:.{digits}f}]" if np.isfinite(value.high) else shown


def _percent(value: Interval) -> str:
    return f"{100 * value.estimate:.0f} [{100 * value.low:.0f}, {100 * value.high:.0f}]"
