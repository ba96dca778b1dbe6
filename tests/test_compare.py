"""Comparing two runs: the numbers by hand, the sentence to quote, and what is refused and why."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from records import Counts, flat, jump, make_run

from multistep_bench.errors import RunError
from multistep_bench.scoring.compare import Comparison, compare
from multistep_bench.scoring.statistics import boschloo, logrank, newcombe

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
    assert compare(a, b).labels == ("vit (model.depth=7)", "vit (run B)")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": {"id": "other-v1"}}, "task steps-v1 against other-v1"),
        ({"task": {"id": "steps-v2"}}, "task steps-v1 against steps-v2"),
        ({"task": {"parameters": {"tiles": 3}}}, "cards of steps-v1 with hash"),
        ({"protocol_name": "paper"}, "protocol quick against paper"),
        ({"protocol": {"budget": 200_000}}, "budget 100000 against 200000"),
        ({"protocol": {"weight_decay": 0.1}}, "weight_decay 0.05 against 0.1"),
        ({"rates": [2e-3]}, r"learning_rates \(0.001,\) against \(0.002,\)"),
        ({"seeds": 4}, "seeds 3 against 4"),
        ({"changes": {"task.noise": 0.1}}, "task.noise unchanged against 0.1"),
    ],
)
def test_what_differs_besides_the_model_is_refused(tmp_path: Path, changes: dict, message: str) -> None:
    a, b = run(tmp_path / "a", [FAST] * 3), run(tmp_path / "b", [FAST] * 3, model="vit_tau", **changes)
    with pytest.raises(RunError, match=message):
        compare(a, b)


def test_every_difference_is_named_at_once(tmp_path: Path) -> None:
    a = run(tmp_path / "a", [FAST] * 3)
    b = run(tmp_path / "b", [FAST] * 3, protocol={"budget": 200_000, "precision": "bfloat16"})
    with pytest.raises(RunError, match="budget 100000 against 200000; precision float32 against bfloat16"):
        compare(a, b)
