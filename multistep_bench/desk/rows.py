"""Scores, comparisons and curves as rows of plain values, of which frames, files and pages are made."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

from multistep_bench.errors import BenchError
from multistep_bench.reporting.labels import changes_label, run_labels
from multistep_bench.runs.store import Run
from multistep_bench.scoring.cell_set import CellSetScore
from multistep_bench.scoring.compare import Comparison
from multistep_bench.scoring.eureka import curve_values
from multistep_bench.scoring.run import RunScore
from multistep_bench.scoring.score import Score
from multistep_bench.scoring.set_comparison import SetComparison
from multistep_bench.scoring.statistics import Interval

Row = dict[str, Any]
By = Literal["run", "rate", "cell"]


def score_rows(score: Score, by: By = "run") -> list[Row]:
    """The rows of a score's table, all with the same keys: a row a run, a learning rate or a cell.

    An interval is three values, NAME, NAME_low and NAME_high; None where there is none. p, S, A and Q are over the
    grid, those that end in _tuned at tuned learning rates. Times are in training samples. missing: cells without a
    record; failed: cells that failed, diverged or are invalid. Raises `BenchError` for another `by`.
    """
    makers = {"run": _run_rows, "rate": _rate_rows, "cell": _cell_rows}
    if by not in makers:
        raise BenchError(f"by={by!r} is none of {', '.join(makers)}")
    labels = run_labels(score.runs)
    return [row for run, label in zip(score.runs, labels, strict=True) for row in makers[by](run, label)]


def comparison_rows(comparison: Comparison) -> list[Row]:
    """A row for the grid and one for tuned learning rates; differences are A − B, with their intervals."""
    sets = {"grid": comparison.grid} | ({"tuned": comparison.tuned} if comparison.tuned else {})
    name_a, name_b = comparison.labels
    return [{"cells": name, "A": name_a, "B": name_b, **_compared(scores)} for name, scores in sets.items()]


def curve_rows(run: Run) -> list[Row]:
    """A row an evaluation of each cell: accuracy, loss, and every auxiliary measurement as "auxiliary_NAME".

    Losses are in nats, seconds since the cell's start; a value that was not finite is None.
    """
    spec = run.spec
    rows = []
    for record in run.records:
        primary = curve_values(record.curve, "accuracy"), curve_values(record.curve, "loss")
        further = {
            f"auxiliary_{name}": curve_values(curve, spec.task.levels.measure)
            for name, curve in record.auxiliary.items()
        }
        columns = {
            "accuracy": primary[0],
            "loss": primary[1],
            "train_loss": record.train_loss,
            "seconds": record.seconds,
            **further,
        }
        for index in range(len(record)):
            values = {name: _finite(column[index]) for name, column in columns.items()}
            place = {"learning_rate": spec.learning_rate(record.cell), "seed": record.cell.seed_index}
            rows.append({**place, "samples": index * spec.protocol.interval, **values})
    return rows


def broken_cells(run: RunScore) -> dict[str, int]:
    """How many cells are missing, failed, diverged or invalid; those that none is are left out."""
    status = Counter(
        "invalid" if cell.status == "completed" else cell.status for cell in run.cells if cell.problem is not None
    )
    return {name: status[name] for name in ("missing", "failed", "diverged", "invalid") if status[name]}


def _run_rows(run: RunScore, label: str) -> list[Row]:
    protocol = run.spec.protocol
    broken = broken_cells(run)
    missing = broken.pop("missing", 0)
    tuned = run.tuned
    row = {
        **_place(run, label),
        "seeds": protocol.seeds,
        "learning_rates": len(protocol.learning_rates),
        "cells": len(run.cells),
        "missing": missing,
        "failed": sum(broken.values()),
        **_set(run.grid),
        **interval_columns("p_tuned", tuned and tuned.probability),
        **interval_columns("S_tuned", tuned and tuned.speed),
        **interval_columns("A_tuned", tuned and tuned.final_accuracy),
        "best_rate": protocol.learning_rates[run.best_rate],
        "identity": run.spec.identity(),
    }
    return [row]


def _rate_rows(run: RunScore, label: str) -> list[Row]:
    rates = run.spec.protocol.learning_rates
    return [
        {**_place(run, label), "learning_rate": rate, "cells": scores.n, **_set(scores)}
        for rate, scores in zip(rates, run.by_rate, strict=True)
    ]


def _cell_rows(run: RunScore, label: str) -> list[Row]:
    return [
        {
            **_place(run, label),
            "learning_rate": cell.learning_rate,
            "seed": cell.cell.seed_index,
            "status": cell.status,
            "problem": cell.problem,
            "eureka": cell.curve.eureka,
            "A": cell.curve.final_accuracy,
            "seconds": cell.seconds,
            "eureka_seconds": cell.eureka_seconds,
        }
        for cells in run.cells_by_rate
        for cell in cells
    ]


def _place(run: RunScore, label: str) -> Row:
    spec = run.spec
    return {
        "model": label,
        "task": spec.task.id,
        "protocol": spec.protocol_name,
        "changes": changes_label(spec),
        "measure": spec.task.levels.measure,
    }


def _set(scores: CellSetScore) -> Row:
    return {
        "events": scores.events,
        **interval_columns("p", scores.probability),
        **interval_columns("S", scores.speed),
        **interval_columns("A", scores.final_accuracy),
        **interval_columns("Q", scores.profile),
        "A_given_eureka": scores.final_accuracy_given_eureka,
        "median": scores.median,
    }


def _compared(scores: SetComparison) -> Row:
    return {
        "n_A": scores.n_a,
        "n_B": scores.n_b,
        "events_A": scores.events_a,
        "events_B": scores.events_b,
        **interval_columns("p_difference", scores.probability),
        "p_boschloo": scores.boschloo,
        "S_A": scores.speed_a,
        "S_B": scores.speed_b,
        **interval_columns("S_difference", scores.speed),
        "S_permutation": scores.permutation,
        "S_logrank": scores.logrank,
        "improvement": scores.improvement,
        "final_A": scores.final_a,
        "final_B": scores.final_b,
        **interval_columns("final_difference", scores.final),
        "final_permutation": scores.final_permutation,
    }


def interval_columns(name: str, interval: Interval | None) -> Row:
    values: Sequence[float | None] = (
        (None, None, None) if interval is None else (interval.estimate, interval.low, interval.high)
    )
    return dict(zip((name, f"{name}_low", f"{name}_high"), map(_finite, values), strict=True))


def _finite(value: float | None) -> float | None:
    return None if value is None or value != value else float(value)
