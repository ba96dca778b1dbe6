"""The score of one run: every cell, every learning rate, the grid, and tuned learning rates."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from multistep_bench.cards import Measure
from multistep_bench.protocol import Protocol
from multistep_bench.runs.record import Record
from multistep_bench.runs.spec import Cell, RunSpec
from multistep_bench.runs.store import Run, iter_records, read_spec
from multistep_bench.scoring.cell_set import (
    CellScore,
    CellSetScore,
    best_rate,
    event_interval,
    leave_one_out_rates,
    profile_step,
    profiles,
    score_cells,
    speeds,
)
from multistep_bench.scoring.eureka import FINAL_EVALUATIONS, CurveScore, Status, curve_values, eureka_time, score_curve
from multistep_bench.scoring.statistics import Interval, wilson

ROBUSTNESS_FRACTIONS = (0.25, 0.5, 0.75, 0.9)


@dataclass(frozen=True)
class ThresholdScore:
    """p, S and Q over the grid under another threshold fraction λ; p and Q are None for a control task."""

    threshold_fraction: float
    probability: Interval | None
    speed: Interval
    profile: Interval | None


@dataclass(frozen=True)
class RunScore:
    """The score of one run: one model on one task under one protocol.

    cells:         every cell that the specification asks for, in its order; one without a record is
                   missing and counts as a failure.
    by_rate:       per learning rate, over its seeds.
    grid:          over all cells.
    tuned:         per seed the cell at the learning rate that is best on the other seeds, the chosen rates
                   taken as given; None with one seed.
    tuned_rates:   index of the rate so chosen, by seed index.
    best_rate:     index of the best rate on all seeds.
    robustness:    under the threshold fractions `ROBUSTNESS_FRACTIONS`.
    """

    spec: RunSpec
    cells: tuple[CellScore, ...]
    by_rate: tuple[CellSetScore, ...]
    grid: CellSetScore
    tuned: CellSetScore | None
    tuned_rates: tuple[int, ...]
    best_rate: int
    robustness: tuple[ThresholdScore, ...]

    @property
    def control(self) -> bool:
        """The task has no intermediate step, so there is no p and no Q."""
        return self.spec.task.levels.shortcut is None

    @property
    def best_rate_at_edge(self) -> bool:
        """No lower or no higher learning rate than the best was tried, so a better one may lie outside the grid."""
        return self.best_rate in (0, len(self.by_rate) - 1)

    @property
    def auxiliary(self) -> dict[str, float | None]:
        """The final value of each auxiliary measurement, on average over the cells that have one."""
        names = dict.fromkeys(name for cell in self.cells for name in cell.auxiliary)
        known = {name: [v for cell in self.cells if (v := cell.auxiliary.get(name)) is not None] for name in names}
        return {name: float(np.mean(values)) if values else None for name, values in known.items()}

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of the cells without a record."""
        return tuple(cell.cell.name for cell in self.cells if cell.status == "missing")

    @property
    def problems(self) -> dict[str, str]:
        """Name → reason of the cells that fail whatever they learned: missing, failed, diverged or invalid."""
        return {cell.cell.name: cell.problem for cell in self.cells if cell.problem is not None}

    @property
    def cells_by_rate(self) -> list[list[CellScore]]:
        """The cells of each learning rate, in the order of their seeds."""
        return _by_rate(self.cells)

    @property
    def tuned_cells(self) -> tuple[CellScore, ...]:
        """The cells that `tuned` is about, by seed index."""
        by_rate = self.cells_by_rate
        return tuple(by_rate[rate][seed] for seed, rate in enumerate(self.tuned_rates))


def score_run(run: str | Path | Run) -> RunScore:
    """The score of a run folder, read one record at a time, or of a run already read.

    Raises `RunError` for a folder or a record that cannot be scored.
    """
    if isinstance(run, Run):
        spec, records = run.spec, iter(run.records)
    else:
        spec = read_spec(run)
        records = iter_records(Path(run), spec)
    present = {record.cell: _score_record(record, spec) for record in records}
    cells = tuple(present.get(cell) or _missing(cell, spec) for cell in spec.cells())
    return _score_cells(spec, cells)


def _score_cells(spec: RunSpec, cells: tuple[CellScore, ...]) -> RunScore:
    protocol = spec.protocol
    control = spec.task.levels.shortcut is None
    strata = _by_rate(cells)
    curves = [[cell.curve for cell in stratum] for stratum in strata]
    measure = spec.task.levels.measure
    chosen = leave_one_out_rates(curves, protocol.budget, measure) if protocol.seeds > 1 else ()
    tuned = [curves[rate][seed] for seed, rate in enumerate(chosen)]
    highest = 1.0 if measure == "accuracy" else spec.task.levels.chance
    scored = partial(
        score_cells,
        budget=protocol.budget,
        control=control,
        highest=highest,
        step=1 / protocol.evaluations,
        items=protocol.evaluation_items if measure == "accuracy" else None,
    )
    return RunScore(
        spec=spec,
        cells=cells,
        by_rate=tuple(scored([stratum]) for stratum in curves),
        grid=scored(curves),
        tuned=scored([tuned]) if tuned else None,
        tuned_rates=chosen,
        best_rate=best_rate(curves, protocol.budget, measure),
        robustness=tuple(
            _threshold_score(
                fraction,
                [[cell.eureka_by_fraction[index] for cell in stratum] for stratum in strata],
                protocol,
                control=control,
            )
            for index, fraction in enumerate(ROBUSTNESS_FRACTIONS)
        ),
    )


def _by_rate(cells: tuple[CellScore, ...]) -> list[list[CellScore]]:
    rates = sorted({cell.cell.rate_index for cell in cells})
    return [[cell for cell in cells if cell.cell.rate_index == rate] for rate in rates]


def _threshold_score(
    fraction: float, strata: Sequence[Sequence[float | None]], protocol: Protocol, *, control: bool
) -> ThresholdScore:
    times = [time for stratum in strata for time in stratum]
    events = sum(time is not None for time in times)
    budget, step = protocol.budget, 1 / protocol.evaluations
    return ThresholdScore(
        threshold_fraction=fraction,
        probability=None if control else wilson(events, len(times)),
        speed=event_interval([speeds(stratum, budget) for stratum in strata], resolution=step),
        profile=None
        if control
        else event_interval([profiles(stratum, budget) for stratum in strata], resolution=profile_step(step)),
    )


def _missing(cell: Cell, spec: RunSpec) -> CellScore:
    return CellScore(
        cell=cell,
        learning_rate=spec.learning_rate(cell),
        status="missing",
        reason=None,
        curve=_score_curve([], np.array([]), spec, "missing"),
        eureka_by_fraction=(None,) * len(ROBUSTNESS_FRACTIONS),
        seconds=None,
        eureka_seconds=None,
        auxiliary={},
        record_sha256=None,
    )


def _score_record(record: Record, spec: RunSpec) -> CellScore:
    levels, scoring = spec.task.levels, spec.task.scoring
    values = curve_values(record.curve, levels.measure)
    samples = np.arange(len(values)) * spec.protocol.interval
    curve = _score_curve(samples, values, spec, record.status)
    counts = record.status == "completed" and curve.invalid is None
    return CellScore(
        cell=record.cell,
        learning_rate=spec.learning_rate(record.cell),
        status=record.status,
        reason=record.reason,
        curve=curve,
        eureka_by_fraction=tuple(
            eureka_time(samples, values, levels, fraction, scoring.confirmations) if counts else None
            for fraction in ROBUSTNESS_FRACTIONS
        ),
        seconds=float(record.seconds[-1]) if len(record) else 0.0,
        eureka_seconds=None if curve.eureka is None else float(np.interp(curve.eureka, samples, record.seconds)),
        auxiliary=_auxiliary(record, levels.measure),
        record_sha256=record.sha256,
    )


def _auxiliary(record: Record, measure: Measure) -> dict[str, float | None]:
    """Final values; None where one of the last ones is missing, or training did not reach the budget."""
    values = {name: curve_values(curve, measure) for name, curve in record.auxiliary.items()}
    means = {name: its[-FINAL_EVALUATIONS:].mean() if len(its) else np.nan for name, its in values.items()}
    completed = record.status == "completed"
    return {name: float(mean) if completed and np.isfinite(mean) else None for name, mean in means.items()}


def _score_curve(
    samples: Sequence[int] | np.ndarray, accuracy: np.ndarray, spec: RunSpec, status: Status
) -> CurveScore:
    return score_curve(
        samples,
        accuracy,
        levels=spec.task.levels,
        scoring=spec.task.scoring,
        budget=spec.protocol.budget,
        status=status,
    )
