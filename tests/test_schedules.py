"""Every schedule as a function of the fraction of the budget."""

from typing import get_args

import pytest

from multistep_bench.protocol import Protocol, Schedule
from multistep_bench.training.schedules import SCHEDULES, factors, learning_rate


def protocol(**changes: object) -> Protocol:
    base = {
        "budget": 100_000,
        "batch_size": 10,
        "evaluations": 100,
        "evaluation_items": 300,
        "seeds": 1,
        "learning_rates": [1e-3],
    }
    return Protocol.model_validate({**base, **changes})


def test_the_table_has_the_schedules_that_protocols_name() -> None:
    assert set(SCHEDULES) == set(get_args(Schedule))


@pytest.mark.parametrize("schedule", get_args(Schedule))
def test_a_schedule_peaks_at_the_end_of_the_warmup_and_never_rises_after_it(schedule: str) -> None:
    given = protocol(schedule=schedule, warmup=0.1)
    rates = [learning_rate(given, 1e-3, samples) for samples in range(0, 100_000, 1000)]
    assert rates[:11] == sorted(rates[:11])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[10] == pytest.approx(1e-3, rel=0.03)  # the cosine has fallen a little: it counts from the start
    assert min(rates) > 0


def test_warmup_stable_decay_is_flat_and_then_a_line() -> None:
    wsd = protocol(schedule="wsd", warmup=0.1, decay=0.4, final_rate=1e-4)
    rates = [learning_rate(wsd, 1e-3, samples) for samples in (10_000, 60_000, 80_000, 90_000, 100_000)]
    assert rates == pytest.approx([1e-3, 1e-3, 5.5e-4, 3.25e-4, 1e-4])
    low = [learning_rate(wsd, 1e-5, samples) for samples in (50_000, 90_000)]
    assert low == pytest.approx([1e-5, 1e-5])


def test_steps_multiply_the_rate_at_each_milestone() -> None:
    step = protocol(schedule="step", milestones=[0.3, 0.6], step_factor=0.2)
    rates = [learning_rate(step, 1e-3, samples) for samples in (29_990, 30_000, 59_990, 60_000, 99_990)]
    assert rates == pytest.approx([1e-3, 2e-4, 2e-4, 4e-5, 4e-5])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"schedule": "wsd", "warmup": 0.5, "decay": 0.6}, "exceed the budget"),
        ({"schedule": "step", "milestones": [0.6, 0.3]}, "not ascending fractions"),
        ({"schedule": "step", "milestones": [0.5, 0.5]}, "not ascending fractions"),
        ({"schedule": "step", "milestones": [0.5, 1.0]}, "not ascending fractions"),
        ({"schedule": "step", "milestones": [0.1], "warmup": 0.2}, "not ascending fractions"),
        ({"schedule": "inverse_sqrt"}, "set warmup above 0"),
    ],
)
def test_parts_that_exceed_the_budget_are_one_sentence(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        protocol(**changes)
    assert protocol(schedule="wsd", warmup=0.5, decay=0.5)


def test_what_is_plotted_is_the_share_of_the_peak_over_the_whole_budget() -> None:
    linear = protocol(schedule="linear", final_rate=1e-9, learning_rates=[1e-4, 1e-2])
    assert factors(linear, 5) == pytest.approx([1, 0.75, 0.5, 0.25, 0], abs=1e-3)


def test_constant_schedule_warms_up_linearly() -> None:
    constant = protocol(warmup=0.1, warmup_rate=2e-4)
    rates = [learning_rate(constant, 1e-3, samples) for samples in (0, 5_000, 10_000, 99_990)]
    assert rates == pytest.approx([2e-4, 6e-4, 1e-3, 1e-3])


def test_cosine_counts_from_the_start_and_ends_at_the_final_rate() -> None:
    cosine = protocol(schedule="cosine", warmup=0.1, warmup_rate=1e-6, final_rate=1e-5)
    # 1e-5 + ½(1e-3 − 1e-5)(1 + cos(π/4)) at a quarter of the budget
    rates = [learning_rate(cosine, 1e-3, samples) for samples in (0, 25_000, 50_000, 100_000)]
    assert rates == pytest.approx([1e-6, 8.5501785e-4, 5.05e-4, 1e-5])


def test_a_line_falls_from_the_warmup_to_the_final_rate() -> None:
    linear = protocol(schedule="linear", warmup=0.2, warmup_rate=1e-6, final_rate=1e-4)
    rates = [learning_rate(linear, 1e-3, samples) for samples in (0, 20_000, 60_000, 100_000)]
    assert rates == pytest.approx([1e-6, 1e-3, 5.5e-4, 1e-4])


def test_the_inverse_square_root_halves_the_rate_in_four_times_the_samples() -> None:
    root = protocol(schedule="inverse_sqrt", warmup=0.1)
    rates = [learning_rate(root, 1e-3, samples) for samples in (10_000, 40_000, 90_000)]
    assert rates == pytest.approx([1e-3, 5e-4, 1e-3 / 3])
    with pytest.raises(ValueError, match="set warmup above 0"):
        protocol(schedule="inverse_sqrt")


def test_a_schedule_period_holds_the_rate_for_an_epoch() -> None:
    stepped = protocol(schedule="cosine", schedule_period=50_000)
    assert learning_rate(stepped, 1e-3, 49_990) == pytest.approx(1e-3)
    assert learning_rate(stepped, 1e-3, 99_990) == pytest.approx(learning_rate(stepped, 1e-3, 50_000))


def test_a_rate_below_the_warmup_rate_never_rises_above_itself() -> None:
    low = protocol(warmup=0.5, warmup_rate=1e-3, schedule="cosine", final_rate=1e-3)
    assert all(learning_rate(low, 1e-5, samples) == pytest.approx(1e-5) for samples in (0, 30_000, 60_000, 90_000))
