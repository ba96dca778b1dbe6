"""The score of a set of cells: Eureka probability p, convergence speed S, final accuracy A, and Q of one task."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from multistep_bench.cards import Measure
from multistep_bench.runs.spec import Cell
from multistep_bench.scoring.eureka import CurveScore, Status
from multistep_bench.scoring.statistics import (
    Interval,
    KaplanMeier,
    Strata,
    kaplan_meier,
    mean_interval,
    wilson,
)

PROFILE_RANGE = 64  # Q looks at T/B from 1/64 to 1


@dataclass(frozen=True)
class CellScore:
    """One cell of a run with the score of its curve.

    status, reason:     as its record's outcome says; "missing" where there is no record.
    eureka_by_fraction: time of the Eureka-moment, in samples, under each of `run.ROBUSTNESS_FRACTIONS`.
    seconds:            wall-clock of the cell; eureka_seconds: until its Eureka-moment.
    auxiliary:          by the name of a auxiliary measurement, the mean of its last five readings, as the final
                        accuracy is one; None where that is not known. Not scored.
    record_sha256:      of the record file's bytes.
    """

    cell: Cell
    learning_rate: float
    status: Status
    reason: str | None
    curve: CurveScore
    eureka_by_fraction: tuple[float | None, ...]
    seconds: float | None
    eureka_seconds: float | None
    auxiliary: dict[str, float | None]
    record_sha256: str | None

    @property
    def problem(self) -> str | None:
        """Why the cell counts as a failure although it says nothing about the model's learning; None if it is sound."""
        if self.status == "completed":
            return self.curve.invalid
        return f"{self.status}: {self.reason}" if self.reason else self.status


@dataclass(frozen=True)
class Survival:
    """Kaplan–Meier curve: from times[i] on, survival[i] of the cells have had no Eureka-moment yet.

    Starts with survival 1 at time 0. low, high: Wilson band at each step, since cells are censored at the
    budget alone.
    """

    times: tuple[float, ...]
    survival: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True)
class CellSetScore:
    """The score of n cells; times in training samples, a failure counts as no Eureka-moment by the budget.

    events:       cells with a Eureka-moment; retained: those that also end above the threshold.
    probability:  Eureka probability p = events / n, and probability_retained; None for a control task.
    speed:        convergence speed S = 1 − RMST(B)/B, the mean of 1 − T/B, 0 without an event.
    final_accuracy: mean A, and final_accuracy_given_eureka: over cells with an event, None if there is none.
    profile:      Q = mean of clip(ln(B/T)/ln 64, 0, 1), 0 without an event; None for a control task.
    median:       median time to the Eureka-moment; None where fewer than half have one.
    restricted_mean, restricted_mean_error: RMST(B) and its standard error.
    """

    n: int
    events: int
    retained: int
    probability: Interval | None
    probability_retained: Interval | None
    speed: Interval
    final_accuracy: Interval
    final_accuracy_given_eureka: float | None
    profile: Interval | None
    median: float | None
    restricted_mean: float
    restricted_mean_error: float
    survival: Survival


def speeds(times: Iterable[float | None], budget: int) -> np.ndarray:
    """[cells] 1 − T/B, 0 where T is None."""
    return np.array([0.0 if time is None else 1 - time / budget for time in times])


def profiles(times: Iterable[float | None], budget: int) -> np.ndarray:
    """[cells] clip(ln(B/T)/ln 64, 0, 1), 0 where T is None."""
    logs = [0.0 if time is None else np.log(budget / time) for time in times]
    return np.clip(np.array(logs) / np.log(PROFILE_RANGE), 0, 1)


def event_interval(strata: Strata, weights: Sequence[float] | None = None, resolution: float = 0.0) -> Interval:
    """`mean_interval` of values that are 0 without an event and at most 1 with one.

    Without any event the replicates do not vary, and the bound is that of the probability of an event. Events that
    all came at once are known to the `resolution`, what one step of the evaluation schedule changes.
    """
    if not any(values.any() for values in strata):
        return Interval(0.0, 0.0, wilson(0, sum(map(len, strata))).high)
    return mean_interval(strata, weights, resolution=(resolution, resolution))


def profile_step(step: float) -> float:
    """How much a value of `profiles` changes at most over a step of that share of the budget, at 1/64 of it."""
    return float(np.log1p(PROFILE_RANGE * step) / np.log(PROFILE_RANGE))


def score_cells(
    strata: Sequence[Sequence[CurveScore]],
    budget: int,
    *,
    control: bool,
    highest: float = 1.0,
    step: float = 0.0,
    items: int | None = None,
) -> CellSetScore:
    """The score of a set of cells.

    strata:  curves by learning rate; intervals treat every rate of the grid as given, its seeds as drawn.
    control: the task has no intermediate step, so there is no p and no Q.
    highest: what a final accuracy is at most; for losses that of chance, unless one is higher.
    step:    between evaluations, as a share of the budget. items: of an evaluation, None where the curves are losses.
    """
    curves = [curve for stratum in strata for curve in stratum]
    times = [[curve.eureka for curve in stratum] for stratum in strata]
    ended = np.array([budget if curve.eureka is None else curve.eureka for curve in curves], dtype=np.float64)
    had_event = np.array([curve.eureka is not None for curve in curves])
    n, k, retained = len(curves), int(had_event.sum()), sum(curve.retained for curve in curves)
    given = [curve.final_accuracy for curve in curves if curve.eureka is not None]
    finals = [np.array([curve.final_accuracy for curve in stratum]) for stratum in strata]
    bounds = (0.0, max(highest, *map(np.max, finals)))
    survival = kaplan_meier(ended, had_event)
    mean, error = survival.restricted_mean(budget)
    return CellSetScore(
        n=n,
        events=k,
        retained=retained,
        probability=None if control else wilson(k, n),
        probability_retained=None if control else wilson(retained, n),
        speed=event_interval([speeds(stratum, budget) for stratum in times], resolution=step),
        final_accuracy=mean_interval(finals, bounds=bounds, resolution=binomial_error(finals, items)),
        final_accuracy_given_eureka=float(np.mean(given)) if given else None,
        profile=None
        if control
        else event_interval([profiles(stratum, budget) for stratum in times], resolution=profile_step(step)),
        median=survival.median(),
        restricted_mean=mean,
        restricted_mean_error=error,
        survival=_survival(survival, n),
    )


def binomial_error(finals: Strata, items: int | None) -> tuple[float, float]:
    """How far Wilson's interval reaches below and above a mean final accuracy that was counted on so many items."""
    if items is None:
        return 0.0, 0.0
    accuracy = float(np.mean([np.mean(stratum) for stratum in finals]))
    interval = wilson(round(accuracy * items), items)
    return max(0.0, accuracy - interval.low), max(0.0, interval.high - accuracy)


def _survival(curve: KaplanMeier, n: int) -> Survival:
    left = [n, *(curve.at_risk - curve.events).tolist()]
    bands = [wilson(count, n) for count in left]
    return Survival(
        times=(0.0, *curve.times.tolist()),
        survival=tuple(band.estimate for band in bands),
        low=tuple(band.low for band in bands),
        high=tuple(band.high for band in bands),
    )


def leave_one_out_rates(
    strata: Sequence[Sequence[CurveScore]], budget: int, measure: Measure = "accuracy"
) -> tuple[int, ...]:
    """For each seed the index of the learning rate that is best on all the other seeds."""
    speed, accuracy = _merits(strata, budget, measure)
    others = len(strata[0]) - 1
    speed = (speed.sum(1, keepdims=True) - speed) / others
    accuracy = (accuracy.sum(1, keepdims=True) - accuracy) / others
    return tuple(_best(*merits) for merits in zip(speed.T, accuracy.T, strict=True))


def best_rate(strata: Sequence[Sequence[CurveScore]], budget: int, measure: Measure = "accuracy") -> int:
    """Index of the rate of highest mean S; ties by mean final accuracy or loss, then the lower rate."""
    speed, accuracy = _merits(strata, budget, measure)
    return _best(speed.mean(1), accuracy.mean(1))


def _merits(strata: Sequence[Sequence[CurveScore]], budget: int, measure: Measure) -> tuple[np.ndarray, np.ndarray]:
    """S and the final accuracy, or minus the final loss, of every cell, each [rates, seeds]."""
    speed = [speeds((curve.eureka for curve in stratum), budget) for stratum in strata]
    final = np.array([[curve.final_accuracy for curve in stratum] for stratum in strata])
    return np.array(speed), final if measure == "accuracy" else -final


def _best(speed: np.ndarray, accuracy: np.ndarray) -> int:
    """Index of the best of [rates] by S, then accuracy, then the lower rate; differences of rounding are ties."""
    return max(range(len(speed)), key=lambda rate: (round(speed[rate], 12), round(accuracy[rate], 12), -rate))
