"""Cells on fresh seeds against submitted ones: tests by hand, and what an entry that shows too much meets."""

from pathlib import Path

import entries
import numpy as np
import pytest
from entries import TASK

from multistep_bench.leaderboard.fresh import (
    FIRST_SEED,
    draw_cells,
    fresh_test,
    power,
    proportion_test,
    rank_approximation,
    rank_test,
    speaks_against,
    submitted_times,
    sufficient,
)
from multistep_bench.leaderboard.notes import FreshCell
from multistep_bench.leaderboard.reproductions import LEAST_POWER
from multistep_bench.leaderboard.verify import verify
from multistep_bench.scoring.score import Score, score

A, B = (TASK, 0), (TASK, 1)
FIVE = [0.1, 0.2, 0.3, 0.4, 0.5]


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Score:
    """An entry of ten seeds at one learning rate, five of which jump at 0.1 of the budget."""
    board = entries.make_board(tmp_path_factory.mktemp("made") / "board")
    entry: Path = entries.make_entry(board, jump=0.1, changes={"protocol.seeds": 10})
    found = verify(entry, draw_items=False).score
    assert found is not None
    return found


def cells(*times: float | None) -> list[FreshCell]:
    return [
        FreshCell(task=TASK, rate_index=0, seed_index=FIRST_SEED + index, eureka=time, final_accuracy=0.9)
        for index, time in enumerate(times)
    ]


def test_ranks_are_compared_within_strata() -> None:
    assert rank_test({A: FIVE}, {A: [1.0]}) == pytest.approx(1 / 6, abs=0.01)
    assert rank_test({A: FIVE}, {A: [0.9, 1.0]}) == pytest.approx(1 / 21, abs=0.006)  # of C(7, 2) choices
    assert rank_test({A: FIVE, B: FIVE}, {A: [1.0], B: [1.0]}) == pytest.approx(1 / 36, abs=0.004)
    assert rank_test({A: FIVE}, {A: [0.05]}) == 1.0
    late = [time + 10 for time in FIVE]  # a later learning rate is no delay
    assert rank_test({A: FIVE, B: late}, {B: [10.25]}) > 0.4
    assert rank_test({A: [1.0] * 5}, {A: [1.0]}) == 1.0  # failures are ties


@pytest.mark.parametrize("fresh", [[0.25] * 6, [0.6] * 2, [1.0] * 3])
def test_the_approximation_is_near_the_test(fresh: list[float]) -> None:
    theirs = {A: [*FIVE, *(time + 0.05 for time in FIVE)]}
    assert rank_approximation(theirs, {A: fresh}) == pytest.approx(rank_test(theirs, {A: fresh}), abs=0.03)


def test_proportions_are_exact() -> None:
    assert proportion_test({A: FIVE}, {A: [1.0, 1.0]}) == pytest.approx(1 / 21)
    assert proportion_test({A: FIVE}, {A: [0.2, 1.0]}) == pytest.approx(2 / 7)  # at most one of two, 6 events of 7
    assert proportion_test({A: FIVE, B: FIVE}, {A: [1.0], B: [1.0]}) == pytest.approx(1 / 36)
    assert proportion_test({A: FIVE}, {A: [0.9, 0.9]}) == 1.0
    assert proportion_test({A: [1.0] * 5}, {A: [1.0]}) == 1.0


def test_power_grows_with_cells_and_is_none_without_events() -> None:
    ten = {A: [*FIVE, *(time + 0.05 for time in FIVE)]}
    found = [power(ten, {A: count}) for count in (1, 3, 6)]
    assert found[0] == 0.0
    assert found == sorted(found)
    assert found[-1] > 0.8
    assert power({A: [1.0] * 10}, {A: 6}) == 0.0


def test_honest_cells_rarely_speak_against_an_entry_and_late_ones_do(scored: Score) -> None:
    times = submitted_times(scored)[A]
    rng = np.random.default_rng(0)
    against = 0
    for _ in range(200):
        order = rng.permutation(times).tolist()
        theirs, ours = {A: order[4:]}, {A: order[:4]}
        against += speaks_against(rank_test(theirs, ours), proportion_test(theirs, ours))
    assert against <= 4  # two expected at the level of 0.01
    budget = scored.runs[0].spec.protocol.budget
    assert not speaks_against(*_ps(scored, cells(0.1 * budget, None, 0.11 * budget, None)))
    assert speaks_against(*_ps(scored, cells(*[None] * 20)))


def _ps(scored: Score, made: list[FreshCell]) -> tuple[float, float]:
    test = fresh_test(scored, made)
    return test.rank, test.proportion


def test_fresh_seeds_lie_beyond_every_protocol_and_differ(scored: Score) -> None:
    first, second = (draw_cells(scored, 5)[TASK] for _ in range(2))
    assert len({cell.seed_index for cell in [*first, *second]}) == 10
    assert min(cell.seed_index for cell in [*first, *second]) >= FIRST_SEED
    assert {cell.rate_index for cell in first} == {0}


def test_a_sufficient_number_is_told() -> None:
    vit = score(entries.reference("vit").runs)
    assert sufficient(vit, 3, LEAST_POWER) == 9  # three learning rates, where some cells jump at each
    assert sufficient(vit, 3, 1.1) is None
