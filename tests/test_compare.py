"""Comparing two runs: the numbers by hand, the sentence to quote, and what is refused and why."""

import json
from collections.abc import Sequence
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from records import LOSS_TASK, Counts, fall, flat, jump, make_run

from multistep_bench.errors import RunError
from multistep_bench.scoring.compare import Comparison, compare
from multistep_bench.scoring.run import score_run
from multistep_bench.scoring.statistics import boschloo, logrank, newcombe, wilson

FAST, SLOW, NEVER = jump(0.2), jump(0.6), flat()


def run(folder: Path, *rates: Sequence[Counts], **spec: Any) -> Path:
    """A run folder from the curves of each learning rate."""
    curves = {(rate, seed): counts for rate, seeds in enumerate(rates) for seed, counts in enumerate(seeds)}
    return make_run(folder, curves, **spec)


@pytest.fixture
def comparison(tmp_path: Path) -> Comparison:
    a = run(tmp_path / "a", [FAST] * 8 + [NEVER] * 2, [FAST] * 2 + [SLOW] * 3 + [NEVER] * 5, model="vit_normsoftmax")
    b = run(tmp_path / "b", [FAST] * 3 + [NEVER] * 7, [NEVER] * 10, model="vit")
    return compare(a, b)


def test_the_grid_by_hand(comparison: Comparison) -> None:
    grid = comparison.grid
    assert (grid.events_a, grid.n_a, grid.events_b, grid.n_b) == (13, 20, 3, 20)
    assert grid.probability == newcombe(13, 20, 3, 20)
    assert grid.boschloo == boschloo(13, 20, 3, 20)
    assert (grid.speed_a, grid.speed_b) == pytest.approx(((0.64 + 0.28) / 2, 0.24 / 2))
    assert grid.speed.estimate == pytest.approx(0.34)
    assert 0 < grid.speed.low < 0.2
    assert 0.4 < grid.speed.high < 0.6
    assert grid.permutation < 0.01
    times_a = [np.array([20] * 8 + [100] * 2), np.array([20] * 2 + [60] * 3 + [100] * 5)]
    times_b = [np.array([20] * 3 + [100] * 7), np.array([100] * 10)]
    assert grid.logrank == pytest.approx(logrank(times_a, times_b))
    # Of 100 pairs at the first rate 56 are won and 38 tied, at the second 50 and 50.
    assert grid.improvement == pytest.approx(0.75)


def test_the_tuned_rates_by_hand(comparison: Comparison) -> None:
    tuned = comparison.tuned
    assert tuned is not None
    assert (tuned.events_a, tuned.n_a, tuned.events_b, tuned.n_b) == (8, 10, 3, 10)
    assert tuned.boschloo == boschloo(8, 10, 3, 10)
    assert tuned.speed.estimate == pytest.approx(0.64 - 0.24)


def test_the_sentence_can_be_quoted(comparison: Comparison) -> None:
    sentence = comparison.sentence()
    assert sentence.startswith(
        "vit_normsoftmax reaches its Eureka-moment in 8/10 runs against 3/10 of vit at tuned learning rates"
        " (difference +0.50 [+0.07, +0.74], Boschloo p = 0.041)"
        " and in 13/20 runs against 3/20 of vit over the whole grid (difference +0.50 ["
    )
    assert "its convergence speed is 0.46 against 0.12 (ΔS = +0.34 [" in sentence
    assert sentence.endswith("; n = 10 seeds × 2 learning rates on steps-v1 quick.")


def test_the_dictionary_is_plain_and_complete(comparison: Comparison) -> None:
    content = comparison.to_dict()
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    assert content["schema"] == "msb.comparison/1"
    assert content["a"]["model"] == "vit_normsoftmax"
    assert content["grid"]["speed"][0] == pytest.approx(0.34)
    assert content["sentence"] == comparison.sentence()


def test_turned_round_the_differences_change_sign(tmp_path: Path) -> None:
    a = run(tmp_path / "a", [FAST] * 8 + [NEVER] * 2)
    b = run(tmp_path / "b", [FAST] * 3 + [NEVER] * 7, model="vit_tau")
    there, back = compare(a, b).grid, compare(b, a).grid
    assert there.speed.estimate == -back.speed.estimate
    assert there.permutation == back.permutation
    assert there.logrank == pytest.approx(back.logrank)
    assert there.improvement == pytest.approx(1 - back.improvement)


def test_one_learning_rate_is_said_once(tmp_path: Path) -> None:
    a, b = run(tmp_path / "a", [FAST, FAST, NEVER]), run(tmp_path / "b", [NEVER] * 3, model="vit_tau")
    result = compare(a, b)
    assert result.grid.speed.estimate == pytest.approx(1.6 / 3)
    sentence = result.sentence()
    assert "in 2/3 runs against 0/3 of vit_tau (difference" in sentence
    assert "tuned" not in sentence
    assert "n = 3 seeds × 1 learning rate on" in sentence


def test_no_event_anywhere_is_no_evidence(tmp_path: Path) -> None:
    a, b = run(tmp_path / "a", [NEVER] * 10), run(tmp_path / "b", [NEVER] * 10, model="vit_tau")
    grid = compare(a, b).grid
    assert (grid.permutation, grid.logrank, grid.improvement, grid.boschloo) == (1, 1, 0.5, 1)
    assert grid.speed == newcombe(0, 10, 0, 10)  # and not the point 0


def test_that_one_model_had_no_event_does_not_make_its_speed_certain(tmp_path: Path) -> None:
    """8 cells without an event leave p up to 0.32, and S with it: ΔS is as uncertain as both, by square-and-add."""
    a, b = (
        run(tmp_path / "a", [FAST] * 4, [SLOW] * 3 + [NEVER]),
        run(tmp_path / "b", *[[NEVER] * 4] * 2, model="vit_tau"),
    )
    there, back = compare(a, b).grid.speed, compare(b, a).grid.speed
    own = score_run(a).grid.speed
    assert there.estimate == own.estimate == pytest.approx((0.8 + 0.3) / 2)
    assert there.low == pytest.approx(own.estimate - ((own.estimate - own.low) ** 2 + wilson(0, 8).high ** 2) ** 0.5)
    assert there.high == pytest.approx(own.high)
    assert (back.low, back.high) == pytest.approx((-there.high, -there.low))


def test_missing_cells_are_said(tmp_path: Path) -> None:
    a = run(tmp_path / "a", [FAST, FAST], seeds=4)
    b = run(tmp_path / "b", [FAST, FAST, FAST, NEVER], model="vit_tau")
    sentence = compare(a, b).sentence()
    assert "in 2/4 runs against 3/4" in sentence
    assert sentence.endswith("; missing cells count as failures, 2 against 0.")


def test_a_control_task_is_compared_by_speed_alone(tmp_path: Path) -> None:
    control = {"levels": {"chance": 0.1, "ceiling": 0.9}}
    a = run(tmp_path / "a", [FAST] * 3, task=control)
    b = run(tmp_path / "b", [NEVER] * 3, task=control, model="vit_tau")
    result = compare(a, b)
    assert (result.grid.probability, result.grid.boschloo) == (None, None)
    assert result.sentence().startswith("vit against vit_tau: its convergence speed is")


def test_models_of_one_name_are_told_apart_by_their_changes(tmp_path: Path) -> None:
    a = run(tmp_path / "a", [FAST] * 3, changes={"model.depth": 7})
    b = run(tmp_path / "b", [NEVER] * 3)
    assert compare(a, b).labels == ("vit · depth=7", "vit")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": {"id": "other-v1"}}, "task steps-v1 against other-v1"),
        ({"task": {"id": "steps-v2"}}, "task steps-v1 against steps-v2"),
        ({"task": {"parameters": {"tiles": 3}}}, "cards of steps-v1 with hash"),
        ({"protocol": {"budget": 200_000}}, "budget 100000 against 200000"),
        ({"changes": {"task.noise": 0.1}}, "task.noise unchanged against 0.1"),
    ],
)
def test_another_task_card_or_budget_is_refused(tmp_path: Path, changes: dict, message: str) -> None:
    a, b = run(tmp_path / "a", [FAST] * 3), run(tmp_path / "b", [FAST] * 3, model="vit_tau", **changes)
    with pytest.raises(RunError, match=f"{message}.*; train both models on the same task with the same budget$"):
        compare(a, b)


RECIPES = [
    ({"protocol_name": "paper"}, {"protocol": ("quick", "paper")}),
    ({"protocol": {"weight_decay": 0.1}}, {"weight_decay": (0.05, 0.1)}),
    ({"rates": [2e-3]}, {"learning_rates": ((1e-3,), (2e-3,))}),
    ({"seeds": 4}, {"seeds": (3, 4)}),
]


@pytest.mark.parametrize(("changes", "recipe"), RECIPES)
def test_another_recipe_is_compared_and_named(tmp_path: Path, changes: dict, recipe: dict) -> None:
    a, b = run(tmp_path / "a", [FAST] * 3), run(tmp_path / "b", [FAST] * 3, model="vit_tau", **changes)
    comparison = compare(a, b)
    assert comparison.recipe == recipe
    assert f"; the recipe differs: {', '.join(recipe)}" in comparison.sentence()
    (key, values), *_ = comparison.to_dict()["recipe"].items()
    assert (key, values) == (next(iter(recipe)), json.loads(json.dumps(list(recipe[key]))))
    with pytest.raises(RunError, match=f"{next(iter(recipe))} .* under the same protocol"):
        compare(a, b, same_recipe=True)


def test_every_difference_is_named_at_once(tmp_path: Path) -> None:
    a = run(tmp_path / "a", [FAST] * 3)
    b = run(tmp_path / "b", [FAST] * 3, protocol={"budget": 200_000, "precision": "bfloat16"})
    with pytest.raises(RunError, match="budget 100000 against 200000; precision float32 against bfloat16"):
        compare(a, b, same_recipe=True)


def test_grids_of_other_rates_are_compared_as_a_whole(tmp_path: Path) -> None:
    a = run(tmp_path / "a", [FAST] * 3, [NEVER] * 3)
    b = run(tmp_path / "b", [SLOW] * 4, [NEVER] * 4, [NEVER] * 4, model="vit_tau")
    grid = compare(a, b).grid
    assert (grid.events_a, grid.n_a, grid.events_b, grid.n_b) == (3, 6, 4, 12)
    assert grid.speed.estimate == pytest.approx(0.8 / 2 - 0.4 / 3)
    pooled = [np.array([20] * 3 + [100] * 3)], [np.array([60] * 4 + [100] * 8)]
    assert grid.logrank == pytest.approx(logrank(*pooled))
    assert grid.improvement == pytest.approx((36 + 24 / 2) / 72)  # 3 cells beat all 12, 3 tie with 8
    assert "n = 3 seeds × 2 learning rates against 4 seeds × 3 learning rates on" in compare(a, b).sentence()


def test_the_final_accuracy_by_hand(comparison: Comparison) -> None:
    grid, tuned = comparison.grid, comparison.tuned
    assert tuned is not None
    # With an event a cell ends at 0.95, without at 0.55; of A 8 and 5 of ten jump, of B 3 and 0.
    assert (grid.final_a, grid.final_b) == pytest.approx((0.55 + 0.4 * 13 / 20, 0.55 + 0.4 * 3 / 20))
    assert grid.final.estimate == pytest.approx(0.2)
    assert 0.05 < grid.final.low < 0.15 < 0.25 < grid.final.high < 0.35
    assert tuned.final.estimate == pytest.approx(0.2)
    # Of the C(20, 10) ways to part 11 jumps, those that part them at least 8 to 3.
    ways = sum(comb(11, k) * comb(9, 10 - k) for k in range(11) if abs(2 * k - 11) >= 5)
    assert tuned.final_permutation == pytest.approx(ways / comb(20, 10), rel=0.15)
    assert "its final accuracy 0.81 against 0.61 (Δ = +0.20 [" in comparison.sentence()


def test_equal_final_accuracies_are_known_as_well_as_one_evaluation_of_either(tmp_path: Path) -> None:
    a, b = run(tmp_path / "a", [FAST] * 3), run(tmp_path / "b", [NEVER] * 3, model="vit_tau")
    final = compare(a, b).grid.final
    high, low = wilson(950, 1000), wilson(550, 1000)
    assert final.estimate == pytest.approx(0.4)
    assert final.low == pytest.approx(0.4 - (0.95 - high.low) - (low.high - 0.55))
    assert final.high == pytest.approx(0.4 + (high.high - 0.95) + (0.55 - low.low))


def test_final_losses_are_compared_as_losses(tmp_path: Path) -> None:
    a = run(tmp_path / "a", [fall(0.2)] * 2 + [fall(0.6)], task=LOSS_TASK)
    b = run(tmp_path / "b", [[4000] + [3000] * 100] * 3, task=LOSS_TASK, model="vit_tau")
    comparison = compare(a, b)
    assert comparison.grid.final.estimate == pytest.approx(-1.5)
    assert -4 <= comparison.grid.final.low <= -1.5 <= comparison.grid.final.high
    assert "its final loss 1.50 against 3.00 (Δ = -1.50" in comparison.sentence()


def test_runs_of_equal_speed_are_told_apart_by_where_they_end(tmp_path: Path) -> None:
    falls = [*FAST[:90], *[300] * 11]  # the same event, and a collapse afterwards
    a = run(tmp_path / "a", [FAST] * 8)
    b = run(tmp_path / "b", [falls] * 8, model="vit_tau")
    grid = compare(a, b).grid
    assert (grid.speed.estimate, grid.permutation) == (0, 1)
    assert grid.final.estimate == pytest.approx(0.65)
    assert grid.final_permutation < 0.001
