"""How the curves of cells that were trained again compare with the submitted ones."""

from dataclasses import replace
from typing import Any

import numpy as np

from multistep_bench.leaderboard.notes import FreshCell, RerunCell, Start
from multistep_bench.runs.events import Environment, finite
from multistep_bench.runs.record import MISSING, Record
from multistep_bench.runs.spec import RunSpec
from multistep_bench.scoring.cell_set import CellScore
from multistep_bench.scoring.eureka import CurveScore, curve_values, score_curve

NOWHERE = Environment(engine="", versions={}, hardware={})
STACK_VERSIONS = ("multistep_bench", "torch")
STACK_HARDWARE = ("device", "machine", "processor", "threads")


def compared(spec: RunSpec, submitted: Record, theirs: CellScore, record: Record) -> RerunCell:
    """A submitted record, whose score is `theirs`, beside the one made here."""
    ours = _score(spec, record)
    return RerunCell(
        task=spec.task.id,
        cell=record.cell.name,
        record_sha256=submitted.sha256,
        same_stack=_stack(submitted.environment) == _stack(record.environment),
        bit_equal=_without_seconds(submitted) == _without_seconds(record),
        same_items=submitted.curve.set == record.curve.set,
        start=(start_of(submitted), start_of(record)),
        eureka=(theirs.curve.eureka, ours.eureka),
        final_accuracy=(theirs.curve.final_accuracy, ours.final_accuracy),
    )


def start_of(record: Record) -> Start:
    """The first numbers of a record's curves."""
    curve = record.curve
    counted = len(record) > 0 and curve.correct[0] != MISSING
    return Start(
        accuracy=float(curve.correct[0] / curve.set.items) if counted else None,
        loss=finite(curve.loss[0]) if len(record) else None,
        train_loss=finite(record.train_loss[1]) if len(record) > 1 else None,
    )


def fresh_cell(spec: RunSpec, record: Record) -> FreshCell:
    """What a note holds of a record on a fresh seed."""
    score, cell = _score(spec, record), record.cell
    return FreshCell(
        task=spec.task.id,
        rate_index=cell.rate_index,
        seed_index=cell.seed_index,
        eureka=score.eureka,
        final_accuracy=score.final_accuracy,
    )


def _score(spec: RunSpec, record: Record) -> CurveScore:
    values = curve_values(record.curve, spec.task.levels.measure)
    return score_curve(
        np.arange(len(values)) * spec.protocol.interval,
        values,
        levels=spec.task.levels,
        scoring=spec.task.scoring,
        budget=spec.protocol.budget,
        status=record.status,
    )


def _stack(environment: Environment) -> list[Any]:
    """What decides a curve to the last bit."""
    return [
        *(environment.versions.get(name) for name in STACK_VERSIONS),
        *(environment.hardware.get(name) for name in STACK_HARDWARE),
    ]


def _without_seconds(record: Record) -> str:
    """The record's curves as text, which is equal where every number is."""
    timeless = replace(record, seconds=np.zeros(len(record)), environment=NOWHERE, attempts=1)
    return timeless.line
