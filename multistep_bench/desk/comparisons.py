"""Many runs against a reference: as rows for programs, and as lines and tables to read."""

from html import escape

from multistep_bench.desk.html import table_html
from multistep_bench.desk.rows import Row, interval_columns
from multistep_bench.printable import ONE_LINE, printable
from multistep_bench.reporting.labels import counted
from multistep_bench.scoring.against import MEASURES, Against, Comparisons, Effect, all_against
from multistep_bench.scoring.statistics import Interval

CORRECTION = "Holm's correction over the {count} of a task, for p, S and A apart"
PLACES = {"tuned": "at tuned learning rates", "grid": "over the whole grid"}


def comparisons_rows(comparisons: Comparisons) -> list[Row]:
    """A row for each run and set of cells: differences run − reference, their intervals, p-values raw and corrected.

    cells: "tuned" or "grid". NAME_test: the p-value of Boschloo's test (p) or of a permutation test (S, A); NAME_holm:
    corrected over the runs of the task. None where there is none. recipe: the keys of the protocol that differ.
    """
    rows: list[Row] = []
    for task, each in all_against(comparisons):
        for cells, effects in each.effects.items():
            compared = getattr(each.comparison, cells)
            row: Row = {"task": task.task, "model": each.label, "reference": task.reference, "cells": cells}
            row |= {"n": compared.n_a, "n_reference": compared.n_b, "events": compared.events_a}
            row |= {"events_reference": compared.events_b}
            for name in MEASURES:
                effect = effects.get(name)
                row |= interval_columns(f"{name}_difference", effect and effect.difference)
                row |= {f"{name}_test": effect and effect.p, f"{name}_holm": effect and effect.corrected_p}
            rows.append({**row, "recipe": ", ".join(each.comparison.recipe)})
    return rows


def readable_comparisons(comparisons: Comparisons) -> list[list[str]]:
    """A line a run at its tuned learning rates, where there are any, after a line of headings.

    Each difference has its interval, its p-value and that corrected by Holm; what differs in the recipe is named.
    """
    several = len(comparisons.tasks) > 1
    recipe = any(each.comparison.recipe for _, each in all_against(comparisons))
    header = ["model", *["task"] * several, "reference", "cells"]
    for name in MEASURES:
        header += [f"Δ{name}", f"p of Δ{name}", "Holm"]
    lines = [[*header, *["recipe differs"] * recipe]]
    for task, each in all_against(comparisons):
        line = [each.label, *[task.task] * several, task.reference, each.best_set]
        for name in MEASURES:
            line += _cells(each.effects[each.best_set].get(name))
        lines.append([*line, *[", ".join(each.comparison.recipe) or "–"] * recipe])
    return lines


def _cells(effect: Effect | None) -> list[str]:
    if effect is None:
        return ["–", "–", "–"]
    return [signed(effect.difference), p_value(effect.p), p_value(effect.corrected_p)]


def signed(interval: Interval) -> str:
    """A difference with its interval: "+0.34 [+0.12, +0.55]"."""
    return f"{interval.estimate:+.2f} [{interval.low:+.2f}, {interval.high:+.2f}]"


def p_value(p: float) -> str:
    """A p-value to two digits."""
    return "< 0.0001" if p < 1e-4 else f"{p:.2g}"


def comparisons_lines(comparisons: Comparisons) -> list[str]:
    """How many comparisons and how they are corrected; then a line a run, and what was left out."""
    total = sum(len(task.against) for task in comparisons.tasks)
    head = f"{counted(total, 'comparison')} on {counted(len(comparisons.tasks), 'task')}; {correction(comparisons)}"
    lines = [
        f"{each.label} − {task.reference} on {task.task}, {PLACES[each.best_set]}: {effects_line(each)}"
        for task, each in all_against(comparisons)
    ]
    return [head, *(printable(line, ONE_LINE) for line in [*lines, *comparisons.left_out])]


def correction(comparisons: Comparisons) -> str:
    """How p-values are corrected, in words."""
    sizes = sorted({len(task.against) for task in comparisons.tasks})
    span = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
    return CORRECTION.format(count=f"{span} comparison{'s' * (sizes[-1] > 1)}")


def effects_line(each: Against) -> str:
    """All differences of a run, with the p-values and what differs in its recipe."""
    spec = each.comparison.a.spec
    names = {"A": f"Δ final {spec.task.levels.measure}"}
    parts = [
        f"{names.get(name, f'Δ{name}')} {signed(effect.difference)},"
        f" p {p_value(effect.p)}, by Holm {p_value(effect.corrected_p)}"
        for name, effect in each.effects[each.best_set].items()
    ]
    recipe = [f"recipe differs: {', '.join(each.comparison.recipe)}"] if each.comparison.recipe else []
    return "; ".join([*parts, *recipe])


def comparisons_html(comparisons: Comparisons) -> str:
    """The table for a notebook."""
    head, *_ = comparisons_lines(comparisons)
    left = "".join(f"<div>{escape(printable(line, ONE_LINE))}</div>" for line in comparisons.left_out)
    return f"<div><div><strong>{escape(head)}</strong></div>{table_html(readable_comparisons(comparisons))}{left}</div>"
