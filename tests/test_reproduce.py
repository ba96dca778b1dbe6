"""Cells trained again: bit-equal here, judged by event and accuracy elsewhere, and no code that was not named."""

import json
import shutil
from pathlib import Path

import entries
import numpy as np
import pytest
from entries import TASK, URL
from typer.testing import CliRunner

from multistep_bench.cli import app
from multistep_bench.errors import BenchError
from multistep_bench.leaderboard.entry import RerunCell
from multistep_bench.leaderboard.reproduce import import_paths, reproduce
from multistep_bench.leaderboard.reproductions import FINAL_TOLERANCE, agrees
from multistep_bench.leaderboard.submission import submit
from multistep_bench.leaderboard.verify import verify
from multistep_bench.runs.record import Record
from multistep_bench.training.launch import run as train

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


def test_a_real_entry_is_reproduced_bit_for_bit(entry: Path) -> None:
    shown = CliRunner().invoke(app, ["reproduce", str(entry), "--by", "the tests", "--cells", "1", "--seed", "0"])
    assert shown.exit_code == 0, shown.output
    assert "agrees (same stack, bit-equal" in shown.output
    verdict = verify(entry)
    assert verdict.problems == ()
    assert verdict.tier == "reproduced"
    assert verdict.entry is not None
    (note,) = verdict.entry.reproductions
    assert (note.by, note.root, len(note.cells)) == ("the tests", verdict.entry.root, 1)


def test_a_forged_curve_does_not_agree(entry: Path) -> None:
    for seed_index in (0, 1):
        rng = np.random.default_rng(seed_index)

        def forge(record: Record, rng: np.random.Generator = rng) -> Record:
            correct, loss = record.curve.correct.copy(), record.curve.loss.copy()
            correct[60:], loss[60:] = rng.binomial(192, 0.95, 41), 0.5 + 0.1 * rng.random(41)
            return entries.with_arrays(record, correct=correct, loss=loss)

        entries.change_record(entry, f"rate0-seed{seed_index}", forge)
    assert verify(entry).sound  # consistent, so re-scored: only training tells
    shown = CliRunner().invoke(app, ["reproduce", str(entry), "--by", "the tests", "--cells", "2", "--json"])
    assert shown.exit_code == 1
    cells = json.loads(shown.output)["cells"]
    assert [cell["bit_equal"] for cell in cells] == [False, False]
    assert verify(entry).tier == "re-scored"


def note_of(entry: Path) -> dict:
    return json.loads((entry / "reproductions.jsonl").read_text())


def test_a_note_must_be_about_this_entry(entry: Path) -> None:
    reproduce(entry, 1, "the tests", seed=0)
    whole = note_of(entry)
    changes = {
        "another root": ({"root": "0" * 64}, "is of another root"),
        "another record": ({"record_sha256": "0" * 64}, "is of no record of the entry"),
        "another cell": ({"cell": "rate7-seed7"}, "is of no record of the entry"),
        "another accuracy": ({"final_accuracy": [1.0, 1.0]}, "states other numbers"),
        "no signature": ({"by": ""}, "at least 1 character"),
        "a hostile signature": ({"by": "x" * 81}, "at most 80 characters"),
        "another day": ({"date": "soon"}, "should match pattern"),
    }
    for change, expected in changes.values():
        note = json.loads(json.dumps(whole))
        for key, value in change.items():
            (note if key in note else note["cells"][0])[key] = value
        (entry / "reproductions.jsonl").write_text(json.dumps(note) + "\n")
        assert expected in "; ".join(verify(entry).problems), expected


def rerun(
    *, same: bool, equal: bool, events: tuple[float | None, float | None], finals: tuple[float, float]
) -> RerunCell:
    return RerunCell(
        task=TASK,
        cell="rate0-seed0",
        record_sha256="0" * 64,
        same_stack=same,
        bit_equal=equal,
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
    assert import_paths(entries.make_spec(model="a:b", config=config).model) == {"a:b", "evil:Rule", "os:system"}
    assert import_paths(entries.make_spec(model="vit").model) == set()


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
    note = reproduce(entry, 2, "the tests", trusted=["small_model:build"])
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
