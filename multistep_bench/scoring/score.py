"""The score of runs: a pure function of their specifications and raw curves, never of a stored score."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from multistep_bench.cards import Strict, content_sha256
from multistep_bench.errors import RunError
from multistep_bench.runs.store import Run
from multistep_bench.scoring import statistics
from multistep_bench.scoring.cell_set import CellScore, event_interval, profile_step, profiles
from multistep_bench.scoring.run import RunScore, score_run
from multistep_bench.scoring.statistics import Interval

if TYPE_CHECKING:
    from pandas import DataFrame  # pyright: ignore[reportMissingImports]

    from multistep_bench.desk.rows import By

SCORE_SCHEMA = "msb.score/1"
SCORER_VERSION = "1.1"  # rises whenever equal records could get another score


@dataclass(frozen=True)
class OverallScore:
    """Q of one model under one protocol: the mean over tasks of the area under the profile of T/B.

    tasks:      those that count, control tasks left out; one that is missing counts 0.
    grid:       Q over all cells; tuned: at tuned learning rates. None where no task counts, and for tuned
                also where a task has one seed.
    robustness: Q over the grid under each of `run.ROBUSTNESS_FRACTIONS`.
    code:       hash of the model's code where runs of it with several codes are scored together, else None.
    """

    model: str
    protocol: str
    changes: dict[str, Any]
    tasks: tuple[str, ...]
    missing_tasks: tuple[str, ...]
    grid: Interval | None
    tuned: Interval | None
    robustness: tuple[float, ...]
    code: str | None = None


@dataclass(frozen=True, repr=False)
class Score:
    """The score of one or more runs, in the order given, and Q of each of their models.

    A prompt and a notebook show it as a table. `to_frame`, `to_csv`: every column, see `desk.rows.score_rows`, a row a
    run, a learning rate or a cell. `to_markdown`, `to_latex`: the table to read.
    """

    runs: tuple[RunScore, ...]
    overall: tuple[OverallScore, ...]

    def __repr__(self) -> str:
        from multistep_bench.desk.summary import score_lines

        return "\n".join(score_lines(self))

    def _repr_html_(self) -> str:
        from multistep_bench.desk.html import score_html

        return score_html(self)

    def to_frame(self, by: "By" = "run") -> "DataFrame":
        """A pandas frame; raises `BenchError` where pandas is not installed."""
        from multistep_bench.desk.frames import frame
        from multistep_bench.desk.rows import score_rows

        return frame(score_rows(self, by))

    def to_csv(self, by: "By" = "run") -> str:
        """CSV with a line of names."""
        from multistep_bench.desk.rows import score_rows
        from multistep_bench.desk.tables import to_csv

        return to_csv(score_rows(self, by))

    def to_markdown(self) -> str:
        """A Markdown table."""
        from multistep_bench.desk.tables import to_markdown

        return to_markdown(self)

    def to_latex(self) -> str:
        """A LaTeX tabular for the package booktabs."""
        from multistep_bench.desk.tables import to_latex

        return to_latex(self)

    def to_dict(self) -> dict[str, Any]:
        """Plain data of schema "msb.score/1": intervals are [estimate, low, high], times are in samples."""
        records = {
            run.spec.identity(): {cell.cell.name: cell.record_sha256 for cell in run.cells if cell.record_sha256}
            for run in self.runs
        }
        return {
            "schema": SCORE_SCHEMA,
            "scorer": SCORER_VERSION,
            "intervals": statistics.SETTINGS,
            "records_root": content_sha256(records),
            "runs": [_run_dict(run) for run in self.runs],
            "overall": plain(self.overall),
        }


def score(runs: str | Path | Run | Iterable[str | Path | Run], tasks: Iterable[str] | None = None) -> Score:
    """The score of runs, and Q of each model over its tasks; a model whose code changed counts as two.

    runs:  run folders, or runs already read, or one of these. Cells without a record count as failures and are named.
    tasks: the task ids that Q is the mean of, where a task without a run counts 0; by default the tasks
           that each model has runs of.
    Raises `RunError` for what cannot be read or put together.
    """
    places: list[str] = []
    scored: list[RunScore] = []
    for run in [runs] if isinstance(runs, str | Path | Run) else runs:
        places.append(str(run.path if isinstance(run, Run) else run))
        scored.append(score_run(run))
    if not scored:
        raise RunError("there is no run to score; give at least one run folder")
    groups = _groups(places, scored)
    wanted = None if tasks is None else tuple(tasks)
    keys = [_key(group[0]) for group in groups]
    codes = [group[0].spec.model.code_sha256 if keys.count(_key(group[0])) > 1 else None for group in groups]
    overall = (overall_score(group, wanted, code=code) for group, code in zip(groups, codes, strict=True))
    return Score(tuple(scored), tuple(overall))


def _key(run: RunScore) -> str:
    """Equal for runs that Q is the mean of: those of one model, protocol and set of changes."""
    return content_sha256([run.spec.model.name, run.spec.protocol_name, run.spec.changes])


def _groups(places: Sequence[str], scored: Sequence[RunScore]) -> list[list[RunScore]]:
    """The runs of each model, protocol and set of changes, those of each code apart where a task has several.

    Raises `RunError` where they contradict each other.
    """
    cards: dict[str, tuple[str, str]] = {}
    groups: dict[str, list[tuple[str, RunScore]]] = {}
    for place, run in zip(places, scored, strict=True):
        task = run.spec.task
        first, sha256 = cards.setdefault(content_sha256([task.id, run.spec.changes]), (place, task.sha256()))
        if sha256 != task.sha256():
            raise RunError(
                f"{first} and {place} were trained on different cards of {task.id} ({sha256[:12]},"
                f" {task.sha256()[:12]}); score them apart"
            )
        groups.setdefault(_key(run), []).append((place, run))
    return [part for group in groups.values() for part in _by_code(group)]


def _by_code(group: Sequence[tuple[str, RunScore]]) -> list[list[RunScore]]:
    """The runs of a model as one part, or as one for each code of the model where a task was trained with several."""
    codes: dict[str, dict[str, tuple[str, RunScore]]] = {}
    for place, run in group:
        spec = run.spec
        same = codes.setdefault(spec.model.code_sha256, {})
        if spec.task.id in same:
            raise RunError(
                f"{same[spec.task.id][0]} and {place} are two runs of {spec.model.name} on {spec.task.id}"
                f" {spec.protocol_name}; score one of them"
            )
        same[spec.task.id] = place, run
    if len({run.spec.task.id for _, run in group}) == len(group):
        return [[run for _, run in group]]
    return [[run for _, run in part.values()] for part in codes.values()]


def overall_score(runs: Sequence[RunScore], wanted: tuple[str, ...] | None, *, code: str | None = None) -> OverallScore:
    """Q of one model's runs on distinct tasks; wanted: the tasks it is the mean of, by default those of the runs.

    code: see `OverallScore`.
    """
    scored = [run for run in runs if not run.control and (wanted is None or run.spec.task.id in wanted)]
    controls = {run.spec.task.id for run in runs if run.control}
    present = [run.spec.task.id for run in scored]
    tasks = present if wanted is None else [task for task in dict.fromkeys(wanted) if task not in controls]
    share = len(present) / len(tasks) if tasks else 0.0  # a missing task adds nothing to the sum
    grid = [[_profiles(run, stratum) for stratum in run.cells_by_rate] for run in scored]
    tuned = [[_profiles(run, run.tuned_cells)] for run in scored if run.tuned]
    step = max((profile_step(1 / run.spec.protocol.evaluations) for run in scored), default=0.0)
    fractions = zip(*(run.robustness for run in scored), strict=True)
    return OverallScore(
        model=runs[0].spec.model.name,
        protocol=runs[0].spec.protocol_name,
        changes=runs[0].spec.changes,
        tasks=tuple(tasks),
        missing_tasks=tuple(task for task in tasks if task not in present),
        grid=_mean_over_tasks(grid, step).scaled(share) if grid else None,
        tuned=_mean_over_tasks(tuned, step).scaled(share) if tuned and len(tuned) == len(scored) else None,
        robustness=tuple(
            share * float(np.mean([score.profile.estimate for score in scores if score.profile]))
            for scores in fractions
        ),
        code=code,
    )


def _profiles(run: RunScore, cells: Iterable[CellScore]) -> np.ndarray:
    return profiles((cell.curve.eureka for cell in cells), run.spec.protocol.budget)


def _mean_over_tasks(tasks: Sequence[Sequence[np.ndarray]], resolution: float) -> Interval:
    """Mean over tasks of the mean over a task's strata."""
    strata = [stratum for task in tasks for stratum in task]
    return event_interval(strata, [1 / (len(tasks) * len(task)) for task in tasks for _ in task], resolution)


def _run_dict(run: RunScore) -> dict[str, Any]:
    task, protocol = run.spec.task, run.spec.protocol
    rates = protocol.learning_rates
    return {
        "task": {
            "id": task.id,
            "sha256": task.sha256(),
            "levels": plain(task.levels),
            "scoring": plain(task.scoring),
            "threshold": task.levels.threshold(task.scoring.threshold_fraction),
        },
        "protocol": {"name": run.spec.protocol_name, **plain(protocol)},
        "model": plain(run.spec.model),
        "changes": run.spec.changes,
        "identity": run.spec.identity(),
        "expected": len(run.cells),
        "missing": list(run.missing),
        "problems": run.problems,
        "cells": [{"name": cell.cell.name, **plain(cell)} for cell in run.cells],
        "by_rate": [{"learning_rate": rate, **plain(scores)} for rate, scores in zip(rates, run.by_rate, strict=True)],
        "grid": plain(run.grid),
        "tuned": plain(run.tuned),
        "tuned_rates": [rates[index] for index in run.tuned_rates],
        "best_rate": rates[run.best_rate],
        "best_rate_at_edge": run.best_rate_at_edge,
        "robustness": plain(run.robustness),
    }


def plain(value: Any) -> Any:
    """Dataclasses, records and sequences as JSON has them; an `Interval` as [estimate, low, high]."""
    if isinstance(value, Interval):
        return [value.estimate, value.low, value.high]
    if isinstance(value, Strict):
        return value.model_dump(mode="json", by_alias=True)
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return value
