"""One curve: the known answers of the definitions, and what a missing, early or broken curve counts as."""

from collections.abc import Sequence

import numpy as np
import pytest
from records import accuracies

from multistep_bench.cards import Levels, Scoring
from multistep_bench.scoring.eureka import CurveScore, Status, eureka_time, score_curve

LEVELS = Levels(chance=0.1, shortcut=0.55, ceiling=0.95)  # θ = 0.75
RISING = [100, 540, 550, 560, 550, 650, 850, 940, 950, 950, 950]


def scored(
    counts: Sequence[int | None],
    *,
    levels: Levels = LEVELS,
    scoring: Scoring | None = None,
    budget: int = 1000,
    status: Status = "completed",
) -> CurveScore:
    """The score of counts of 1000 items, one every 100 samples."""
    return score_curve(
        np.arange(len(counts)) * 100,
        accuracies(counts, 1000),
        levels=levels,
        scoring=scoring or Scoring(),
        budget=budget,
        status=status,
    )


@pytest.mark.parametrize(
    ("counts", "eureka", "retained"),
    [
        (RISING, 550, True),
        ([100, 540, 550, 800, 550, 560, 550, 540, 550, 550, 550], None, False),  # one evaluation above
        ([100, 540, 550, 550, 550, 560, 550, 540, 550, 650, 950], None, False),  # not confirmed by the budget
        ([100, 540, 800, 600, 700, 800, 900, 900, 900, 900, 900], 450, True),  # the first crossing does not last
        ([100, 540, 550, 650, 850, 950, 950, 300, 300, 300, 300], 350, False),  # collapses after its event
    ],
)
def test_known_answers(counts: list[int], eureka: float | None, retained: bool) -> None:
    result = scored(counts)
    assert result.eureka == (None if eureka is None else pytest.approx(eureka))
    assert result.retained is retained
    assert result.final_accuracy == pytest.approx(np.mean(counts[-5:]) / 1000)
    assert result.invalid is None


def test_abruptness_of_a_logistic() -> None:
    times = np.arange(201) / 200
    rise = 0.45 * (1 - np.exp(-times / 0.02)) + 0.4 / (1 + np.exp(-(times - 0.6) / 0.01))
    result = score_curve(times, 0.1 + rise, levels=LEVELS, scoring=Scoring(), budget=1)
    assert result.eureka == pytest.approx(0.6, abs=1e-6)
    assert result.plateau is not None
    assert result.abruptness is not None
    assert result.abruptness == pytest.approx(0.923, abs=5e-4)
    assert result.plateau / result.abruptness - result.plateau == pytest.approx(0.0444, abs=5e-5)


def test_plateau_by_hand() -> None:
    # A_f = 0.95: the shortcut is reached at 0.505, the rise goes from 0.59 to 0.91.
    result = scored([100, 500, 510, 550, 570, 650, 850, 950, 950, 950, 950, 950], budget=1100)
    plateau = 425 - 150
    assert result.plateau == pytest.approx(plateau)
    assert result.abruptness == pytest.approx(plateau / (plateau + 660 - 425))


def test_plateau_starts_at_the_crossing_that_lasts_and_ends_at_the_last_rise() -> None:
    # 0.6 at 100 does not last; 0.7 at 500 falls back, so the rise begins anew at 600.
    result = scored([100, 600, 400, 550, 550, 700, 550, 950, 950, 950, 950, 950], budget=1100)
    assert result.plateau == pytest.approx((600 + 100 * 0.04 / 0.4) - (200 + 100 * 0.105 / 0.15))


def test_a_curve_without_a_plateau_has_length_zero_or_none() -> None:
    levels = Levels(chance=0.5, shortcut=0.5, ceiling=1.0)
    result = scored([640, 700, 800, 900, 1000, 1000, 1000, 1000, 1000, 1000, 1000], levels=levels)
    assert result.eureka == pytest.approx(150)
    assert (result.plateau, result.abruptness) == (None, None)  # it starts above the level where the rise begins
    gap = scored([None, 900, 900, 900, 900, 900, 900, 900, 900, 900, 900])
    assert (gap.eureka, gap.plateau, gap.abruptness) == (100, 0, None)


def test_a_curve_that_starts_on_the_shortcut_rests_there_from_the_start() -> None:
    levels = Levels(chance=0.5, shortcut=0.5, ceiling=1.0)
    result = scored([500, 500, 500, 500, 600, 1000, 1000, 1000, 1000, 1000, 1000], levels=levels)
    assert result.plateau == pytest.approx(350)
    late_drop = scored([520, 520, 520, 520, 600, 1000, 1000, 1000, 1000, 1000, 400], levels=levels)
    assert late_drop.plateau == pytest.approx(300 + 100 * 0.018 / 0.08)


def test_a_rise_after_the_event_does_not_prolong_the_plateau() -> None:
    early = [100, 550, 550, 950, 950, 950, 950, 950, 950, 950, 950]
    relapsed = [100, 550, 550, 950, 950, 950, 550, 950, 950, 950, 950]
    assert scored(relapsed).plateau == pytest.approx(scored(early).plateau, abs=5)  # only A_f moves


def test_a_rise_behind_a_gap_takes_no_time() -> None:
    result = scored([100, 550, 550, 550, None, 950, 950, 950, 950, 950, 950])
    assert (result.plateau, result.abruptness) == (pytest.approx(500 - 100 * 0.405 / 0.45), 1)


def test_high_evaluations_without_an_event_are_not_retained() -> None:
    result = scored([100, 550, 550, 550, 550, 550, 1000, 700, 1000, 700, 1000])
    assert result.final_accuracy > 0.75
    assert (result.eureka, result.retained) == (None, False)


def test_an_accuracy_exactly_on_the_threshold_reaches_it() -> None:
    levels = Levels(chance=0.1, shortcut=0.2, ceiling=1.0)  # 0.2 + 0.5·(1 − 0.2) is 0.6000000000000001
    result = scored([100, 200, 200, 600, 600, 600, 600, 600, 600, 600, 600], levels=levels)
    assert (result.eureka, result.retained) == (300, True)
    assert scored([100, 200, 200, 599, 600, 600, 599, 600, 600, 599, 599], levels=levels).eureka is None
    assert scored([600, *[600] * 10], levels=levels).invalid is not None
    low = Levels(chance=0.01, shortcut=0.05, ceiling=0.1)  # 0.05 + 0.5·(0.1 − 0.05) is 0.07500000000000001
    assert scored([10, 50, 50, 75, 75, 75, 75, 75, 75, 75, 75], levels=low).eureka == 300


def test_the_number_of_confirmations_counts() -> None:
    counts = [100, 550, 800, 800, 550, 550, 800, 800, 800, 800, 800]
    assert scored(counts, scoring=Scoring(confirmations=2)).eureka == pytest.approx(180)
    assert scored(counts, scoring=Scoring(confirmations=3)).eureka == pytest.approx(580)
    assert scored(counts, scoring=Scoring(confirmations=5)).eureka == pytest.approx(580)
    assert scored(counts, scoring=Scoring(confirmations=6)).eureka is None
    assert scored([100, 900], scoring=Scoring(confirmations=3), budget=100).eureka is None


def test_the_threshold_fraction_counts() -> None:
    assert scored(RISING, scoring=Scoring(threshold_fraction=0.25)).eureka == pytest.approx(500)
    assert scored(RISING, scoring=Scoring(threshold_fraction=0.9)).eureka == pytest.approx(600 + 100 * 60 / 90)


def test_a_missing_evaluation_is_below_the_threshold_and_nothing_is_interpolated_across_it() -> None:
    rising: list[int | None] = list(RISING)
    rising[5] = None
    assert scored(rising).eureka == 600
    rising[7] = None
    assert scored(rising).eureka == 800


def test_a_missing_evaluation_counts_as_chance_in_the_final_accuracy() -> None:
    assert scored([*RISING[:-1], None]).final_accuracy == pytest.approx((0.85 + 0.94 + 0.95 + 0.95 + 0.1) / 5)


def test_above_the_threshold_before_training_is_invalid_and_a_failure() -> None:
    result = scored([750, *RISING[1:]])
    assert result.invalid is not None
    assert "before training" in result.invalid
    assert (result.eureka, result.final_accuracy, result.retained) == (None, 0.1, False)
    assert scored([749, *RISING[1:]]).invalid is None


@pytest.mark.parametrize("counts", [RISING[:-1], [*RISING, 950], []])
def test_a_curve_that_does_not_end_at_the_budget_is_invalid_and_a_failure(counts: list[int]) -> None:
    result = scored(counts)
    assert result.invalid is not None
    assert "of 1000 samples" in result.invalid
    assert (result.eureka, result.final_accuracy, result.retained) == (None, 0.1, False)


@pytest.mark.parametrize("status", ["diverged", "failed", "missing"])
def test_a_run_that_did_not_complete_has_no_event_even_if_it_had_crossed(status: Status) -> None:
    for counts in (RISING, RISING[:9], []):
        assert scored(counts, status=status) == CurveScore(eureka=None, final_accuracy=0.1, retained=False)


def test_a_control_task_is_measured_from_chance_and_has_no_plateau() -> None:
    levels = Levels(chance=0.1, ceiling=0.9)  # θ = 0.5
    result = scored([100, 200, 400, 600, 800, 900, 900, 900, 900, 900, 900], levels=levels)
    assert result.eureka == pytest.approx(250)
    assert result.retained
    assert (result.plateau, result.abruptness) == (None, None)


LOSSES = Levels(chance=4.0, shortcut=3.0, ceiling=2.0)


def test_a_loss_is_scored_as_its_mirror_image() -> None:
    """The loss 4 − 2·a/0.95 … falls where an accuracy rises: the same event, plateau and abruptness."""
    rising = np.array(RISING) / 1000
    losses = 4 - (rising - 0.1) / 0.45  # chance .1 → 4, shortcut .55 → 3
    as_loss = Levels(chance=4.0, shortcut=3.0, ceiling=3 - 0.4 / 0.45)
    expected = scored(RISING)
    times = np.arange(11) * 100
    result = score_curve(times, losses, levels=as_loss, scoring=Scoring(), budget=1000)
    assert (result.eureka, result.plateau, result.abruptness) == pytest.approx(
        (expected.eureka, expected.plateau, expected.abruptness)
    )
    assert result.retained
    assert result.final_accuracy == pytest.approx(losses[-5:].mean())
    assert eureka_time(times, losses, as_loss, 0.5, 3) == pytest.approx(550)


def test_a_loss_crosses_its_reference_downwards() -> None:
    """With λ = 1 the threshold is the ceiling, which a model may leave below itself."""
    losses = np.array([4.2, 3.1, 2.9, 2.4, 1.9, 2.1, 1.8, 1.6, 1.5, 1.5, 1.5])
    result = score_curve(
        np.arange(11) * 100, losses, levels=LOSSES, scoring=Scoring(threshold_fraction=1.0), budget=1000
    )
    assert result.eureka == pytest.approx(500 + 100 * 0.1 / 0.3)  # the dip at 400 is not confirmed
    assert result.retained


def test_a_loss_that_starts_below_the_threshold_or_breaks_off_is_a_failure_at_chance() -> None:
    times = np.arange(11) * 100
    below = score_curve(times, np.full(11, 2.4), levels=LOSSES, scoring=Scoring(), budget=1000)
    assert below.invalid == "its loss before training, 2.400, is below the threshold 2.500"
    broken = score_curve(times[:5], np.full(5, 3.5), levels=LOSSES, scoring=Scoring(), budget=1000, status="diverged")
    assert broken == CurveScore(eureka=None, final_accuracy=4.0, retained=False)


def test_eureka_time_under_a_threshold_that_the_start_is_above() -> None:
    samples, accuracy = np.arange(11) * 100, accuracies([300, *RISING[1:]], 1000)
    assert eureka_time(samples, accuracy, LEVELS, 0.5, 3) == pytest.approx(550)
    low = Levels(chance=0.1, shortcut=0.2, ceiling=0.4)
    assert eureka_time(samples, accuracy, low, 0.5, 3) is None
