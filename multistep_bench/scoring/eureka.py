"""The score of one curve: when the Eureka-moment came, how abruptly, and what remained of it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from multistep_bench.cards import Levels, Measure, Scoring
from multistep_bench.runs.record import MISSING, Curve

Status = Literal["completed", "diverged", "failed", "missing"]

FINAL_EVALUATIONS = 5
SHORTCUT_REACHED = 0.9  # fraction of the way from chance to the shortcut
RISE_BEGINS, RISE_ENDS = 0.1, 0.9  # fractions of the way from the shortcut to the final accuracy
ROUNDING = 1e-12  # a count that stands exactly on a level is at it, whatever the level's last bit says


@dataclass(frozen=True)
class CurveScore:
    """What one curve of accuracies, or of losses, says; times are in training samples.

    eureka:         time T of the Eureka-moment; None where there was none by the budget.
    final_accuracy: mean of the last five evaluations, in nats where the curve is a loss; chance where training did
                    not reach the budget.
    retained:       there was a Eureka-moment and the final accuracy is at or beyond the threshold.
    plateau:        length L of the rest on the shortcut; None unless the event is retained and the task
                    has a shortcut.
    abruptness:     α = L / (L + W), W the time the rise takes from 10 % to 90 %; None where L is.
    invalid:        why the curve cannot be scored; it then counts as a failure.
    """

    eureka: float | None
    final_accuracy: float
    retained: bool
    plateau: float | None = None
    abruptness: float | None = None
    invalid: str | None = None


def curve_values(curve: Curve, measure: Measure) -> np.ndarray:
    """What a curve of a task shows, [evaluations] float64: accuracies or losses, NaN where one is missing."""
    if measure == "loss":
        return curve.loss
    return np.where(curve.correct == MISSING, np.nan, curve.correct / curve.set.items)


def score_curve(
    samples: Sequence[int] | np.ndarray,
    accuracy: np.ndarray,
    *,
    levels: Levels,
    scoring: Scoring,
    budget: int,
    status: Status = "completed",
) -> CurveScore:
    """The score of one curve.

    samples:  [evaluations] training samples seen at each evaluation, from 0, ascending.
    accuracy: [evaluations], losses where the levels are; NaN where an evaluation is missing: it is worse than every
              level, nothing is interpolated across it, and it counts as chance in the final accuracy.
    budget:   a curve that ends before it has no event, and chance as its final accuracy.
    status:   a run that did not complete has no event by the budget, whatever it showed before.
    """
    failure = CurveScore(eureka=None, final_accuracy=levels.chance, retained=False)
    if status != "completed":
        return failure
    if len(accuracy) == 0 or samples[-1] != budget:
        reached = samples[-1] if len(accuracy) else 0
        return replace(failure, invalid=f"its curve ends at {reached} of {budget} samples")
    final = float(np.nan_to_num(accuracy[-FINAL_EVALUATIONS:], nan=levels.chance).mean())
    sign = _sign(levels)
    heights, threshold = sign * accuracy, sign * levels.threshold(scoring.threshold_fraction)
    if heights[0] >= threshold - ROUNDING:
        side = "above" if sign > 0 else "below"
        return replace(
            failure,
            invalid=f"its {levels.measure} before training, {accuracy[0]:.3f}, is {side} the threshold"
            f" {sign * threshold:.3f}",
        )
    times = np.asarray(samples, dtype=np.float64)
    event = _sustained(heights, threshold, scoring.confirmations)
    retained = event is not None and sign * final >= threshold - ROUNDING
    plateau = abruptness = None
    if event is not None and retained and levels.shortcut is not None:
        floor, chance = sign * levels.floor, sign * levels.chance
        plateau, abruptness = _plateau(times, heights, event, sign * final, floor, chance, scoring.confirmations)
    eureka = None if event is None else _crossing(times, heights, event, threshold)
    return CurveScore(eureka, final, retained, plateau, abruptness)


def eureka_time(
    samples: np.ndarray, accuracy: np.ndarray, levels: Levels, fraction: float, confirmations: int
) -> float | None:
    """Eureka time T of a curve that reaches the budget, in samples, under the threshold fraction λ = `fraction`.

    The first of `confirmations` evaluations in a row at or beyond the threshold marks the event, and the
    line into it gives the time; None where there is no such row, or where the first evaluation is already
    at the threshold.
    """
    event = event_index(accuracy, levels, fraction, confirmations)
    sign = _sign(levels)
    return None if event is None else _crossing(samples, sign * accuracy, event, sign * levels.threshold(fraction))


def event_index(accuracy: np.ndarray, levels: Levels, fraction: float, confirmations: int) -> int | None:
    """The evaluation that marks the event of `eureka_time`: the first at the threshold that is confirmed."""
    sign = _sign(levels)
    heights, threshold = sign * accuracy, sign * levels.threshold(fraction)
    if len(heights) < confirmations or _at_or_above(heights[0], threshold):
        return None
    return _sustained(heights, threshold, confirmations)


def reached(value: float, levels: Levels, fraction: float) -> bool:
    """Whether one evaluation is at or beyond the threshold; NaN is not."""
    sign = _sign(levels)
    return bool(_at_or_above(np.array(sign * value), sign * levels.threshold(fraction)))


def _sign(levels: Levels) -> int:
    """A curve times this rises as the model learns."""
    return 1 if levels.measure == "accuracy" else -1


def _at_or_above(accuracy: np.ndarray, level: float) -> np.ndarray:
    return accuracy >= level - ROUNDING  # False where the accuracy is NaN


def _sustained(accuracy: np.ndarray, level: float, confirmations: int) -> int | None:
    """Index of the first evaluation of the first `confirmations` in a row at or above the level."""
    in_a_row = np.convolve(_at_or_above(accuracy, level), np.ones(confirmations, dtype=int), mode="valid")
    starts = np.flatnonzero(in_a_row == confirmations)
    return int(starts[0]) if len(starts) else None


def _crossing(samples: np.ndarray, accuracy: np.ndarray, index: int, level: float) -> float:
    """Where the line into evaluation `index` reaches the level; at that evaluation if none comes before it."""
    if index == 0 or np.isnan(accuracy[index - 1]):
        return float(samples[index])
    fraction = (level - accuracy[index - 1]) / (accuracy[index] - accuracy[index - 1])
    return float(samples[index - 1] + min(fraction, 1.0) * (samples[index] - samples[index - 1]))


def _plateau(
    samples: np.ndarray, accuracy: np.ndarray, event: int, final: float, floor: float, chance: float, confirmations: int
) -> tuple[float | None, float | None]:
    """Plateau length L in samples and abruptness α of a curve that retains its event.

    None where the curve never lay below the level at which the rise begins.
    """
    begin = floor + RISE_BEGINS * (final - floor)
    end = floor + RISE_ENDS * (final - floor)
    shortcut = chance + SHORTCUT_REACHED * (floor - chance)
    above = _at_or_above(accuracy[: event + 1], begin)
    rises = np.flatnonzero(above[1:] & ~above[:-1]) + 1
    settled = _sustained(accuracy, shortcut, confirmations)
    if len(rises) == 0 or settled is None:
        return None, None
    rise = rises[-1]
    risen = rise + int(_at_or_above(accuracy[rise:], end).argmax())
    start = _crossing(samples, accuracy, rise, begin)
    length = start - _crossing(samples, accuracy, settled, shortcut)
    width = _crossing(samples, accuracy, risen, end) - start
    return length, length / (length + width) if length + width > 0 else None
