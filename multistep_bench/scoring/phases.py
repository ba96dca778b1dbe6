"""Phases of a cell's curve: its start, its plateau at the shortcut, its Eureka-moment."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from multistep_bench.runs.record import Record
from multistep_bench.runs.store import Run
from multistep_bench.scoring.cell_set import CellScore
from multistep_bench.scoring.eureka import ROUNDING, SHORTCUT_REACHED, curve_values
from multistep_bench.scoring.statistics import Interval, mean_interval

START, PLATEAU, EVENT = "start", "plateau", "event"
PHASES = (START, PLATEAU, EVENT)


@dataclass(frozen=True)
class Phases:
    """Times of a cell in training samples. plateau: its begin and end, or None; event: the Eureka-moment, or None."""

    plateau: tuple[float, float] | None
    event: float | None

    def places(self, samples: np.ndarray) -> dict[str, np.ndarray]:
        """Phase → indices of the measurements, at ascending `samples`, that lie in it; phases without any are absent.

        The start is the measurement before training, the event the first one at or after it.
        """
        found = {START: np.flatnonzero(samples == 0)}
        if self.plateau is not None:
            begin, end = self.plateau
            found[PLATEAU] = np.flatnonzero((samples >= begin) & (samples <= end) & (samples > 0))
        if self.event is not None:
            found[EVENT] = np.flatnonzero(samples >= self.event)[:1]
        return {name: indices for name, indices in found.items() if len(indices)}


def phases_of(run: Run, cell: CellScore) -> Phases:
    """The phases of one cell of a run.

    The plateau begins where the curve has come 90 % of the way from chance to the shortcut. It ends where the rise
    begins (`CurveScore.plateau`), at the Eureka-moment where that is not known, and at the budget without one.
    """
    record = next(record for record in run.records if record.cell == cell.cell)
    begin, event, length = shortcut_reached(run, record), cell.curve.eureka, cell.curve.plateau
    if begin is None:
        return Phases(None, event)
    if event is None:
        end = float(run.spec.protocol.interval * (len(record) - 1))
    else:
        end = event if length is None else min(begin + length, event)
    return Phases((float(begin), float(end)) if end > begin else None, event)


def shortcut_reached(run: Run, record: Record) -> int | None:
    """Samples at a cell's first evaluation that is 90 % of the way from chance to the shortcut, or None."""
    levels = run.spec.task.levels
    if levels.shortcut is None:
        return None
    values = curve_values(record.curve, levels.measure)
    way = (values - levels.chance) / (levels.shortcut - levels.chance)
    there = np.flatnonzero(way >= SHORTCUT_REACHED - ROUNDING)
    return int(there[0]) * run.spec.protocol.interval if len(there) else None


def by_phase(values: Sequence[np.ndarray], places: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Phase → [cells with it, ...]: each cell's mean over its measurements in that phase.

    values: a cell's measurements, [E, ...]; places: of each cell, as from `Phases.places`.
    """
    found = {}
    for phase in PHASES:
        means = [each[place[phase]].mean(0) for each, place in zip(values, places, strict=True) if phase in place]
        if means:
            found[phase] = np.stack(means)
    return found


def over_cells(values: np.ndarray, bounds: tuple[float, float] = (-np.inf, np.inf)) -> Interval | None:
    """Mean and 95 % interval of one number a cell, [cells], NaN left out; None without any.

    bounds: of the number; they are the interval of a single cell.
    """
    known = values[np.isfinite(values)]
    return mean_interval([known], bounds=bounds) if len(known) else None
