"""The head of the report: models × tasks, each with its effect against the reference, and all differences in words."""

from collections.abc import Mapping, Sequence
from typing import Any

from multistep_bench.desk.comparisons import PLACES, correction, p_value, signed
from multistep_bench.errors import RunError
from multistep_bench.scoring.against import MEASURES, Against, Comparisons, Effect, all_against, compare_all
from multistep_bench.scoring.names import run_labels
from multistep_bench.scoring.run import RunScore
from multistep_bench.scoring.score import Score

SIGNIFICANT = 0.05


def comparisons_of(score: Score, reference: str | None) -> Comparisons:
    """Every run against the reference; without any comparison where none can be made and none was asked for."""
    try:
        return compare_all(score.runs, reference)
    except RunError as error:
        if reference is not None:
            raise
        return Comparisons((), (f"{error}",) if len(score.runs) > 1 else ())


def content(score: Score, comparisons: Comparisons, models: Mapping[str, str]) -> dict[str, Any]:
    """What the template shows. models: the name that the page's toggles know each label by."""
    labels = {id(run): label for run, label in zip(score.runs, run_labels(score.runs), strict=True)}
    return {
        "tasks": [{"task": each.task, "reference": each.reference} for each in comparisons.tasks],
        "rows": _rows(comparisons, labels, models),
        "differences": [
            {
                "model": models[labels[id(each.comparison.a)]],
                "label": each.label,
                "task": task.task,
                "reference": task.reference,
                "sentence": in_words(each, len(task.against)),
                "sets": [(place, _effects(each, cells)) for cells, place in PLACES.items() if cells in each.effects],
                "recipe": ", ".join(each.comparison.recipe),
            }
            for task, each in all_against(comparisons)
        ],
        "correction": correction(comparisons) if comparisons.tasks else "",
        "left_out": comparisons.left_out,
        "several_references": len({task.reference for task in comparisons.tasks}) > 1,
        "reference": comparisons.tasks[0].reference if comparisons.tasks else None,
    }


def in_words(each: Against, comparisons: int) -> str:
    """The comparison's sentence, and after it its p-values corrected for the number of comparisons on the task."""
    corrected = [
        f"{PLACES[cells]} {', '.join(f'{name} {p_value(effect.corrected_p)}' for name, effect in effects.items())}"
        for cells, effects in each.effects.items()
    ]
    if comparisons == 1:
        return f"{each.comparison.sentence()} The only comparison on its task, so no p-value is corrected."
    count = f"corrected by Holm for the {comparisons} comparisons on the task, are"
    return f"{each.comparison.sentence()} The p-values, {count} {'; '.join(corrected)}."


def _rows(comparisons: Comparisons, labels: Mapping[int, str], models: Mapping[str, str]) -> list[dict[str, Any]]:
    cells: dict[str, dict[int, dict[str, Any]]] = {}
    for column, task in enumerate(comparisons.tasks):
        reference = task.against[0].comparison.b
        cells.setdefault(labels[id(reference)], {})[column] = {"reference": True, "speed": _speed(reference)}
    for column, task in enumerate(comparisons.tasks):
        for each in task.against:
            cells.setdefault(labels[id(each.comparison.a)], {})[column] = _cell(each)
    width = range(len(comparisons.tasks))
    return [
        {"label": label, "model": models[label], "cells": [of_task.get(column) for column in width]}
        for label, of_task in cells.items()
    ]


def _speed(run: RunScore) -> float:
    return (run.tuned or run.grid).speed.estimate


def _cell(each: Against) -> dict[str, Any]:
    effect = each.effects[each.best_set]["S"]
    return {
        "reference": False,
        "value": effect.difference.estimate,
        "shown": f"{effect.difference.estimate:+.2f}",
        "interval": f"[{effect.difference.low:+.2f}, {effect.difference.high:+.2f}]",
        "p": p_value(effect.p),
        "holm": p_value(effect.corrected_p),
        "verdict": _verdict(effect),
        "recipe": ", ".join(each.comparison.recipe),
    }


def _verdict(effect: Effect) -> str:
    """What the sign beside a number says: "faster", "slower", or nothing where Holm's p is not below 0.05."""
    if effect.corrected_p >= SIGNIFICANT:
        return ""
    return "faster" if effect.difference.estimate > 0 else "slower"


def _effects(each: Against, cells: str) -> Sequence[dict[str, str] | None]:
    effects = each.effects[cells]
    return [
        {"difference": signed(effect.difference), "p": p_value(effect.p), "holm": p_value(effect.corrected_p)}
        if (effect := effects.get(name))
        else None
        for name in MEASURES
    ]
