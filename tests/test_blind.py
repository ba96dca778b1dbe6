"""Cells trained where the model knows neither answers nor seeds: the curves of ever, and nothing to look up."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from multistep_bench.errors import BenchError
from multistep_bench.leaderboard.blind import train_blind
from multistep_bench.leaderboard.control import check_model
from multistep_bench.runs.events import Evaluation, Outcome
from multistep_bench.runs.record import Record
from multistep_bench.runs.spec import Cell
from multistep_bench.training.launch import launch
from multistep_bench.training.plan import plan

DIGITS = "two_step_digits-v1"
SHORT = {
    "protocol.seeds": 1,
    "protocol.budget": 1_600,
    "protocol.evaluation_items": 192,
    "protocol.learning_rates": [1e-3, 2e-3],
}


def curves(record: Record) -> str:
    return replace(record, seconds=np.zeros(len(record))).line


@pytest.mark.parametrize(
    ("task", "model", "changes"),
    [
        (DIGITS, "user_models:linear", {"model.dropout": 0.1}),
        (DIGITS, "vit_heat", {}),
        ("mlm_agreement-v1", "bert", {}),
        ("icl_gaussian-v1", "gpt", {}),
    ],
)
def test_an_honest_cell_has_the_same_record_as_ever(
    task: str, model: str, changes: dict[str, Any], tmp_path: Path
) -> None:
    spec = plan(task, model, "smoke", SHORT | {"protocol.batch_size": 4, "protocol.budget": 400} | changes)
    cell, told = Cell(1, 0), []
    (theirs,) = [each for each in launch(spec, tmp_path / "run", workers=1).records if each.cell == cell]
    ours = train_blind(spec, cell, watch=lambda cell, event: told.append((cell, event)))
    assert curves(ours) == curves(theirs)
    assert len(told) == 102
    assert {each for each, _ in told} == {cell}
    assert isinstance(told[0][1], Evaluation)
    assert isinstance(told[-1][1], Outcome)


def test_targets_are_out_of_the_reach_of_a_models_frame(tmp_path: Path) -> None:
    spec = plan(DIGITS, "cheating_models:frames", "smoke", {"protocol.seeds": 1})
    (before,) = launch(spec, tmp_path / "run", workers=1).records
    assert before.curve.correct[1:].min() == before.curve.set.items  # it does cheat
    assert train_blind(spec, Cell(0, 0)).curve.correct.max() < 0.3 * before.curve.set.items
    assert check_model(DIGITS, "cheating_models:frames", "smoke")[1]  # and so gains nothing where it is reproduced


def test_a_control_run_trains_on_other_answers_and_is_judged_by_the_real_ones() -> None:
    spec = plan(DIGITS, "user_models:linear", "smoke", SHORT | {"protocol.batch_size": 16})
    plain, control = train_blind(spec, Cell(0, 0)), train_blind(spec, Cell(0, 0), order=torch.Generator())
    assert plain.curve.set == control.curve.set
    assert plain.curve.correct[0] == control.curve.correct[0]
    assert plain.curve.loss[0] == control.curve.loss[0]
    assert plain.curve.loss[-1] < control.curve.loss[-1]


@pytest.mark.parametrize(
    ("body", "reason"), [("os._exit(7)", "exit code 7"), ("raise ValueError('no \x1b[31m')", "ValueError: no")]
)
def test_a_model_that_breaks_says_why(body: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "breaking.py").write_text(
        "import multiprocessing, os\nimport user_models\nfrom torch import nn\n"
        "class Breaks(nn.Module):\n"
        "    def __init__(self, info):\n        super().__init__()\n        self.net = user_models.linear(info)\n"
        "    def forward(self, x):\n"
        f"        if multiprocessing.parent_process() is not None:\n            {body}\n"
        "        return self.net(x)\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(BenchError, match=rf"rate0-seed0 of {DIGITS} broke here: .*{reason}") as error:
        train_blind(plan(DIGITS, "breaking:Breaks", "smoke"), Cell(0, 0))
    assert "\x1b" not in str(error.value)


def test_a_model_that_is_given_the_steps_cannot_be_judged() -> None:
    with pytest.raises(BenchError, match="given the intermediate variables"):
        check_model(DIGITS, "vit_oracle", "smoke")
