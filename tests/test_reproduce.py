"""Cells trained again: bit-equal here, judged by event and accuracy elsewhere, and no code that was not named."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import entries
import numpy as np
import pytest
from commands import in_process
from entries import TASK, URL
from typer.testing import CliRunner, Result

from multistep_bench.cli import app
from multistep_bench.errors import BenchError
from multistep_bench.leaderboard.fresh import FIRST_SEED, fresh_test
from multistep_bench.leaderboard.notes import ControlRun, FreshCell, Reproduction, RerunCell, Start
from multistep_bench.leaderboard.reproduce import reproduce
from multistep_bench.leaderboard.reproductions import (
    FINAL_TOLERANCE,
    agrees,
    counts,
    disagreements,
    needed,
    spread,
    tier_of,
)
from multistep_bench.leaderboard.submission import submit
from multistep_bench.leaderboard.verify import verify
from multistep_bench.runs.record import Record
from multistep_bench.scoring.score import Score
from multistep_bench.scoring.score import score as score_of
from multistep_bench.training.launch import run as train
from multistep_bench.training.plan import plan
from multistep_bench.trusted_code import import_paths

ABOUT_THIS_ENTRY = ("root", "record_sha256", "eureka", "final_accuracy")


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An entry of a smoke run that really was trained here."""
    folder = tmp_path_factory.mktemp("real")
    run = train(TASK, "vit_tau", "smoke", folder / "run", workers=1, device="cpu")
    return submit([run.path], "tau", URL, board=entries.make_board(folder / "board")).folder


@pytest.fixture
def entry(real: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(real, tmp_path / "board" / "entries" / "tau"))


@pytest.fixture(scope="module")
def reproduced(real: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """The entry with a note on it, of one cell and two on fresh seeds, and what the command said."""
    folder = Path(shutil.copytree(real, tmp_path_factory.mktemp("reproduced") / "entries" / "tau"))
    arguments = ["reproduce", str(folder), "--by", "the tests", "--cells", "1", "--seed", "0", "--fresh", "2"]
    return folder, CliRunner().invoke(app, arguments)


def test_a_real_entry_agrees_bit_for_bit_and_two_cells_do_not_make_it_reproduced(
    reproduced: tuple[Path, Result],
) -> None:
    entry, shown = reproduced
    assert shown.exit_code == 0, shown.output
    assert "agrees (same stack, bit-equal" in shown.output
    assert "on shuffled answers: 0." in shown.output
    assert "2 cells on fresh seeds: p = " in shown.output
    assert "The note does not lift the tier" in shown.output
    verdict = verify(entry)
    assert verdict.problems == ()
    assert verdict.tier == "re-scored"
    assert verdict.entry is not None
    (note,) = verdict.entry.reproductions
    assert (note.by, note.root, len(note.cells)) == ("the tests", verdict.entry.root, 1)
    assert note.fresh is not None
    assert all(cell.seed_index >= FIRST_SEED for cell in note.fresh.cells)
    assert note.control.best < note.control.limit


def test_a_forged_curve_does_not_agree(entry: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed_index in (0, 1):
        rng = np.random.default_rng(seed_index)

        def forge(record: Record, rng: np.random.Generator = rng) -> Record:
            correct, loss = record.curve.correct.copy(), record.curve.loss.copy()
            correct[60:], loss[60:] = rng.binomial(192, 0.95, 41), 0.5 + 0.1 * rng.random(41)
            return entries.with_arrays(record, correct=correct, loss=loss)

        entries.change_record(entry, f"rate0-seed{seed_index}", forge)
    assert verify(entry).sound  # consistent, so re-scored: only training tells
    code, output, _ = in_process(capsys, "reproduce", str(entry), "--by", "the tests", "--cells", "1", "--json")
    assert code == 1
    cells = json.loads(output)["cells"]
    assert [cell["bit_equal"] for cell in cells] == [False]
    assert "has another curve here" in json.loads(output)["disagreements"][0]
    assert verify(entry).tier == "re-scored"


@pytest.mark.parametrize(("count", "factor"), [(4, 1.0), (0, 1.01)])
def test_a_shipped_model_begins_as_its_weights_say(count: int, factor: float, entry: Path) -> None:
    def begin_elsewhere(record: Record) -> Record:
        correct, loss = record.curve.correct.copy(), record.curve.loss.copy()
        correct[0] += count
        loss[0] = np.float32(loss[0] * factor)
        return entries.with_arrays(record, correct=correct, loss=loss)

    assert verify(entry).sound
    entries.change_record(entry, "rate0-seed1", begin_elsewhere)
    (problem,) = verify(entry).problems
    assert problem.startswith("rate0-seed1: vit_tau answers ")
    assert "items right before training" in problem


def test_a_model_that_trains_inside_its_forward_pass_is_not_reproduced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "inner.py").write_text(
        "import torch\nfrom torch import nn\nimport user_models\n"
        "class Inner(nn.Module):\n"
        "    def __init__(self, info):\n        super().__init__()\n        self.net = user_models.linear(info)\n"
        "    def forward(self, x):\n"
        "        if self.training:\n"
        "            torch.autograd.grad(self.net(x).square().mean(), list(self.net.parameters()))\n"
        "        return self.net(x)\n"
        "def build(task):\n    return Inner(task)\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(tmp_path)
    spec = plan(TASK, "inner:build", "smoke")
    forward, step = spec.model.flops_per_sample, spec.model.training_flops_per_sample
    assert forward is not None
    assert step == 4 * forward  # twice forward and the gradient of the weights: one layer has no other
    monkeypatch.setattr("multistep_bench.leaderboard.checks.recipe.STEP_LIMIT", 3.9)
    monkeypatch.setattr("multistep_bench.leaderboard.reproduce.STEP_LIMIT", 3.9)
    untold = spec.model_copy(update={"model": spec.model.model_copy(update={"training_flops_per_sample": None})})
    for told, where in ((spec, "submit"), (untold, "reproduce")):
        run = entries.make_run(tmp_path / f"{where} run", spec=told)
        with pytest.raises(BenchError, match=r"(it|the model) trains inside"):
            reproduce(
                submit([run], "inner", URL, board=entries.make_board(tmp_path / where)).folder,
                1,
                "the tests",
                trusted=["inner:build"],
            )


def note_of(entry: Path) -> dict:
    return json.loads((entry / "reproductions.jsonl").read_text())


def fresh_of(note: dict, **changes: int) -> dict:
    return {**note["fresh"], "cells": [{**note["fresh"]["cells"][0], **changes}]}


def test_a_note_must_be_about_this_entry(reproduced: tuple[Path, Result], tmp_path: Path) -> None:
    entry = Path(shutil.copytree(reproduced[0], tmp_path / "entries" / "tau"))
    whole = note_of(entry)
    changes = {
        "another root": ({"root": "0" * 64}, "is of another root"),
        "another record": ({"record_sha256": "0" * 64}, "is of no record of the entry"),
        "another cell": ({"cell": "rate7-seed7"}, "is of no record of the entry"),
        "another accuracy": ({"final_accuracy": [1.0, 1.0]}, "states other numbers"),
        "another start": ({"start": [{**whole["cells"][0]["start"][0], "loss": 2.5}] * 2}, "states other numbers"),
        "no signature": ({"by": ""}, "at least 1 character"),
        "a hostile signature": ({"by": "x" * 81}, "at most 80 characters"),
        "another day": ({"date": "soon"}, "should match pattern"),
        "a control of another cell": ({"control": {**whole["control"], "cell": "x"}}, "is of no cell of the entry"),
        "a control with a limit of its own": ({"control": {**whole["control"], "limit": 1.0}}, "states another limit"),
        "known seeds": ({"fresh": fresh_of(whole, seed_index=3)}, f"have seeds below {FIRST_SEED}"),
        "no such rate": ({"fresh": fresh_of(whole, rate_index=9)}, "learning rates that the entry lacks"),
        "another p": ({"fresh": {**whole["fresh"], "rank": 0.77}}, "state another rank than they have"),
        "another power": ({"fresh": {**whole["fresh"], "power": 0.99}}, "state another power than they have"),
    }
    for change, expected in changes.values():
        note = json.loads(json.dumps(whole))
        for key, value in change.items():
            (note if key in note else note["cells"][0])[key] = value
        (entry / "reproductions.jsonl").write_text(json.dumps(note) + "\n")
        assert expected in "; ".join(verify(entry).problems), expected


START = Start(accuracy=0.1, loss=2.0, train_loss=1.9)


def rerun(
    *,
    same: bool,
    equal: bool,
    events: tuple[float | None, float | None],
    finals: tuple[float, float],
    start: Start = START,
    same_items: bool = True,
) -> RerunCell:
    return RerunCell(
        task=TASK,
        cell="rate0-seed0",
        record_sha256="0" * 64,
        same_stack=same,
        bit_equal=equal,
        same_items=same_items,
        start=(START, start),
        eureka=events,
        final_accuracy=finals,
    )


def test_agreement_is_to_the_bit_on_the_same_stack_and_by_event_and_accuracy_elsewhere() -> None:
    near, far = (0.9, 0.9 + 0.9 * FINAL_TOLERANCE), (0.9, 0.9 + 1.1 * FINAL_TOLERANCE)
    assert agrees(rerun(same=True, equal=True, events=(5.0, 5.0), finals=near))
    assert not agrees(rerun(same=True, equal=False, events=(5.0, 5.0), finals=(0.9, 0.9)))
    assert agrees(rerun(same=False, equal=False, events=(5.0, 9.0), finals=near))
    assert agrees(rerun(same=False, equal=False, events=(None, None), finals=near))
    assert not agrees(rerun(same=False, equal=False, events=(5.0, 9.0), finals=far))
    assert not agrees(rerun(same=False, equal=False, events=(5.0, None), finals=near))
    assert not agrees(rerun(same=False, equal=False, events=(None, 5.0), finals=near))


@pytest.mark.parametrize(
    ("same_items", "changes", "agreed"),
    [
        (True, {"accuracy": 0.109}, True),
        (True, {"accuracy": 0.111}, False),
        (True, {"loss": 2.0019}, True),
        (True, {"loss": 1.9979}, False),
        (True, {"train_loss": 1.9 * 1.0099}, True),
        (True, {"train_loss": 1.9 * 0.9899}, False),
        (True, {"train_loss": None}, False),
        (False, {"accuracy": 0.199, "loss": 2.19, "train_loss": 2.08}, True),
        (False, {"accuracy": 0.201}, False),
        (False, {"loss": 2.21}, False),
        (False, {"train_loss": 1.7}, False),
    ],
)
def test_a_curve_starts_alike_on_every_stack(
    same_items: bool, changes: dict[str, float | None], agreed: bool, tmp_path: Path
) -> None:
    start = START.model_copy(update=changes)
    cell = rerun(same=False, equal=False, events=(9.0, 9.0), finals=(0.9, 0.9), start=start, same_items=same_items)
    assert agrees(cell) is agreed
    if not agreed:
        score = jumping(tmp_path)
        assert disagreements(noted(score, cell), score) == (f"{TASK} rate0-seed0 starts otherwise here",)


def jumping(tmp_path: Path, jumps: int = 10) -> Score:
    """The score of an entry of 20 seeds, of which ten jump at 0.1 of 3,200 samples, or where `jumps` says fewer."""
    entry = entries.make_entry(entries.make_board(tmp_path / "made"), jump=0.1, changes={"protocol.seeds": 2 * jumps})
    score = verify(entry, draw_items=False).score
    assert score is not None
    return score


def noted(score: Score, *cells: RerunCell, best: float = 0.2, fresh: Sequence[FreshCell] = ()) -> Reproduction:
    return Reproduction(
        by="the tests",
        date="2026-01-01",
        root="0" * 64,
        versions={},
        hardware={},
        cells=cells or (rerun(same=True, equal=True, events=(None, None), finals=(0.5, 0.5)),),
        control=ControlRun(task=TASK, cell="rate0-seed0", best=best, limit=0.671875),
        fresh=fresh_test(score, fresh) if fresh else None,
    )


def elsewhere(factor: float, place: int = 0) -> RerunCell:
    cell = rerun(same=False, equal=False, events=(320.0, 320.0 * factor), finals=(0.9, 0.9))
    return cell.model_copy(update={"cell": f"rate0-seed{place}"})


def test_times_on_another_stack_are_judged_by_the_spread_of_the_entry_and_their_sign(tmp_path: Path) -> None:
    score = jumping(tmp_path)
    assert spread(score) == 0.05  # every second cell jumps at one time: the least that is believed
    assert disagreements(noted(score, elsewhere(1.2)), score) == ()
    (one,) = disagreements(noted(score, elsewhere(5.0)), score)
    assert one.endswith("has its Eureka-moment at 1,600 here, submitted is 320")
    (other,) = disagreements(noted(score, *(elsewhere(1.2, place) for place in range(9))), score)
    assert other == "over 9 cells the Eureka-moments come 1.20 times as late here, all in all"
    mixed = [elsewhere(1.2 if place % 2 else 1 / 1.2, place) for place in range(8)]
    assert disagreements(noted(score, *mixed), score) == ()


def test_only_enough_fresh_cells_lift_the_tier_and_anything_against_the_entry_keeps_it() -> None:
    vit = entries.reference("vit")
    score = score_of(vit.runs)
    assert needed(score) == 3
    honest = [
        FreshCell(
            task=TASK,
            rate_index=cell.cell.rate_index,
            seed_index=FIRST_SEED + place,
            eureka=cell.curve.eureka,
            final_accuracy=cell.curve.final_accuracy,
        )
        for place, cell in enumerate(sorted(score.runs[0].cells, key=lambda cell: cell.cell.seed_index)[:9])
    ]
    never = [cell.model_copy(update={"eureka": None}) for cell in honest]
    whole = noted(score, fresh=honest)
    assert counts(whole, score)
    assert tier_of([whole], score) == "reproduced"
    for note in (
        noted(score),  # no fresh cells
        noted(score, fresh=honest[:2]),  # too few
        noted(score, fresh=honest[:3]),  # too few to tell
    ):
        assert not counts(note, score)
        assert tier_of([note], score) == "re-scored"
        assert tier_of([note, whole], score) == "reproduced"
    against = {
        "it knows what it was not taught": noted(score, best=0.9),
        "cells on fresh seeds have their Eureka-moment later or less often": noted(score, fresh=never),
        "has another curve here": noted(score, rerun(same=True, equal=False, events=(5.0, 5.0), finals=(0.9, 0.9))),
    }
    for sentence, note in against.items():
        assert sentence in disagreements(note, score)[0]
        assert tier_of([whole, note], score) == "re-scored"


def test_a_model_that_knows_the_rule_is_found_when_it_is_reproduced(tmp_path: Path) -> None:
    run = train(TASK, "cheating_models:rule", "smoke", tmp_path / "run", workers=1, device="cpu")
    entry = submit([run.path], "cheat", URL, board=entries.make_board(tmp_path / "board")).folder
    done = reproduce(entry, 1, "the tests", trusted=["cheating_models:rule"])
    assert [cell.bit_equal for cell in done.note.cells] == [True]
    (found,) = done.disagreements
    assert found.startswith("trained on shuffled answers the model reaches 1.000 on the real ones")
    assert verify(entry).tier == "re-scored"


def test_no_code_runs_that_was_not_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The builder of a synthetic entry leaves a mark when it is imported."""
    (tmp_path / "hostile_module.py").write_text(
        f"from torch import nn\nopen({str(tmp_path / 'mark')!r}, 'w')\ndef build(task):\n    return nn.Flatten()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    board = entries.make_board(tmp_path / "board")
    entry = entries.make_entry(board, "hostile", model="hostile_module:build")
    assert verify(entry).sound
    with pytest.raises(BenchError, match="add --trust hostile_module:build"):
        reproduce(entry, 1, "the tests")
    assert not (tmp_path / "mark").exists()
    with pytest.raises(BenchError, match="the code of model 'hostile_module:build' here is not that of the entry"):
        reproduce(entry, 1, "the tests", trusted=["hostile_module:build"])
    assert (tmp_path / "mark").exists()


def test_import_paths_are_found_wherever_an_option_may_hold_them() -> None:
    config = {"attention": "evil:Rule", "deep": [{"x": "os:system"}], "width": 3}
    assert set(import_paths(["a:b", config])) == {"a:b", "evil:Rule", "os:system"}
    assert set(import_paths(["vit", {"title": "a: b"}])) == set()


def test_an_importable_model_is_trained_again_once_it_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "from torch import nn\n\n\ndef build(task, width=8):\n"
        "    size = task.observation_space.shape\n    inputs = size[0] * size[1] * size[2]\n"
        "    layers = nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, task.num_classes)\n"
        "    return nn.Sequential(nn.Flatten(), *layers)\n"
    )
    (tmp_path / "small_model.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    run = train(TASK, "small_model:build", "smoke", tmp_path / "run", workers=1, device="cpu")
    board = entries.make_board(tmp_path / "board")
    entry = submit([run.path], "small", URL, board=board).folder
    note = reproduce(entry, None, "the tests", trusted=["small_model:build"]).note
    assert [cell.bit_equal for cell in note.cells] == [True, True]
    (tmp_path / "small_model.py").write_text(code.replace("width=8", "width=16"))
    with pytest.raises(BenchError, match="here is not that of the entry"):
        reproduce(entry, 1, "the tests", trusted=["small_model:build"])


def test_what_cannot_be_reproduced_is_refused(entry: Path) -> None:
    with pytest.raises(BenchError, match="--cells 3: the entry has 2 cells"):
        reproduce(entry, 3, "the tests")
    entries.change_runs(entry, lambda record: record if record.cell.seed_index else None)
    with pytest.raises(BenchError, match="does not verify, so nothing is run again"):
        reproduce(entry, 1, "the tests")
