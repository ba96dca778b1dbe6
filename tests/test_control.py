"""The control run: what was trained on shuffled answers knows nothing of the real ones, unless it cheats."""

import json

import pytest
import torch
from commands import in_process

from multistep_bench.batch import IGNORED
from multistep_bench.cards import Levels
from multistep_bench.leaderboard.blind import shuffled
from multistep_bench.leaderboard.control import check_model
from multistep_bench.leaderboard.notes import ControlRun
from multistep_bench.leaderboard.reproductions import control_limit, stays_at_the_shortcut
from multistep_bench.seeds import generator

TASK = "two_step_digits-v1"


@pytest.fixture(scope="module")
def checked() -> tuple[ControlRun, bool]:
    """What is found of an honest model."""
    return check_model(TASK, "vit_tau", "smoke")


def test_an_honest_model_stays_at_the_shortcut(checked: tuple[ControlRun, bool]) -> None:
    done, honest = checked
    assert honest
    assert (done.task, done.cell, done.limit) == (TASK, "rate0-seed0", 0.5625 + 0.25 * (1 - 0.5625))
    assert done.best < 0.5625


@pytest.mark.parametrize(("name", "best"), [("rule", 1.0), ("seeds", 1.0), ("trained_before", 0.7)])
def test_a_model_that_knows_what_it_was_not_taught_is_found(
    name: str, best: float, capsys: pytest.CaptureFixture[str]
) -> None:
    model = f"cheating_models:{name}"
    code, output, _ = in_process(capsys, "check-model", model, "--protocol", "smoke", "--json")
    assert code == 1
    found = json.loads(output)
    assert found["best"] >= best
    assert not found["honest"]


def test_the_command_says_what_it_found(
    checked: tuple[ControlRun, bool], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("multistep_bench.leaderboard.control.check_model", lambda *asked: checked)
    code, output, _ = in_process(capsys, "check-model", "vit_tau", "--protocol", "smoke")
    assert code == 0
    assert "trained on shuffled answers" in output
    assert "it stays below, as an honest model does" in output


def test_only_what_is_scored_is_shuffled() -> None:
    targets = torch.arange(60).reshape(6, 10).clone()
    targets[:, ::2] = IGNORED
    mixed = shuffled(targets, generator(0))
    assert torch.equal(mixed == IGNORED, targets == IGNORED)
    assert torch.equal(mixed.flatten().sort().values, targets.flatten().sort().values)
    assert not torch.equal(mixed, targets)


@pytest.mark.parametrize(
    ("levels", "best", "honest"),
    [
        (Levels(chance=0.1, shortcut=0.5, ceiling=0.9), 0.6, True),
        (Levels(chance=0.1, shortcut=0.5, ceiling=0.9), 0.61, False),
        (Levels(chance=4.0, shortcut=3.0, ceiling=1.0), 2.5, True),
        (Levels(chance=4.0, shortcut=3.0, ceiling=1.0), 2.4, False),
    ],
)
def test_the_limit_is_a_quarter_of_the_way_to_the_ceiling(levels: Levels, best: float, honest: bool) -> None:
    run = ControlRun(task=TASK, cell="rate0-seed0", best=best, limit=control_limit(levels))
    assert stays_at_the_shortcut(run, levels) is honest
