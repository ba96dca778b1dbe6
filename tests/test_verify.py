"""Verification finds what is false in an entry whose hashes and scores were all made to fit again."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import entries
import numpy as np
import pytest
from entries import TASK
from typer.testing import CliRunner

from multistep_bench.cli import app
from multistep_bench.leaderboard.curves import answers_are_targets
from multistep_bench.leaderboard.references import references
from multistep_bench.leaderboard.roughness import fingerprints, shared_curves, smoothness_problem
from multistep_bench.leaderboard.verify import verify, verify_entry
from multistep_bench.runs.record import read_record

CELL = "rate0-seed0"
Lines = list[dict[str, Any]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return entries.make_entry(entries.make_board(tmp_path_factory.mktemp("made") / "board"))


@pytest.fixture
def entry(made: Path, tmp_path: Path) -> Path:
    """A fresh copy of a sound entry: two cells of the smoke protocol, 100 evaluations of 192 items."""
    return Path(shutil.copytree(made, tmp_path / "board" / "entries" / "mine"))


def problems(entry: Path) -> str:
    verdict = verify(entry)
    assert verdict.score is None or verdict.sound
    return "; ".join(verdict.problems)


def test_a_sound_entry_has_no_problem_and_is_rescored(entry: Path) -> None:
    verdict = verify(entry)
    assert verdict.problems == ()
    assert verdict.tier == "re-scored"
    assert verdict.score is not None
    assert verdict.score.runs[0].grid.events == 1


def test_every_reference_is_a_sound_entry() -> None:
    assert {entry.name for entry in references()} >= {"vit", "vit_tau", "vit_heat", "vit_normsoftmax"}
    for entry in references():
        assert verify_entry(entry, entry.name).problems == ()
    assert {entry.name for entry in references() if entry.track == "open"} == {"vit_gradscale"}  # it rescales gradients


def set_all(key: str, value: Callable[[int, Any], Any]) -> Callable[[Lines], None]:
    """Replaces a key of every evaluation by a function of its index and what was there."""

    def edit(lines: Lines) -> None:
        for index, each in enumerate(lines[1:-1]):
            each[key] = value(index, each[key])

    return edit


def smooth(lines: Lines) -> None:
    """A perfect leap, rounded to whole counts."""
    share = np.linspace(0, 1, len(lines) - 2)
    accuracy = 0.125 + 0.4 * np.minimum(share / 0.5, 1) + 0.42 / (1 + np.exp(-(share - 0.6) / 0.1))
    for each, value in zip(lines[1:-1], accuracy, strict=True):
        each.update(correct=round(float(value) * 192), loss=2.0 - float(value))


def drop_tail(lines: Lines) -> None:
    del lines[60:-1]
    lines[-1].update(samples=lines[-2]["samples"], seconds=lines[-2]["seconds"])


def begin_solved(lines: Lines) -> None:
    lines[1].update(correct=180, loss=0.5)


def lose(index: int) -> Callable[[Lines], None]:
    return lambda lines: lines[1 + index].update(correct=None, loss=None)


def outcome(**changes: Any) -> Callable[[Lines], None]:
    return lambda lines: lines[-1].update(changes)


def header(section: str | None = None, **changes: Any) -> Callable[[Lines], None]:
    return lambda lines: (lines[0][section] if section else lines[0]).update(changes)


FALSE_RECORDS: dict[str, tuple[Callable[[Lines], None], str]] = {
    "another seed": (header("cell", seed=1), "seed is not the hash of its cell"),
    "another rate": (header("cell", learning_rate=3e-3), "learning rate 0.003 is not the grid's 0.001"),
    "another card": (header("task", sha256="0" * 64), "header's task is not that of spec.json"),
    "another model": (header("model", parameters=5), "header's model is not that of spec.json"),
    "another protocol": (header("protocol", weight_decay=0.0), "header's protocol is not that of spec.json"),
    "another specification": (header(spec_sha256="0" * 64), "header's spec_sha256 is not that of spec.json"),
    "fewer items": (header("evaluation", items=95), "counts 95 items, the protocol draws 192"),
    "other items": (header("evaluation", sha256="0" * 64), "its evaluation items are not those that"),
    "early stop": (drop_tail, "says completed after 59 of 101 evaluations"),
    "no start": (lose(0), "its evaluation before training is missing"),
    "a gap": (lose(50), "evaluation 50 is missing or not finite, and the record does not say diverged"),
    "solved at the start": (begin_solved, "before training, 0.938, is above the threshold"),
    "off the grid": (set_all("samples", lambda i, old: old + (i == 7)), "not one every 32 samples from 0"),
    "dense evaluations": (set_all("samples", lambda i, old: old // 2), "not one every 32 samples from 0"),
    "too many right": (set_all("correct", lambda i, old: 193 if i == 99 else old), "more than 192 right answers"),
    "no loss left": (set_all("loss", lambda i, old: 0.01), "smaller than its wrong answers allow"),
    "negative loss": (set_all("train_loss", lambda i, old: -1.0 if i else None), "a loss is negative"),
    "falling clock": (set_all("seconds", lambda i, old: 100.0 - i), "its seconds fall"),
    "no time at all": (set_all("seconds", lambda i, old: 0.0), "its training took no time"),
    "loss before training": (set_all("train_loss", lambda i, old: 1.0), "a training loss before training"),
    "smooth counts": (smooth, "its counts are too smooth for 192 items"),
    "diverged, but finite": (outcome(status="diverged"), "says diverged, and it is not its last evaluation"),
    "another end": (outcome(samples=64), "outcome's samples or seconds are not those of its last"),
    "completed with a reason": (outcome(reason="because"), "says completed and gives a reason"),
    "an unknown auxiliary": (header(auxiliary={"x": {"items": 3, "sha256": "0"}}), "other auxiliary readings"),
}


@pytest.mark.parametrize("name", FALSE_RECORDS)
def test_a_false_record_is_found_although_every_hash_fits(entry: Path, name: str) -> None:
    edit, expected = FALSE_RECORDS[name]
    entries.edit_record(entry, CELL, edit, signed=False)
    resign_hashes(entry)
    assert expected in problems(entry)


def resign_hashes(entry: Path) -> None:
    """All hashes fit; the scores stay, for many of these curves cannot be scored at all."""
    import hashlib

    def edit(content: dict[str, Any]) -> None:
        for path in (entry / "runs" / TASK / "cells").iterdir():
            content["runs"][0]["records"][path.stem] = hashlib.sha256(path.read_bytes()).hexdigest()

    entries.edit_entry_file(entry, edit)


def test_a_diverged_record_is_accepted_as_the_failure_it_is(entry: Path) -> None:
    def diverge(lines: Lines) -> None:
        del lines[31:-1]
        lines[-2].update(correct=None, loss=None)
        lines[-1].update(status="diverged", reason="the loss is not finite", **at_the_end(lines))

    entries.edit_record(entry, CELL, diverge)
    verdict = verify(entry)
    assert verdict.problems == ()
    assert verdict.score is not None
    assert verdict.score.runs[0].grid.events == 0


def at_the_end(lines: Lines) -> dict[str, Any]:
    return {"samples": lines[-2]["samples"], "seconds": lines[-2]["seconds"]}


@pytest.mark.parametrize(("signed", "expected"), [(False, "is not the file that the manifest hashes"), (True, "")])
def test_one_count_changed_breaks_the_hash_or_shows(entry: Path, signed: bool, expected: str) -> None:
    before = verify(entry)
    change = set_all("correct", lambda i, old: old - 1 if i == 100 else old)
    entries.edit_record(entry, CELL, change, signed=signed)
    assert expected in problems(entry)
    if signed:
        after = verify(entry)
        assert before.score is not None
        assert after.score is not None
        finals = [scored.runs[0].grid.final_accuracy.estimate for scored in (before.score, after.score)]
        assert finals[0] - finals[1] == pytest.approx(
            1 / 192 / 5 / 2
        )  # one item of one evaluation of five, in one cell of two
        assert before.entry is not None
        assert after.entry is not None
        assert before.entry.root != after.entry.root  # shown on the page


@pytest.mark.parametrize("shift", [-1, 0, 1])
def test_a_curve_copied_between_cells_is_found_also_when_shifted(entry: Path, shift: int) -> None:
    path = entry / "runs" / TASK / "cells" / "rate0-seed1.jsonl"
    stolen = [json.loads(each)["correct"] for each in path.read_text().splitlines()[1:-1]]

    def steal(lines: Lines) -> None:
        for index, each in enumerate(lines[1:-1]):
            each["correct"] = stolen[index + shift] if 0 <= index + shift < len(stolen) and index else each["correct"]
            each["loss"] = 1.5 + index / 1000

    entries.edit_record(entry, CELL, steal)
    assert f"{TASK}/rate0-seed0 and {TASK}/rate0-seed1 share a curve" in problems(entry)


def test_swapped_cells_are_found(entry: Path) -> None:
    cells = entry / "runs" / TASK / "cells"
    one, other = cells / "rate0-seed0.jsonl", cells / "rate0-seed1.jsonl"
    swapped = one.read_bytes(), other.read_bytes()
    one.write_bytes(swapped[1])
    other.write_bytes(swapped[0])
    assert "rate0-seed0.jsonl is the record of rate0-seed1" in problems(entry)


def test_a_curve_of_another_entry_or_a_reference_is_found(tmp_path: Path) -> None:
    board = entries.make_board(tmp_path / "board")
    first = entries.make_entry(board, "first", noise=1)
    second = entries.make_entry(board, "second", noise=2)
    assert verify(second, among=board).sound
    shutil.copyfile(*(each / "runs" / TASK / "cells" / f"{CELL}.jsonl" for each in (first, second)))
    entries.sign(second)
    assert f"{TASK}/{CELL} shares a curve with first: {TASK}/{CELL}" in "; ".join(verify(second, among=board).problems)
    spec = entries.make_spec("quick")
    run = entries.make_run(tmp_path / "thief", spec=spec)
    stolen = next(entry for entry in references() if entry.name == "vit").runs[0].records
    for record in stolen:
        entries.write_record(run, spec, record.cell, record.evaluations)
    with pytest.raises(Exception, match=rf"{TASK}/rate0-seed0 shares a curve with vit: {TASK}/rate0-seed0"):
        entries.submit([run], "thief", entries.URL, board=board)


SPEC_CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "budget": ({"protocol.budget": 6_400}, "budget 6400 instead of 3200, which no track may change"),
    "evaluations": ({"protocol.evaluations": 200}, "evaluations 200 instead of 100"),
    "items": ({"protocol.evaluation_items": 200}, "evaluation_items 200 instead of 192"),
    "fewer seeds": ({"protocol.seeds": 1}, "1 seeds instead of at least 2"),
    "a changed task": ({"task.indicator_labels": [1, 2]}, "lists the change 'task.indicator_labels'"),
}


@pytest.mark.parametrize("name", SPEC_CHANGES)
def test_what_no_track_may_change_is_refused(tmp_path: Path, name: str) -> None:
    changes, expected = SPEC_CHANGES[name]
    made = {key: value for key, value in changes.items() if key.startswith("protocol.")}
    spec = entries.make_spec(changes=made).model_copy(update={"changes": changes})
    with pytest.raises(Exception, match=expected):
        entries.make_entry(entries.make_board(tmp_path / "board"), spec=spec, declared_open=True)


MODELS: dict[str, tuple[dict[str, Any], str]] = {
    "the oracle": ({"model": "vit_oracle", "builder": "vit_oracle"}, "sees the intermediate variables"),
    "the oracle by its path": ({"model": "multistep_bench.models.oracle:build"}, "sees the intermediate variables"),
    "the oracle by another name": ({"model": "mine", "builder": "vit_oracle"}, "sees the intermediate variables"),
    "barred by its card": ({"leaderboard": False}, "barred by its card"),
    "the name of a baseline": ({"model": "vit"}, "not the shipped baseline of that name"),
    "an unlisted option": ({"config": {"width": 512}}, "not what that name builds with the changes listed"),
    "pretrained weights": (
        {"model": "timm/resnet18", "config": {"checkpoint_path": "x"}, "changes": {"model.checkpoint_path": "x"}},
        "models start untrained",
    ),
    "a letter from elsewhere": ({"model": "vіt:build"}, "is no name of a model"),  # a Cyrillic і
    "no end of parameters": ({"parameters": 10**18}, "beyond 1000000000000000"),
    "no hash": ({"code_sha256": "unknown"}, "hash of the model's code is none"),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_that_may_not_compete_is_refused(tmp_path: Path, name: str) -> None:
    keys, expected = MODELS[name]
    changes = keys.get("changes", {})
    spec = entries.make_spec(**{key: value for key, value in keys.items() if key != "changes"})
    spec = spec.model_copy(update={"changes": changes})
    with pytest.raises(Exception, match=expected):
        entries.make_entry(entries.make_board(tmp_path / "board"), spec=spec)


def test_a_forged_score_track_scorer_or_name_is_found(entry: Path) -> None:
    def forge(content: dict[str, Any]) -> None:
        content["runs"][0]["grid"]["speed"][0] += 2e-9

    entries.edit_entry_file(entry, forge)
    assert "its grid score is not that of its curves" in problems(entry)
    for key, value, expected in (
        ("track", "open", "it is of the fixed track and says open"),
        ("scorer", "0.9", "it was scored by scorer '0.9'"),
        ("name", "other", "calls itself 'other' and lies in mine"),
        ("url", "http://example.org", "its url is no plain https address"),
    ):
        entries.sign(entry)
        entries.edit_entry_file(entry, lambda content, key=key, value=value: content.update({key: value}))
        assert expected in problems(entry)


def test_nothing_in_entry_json_changes_without_its_root(entry: Path) -> None:
    entries.edit_entry_file(entry, lambda content: content.update(url="https://example.com"), rooted=False)
    assert problems(entry) == "its root is not the hash of its manifest"


def test_a_missing_cell_or_manifest_line_is_found(entry: Path) -> None:
    (entry / "runs" / TASK / "cells" / f"{CELL}.jsonl").unlink()
    assert f"{CELL} is missing" in problems(entry)
    assert f"{CELL} is not the file that the manifest hashes" in problems(entry)
    entries.sign(entry)
    assert problems(entry) == f"{TASK}: {CELL} is missing"


def test_roughness_of_real_curves_is_above_the_limit() -> None:
    real = [record for entry in references() for run in entry.runs for record in run.records]
    assert len(real) >= 126
    assert [record.cell for record in real if smoothness_problem(record)] == []


def test_resting_curves_may_look_alike_and_lively_ones_not(made: Path) -> None:
    record = read_record(made / "runs" / TASK / "cells" / f"{CELL}.jsonl")
    resting = [each.model_copy(update={"correct": 24, "loss": 2.0}) for each in record.evaluations]
    dead = type(record)(record.header, resting, record.outcome, record.sha256)
    assert len(fingerprints(dead)) == 0
    assert list(shared_curves([("a", fingerprints(dead)), ("b", fingerprints(dead))])) == []
    assert list(shared_curves([("a", fingerprints(record)), ("b", fingerprints(record))])) == [("a", "b")]


def test_the_least_loss_holds_only_where_right_answers_are_the_targets() -> None:
    assert answers_are_targets(TASK)
    assert not answers_are_targets("no-such-task-v1")


def test_the_command_says_every_problem_and_exits_1_or_2(entry: Path) -> None:
    run = CliRunner().invoke
    sound = run(app, ["verify", str(entry)])
    assert sound.exit_code == 0
    assert "2 cells verified, re-scored" in sound.output
    entries.edit_record(entry, CELL, begin_solved)
    entries.edit_record(entry, "rate0-seed1", begin_solved)
    false = run(app, ["verify", str(entry)])
    assert false.exit_code == 1
    assert false.output.count("is above the threshold") == 2
    as_json = json.loads(run(app, ["verify", str(entry), "--json"]).output)
    assert [len(each["problems"]) for each in as_json] == [2]
    (entry / "entry.json").write_text("{")
    unreadable = run(app, ["verify", str(entry)])
    assert unreadable.exit_code == 2
    assert "cannot be read" in unreadable.output
    assert run(app, ["verify", str(entry / "nowhere")]).exit_code == 2


def test_an_entry_of_two_models_is_refused(tmp_path: Path) -> None:
    board = entries.make_board(tmp_path / "board")
    runs = [
        entries.make_run(tmp_path / task, task=task, model=model)
        for task, model in ((TASK, "mine:build"), ("two_step_glyphs-v1", "other:build"))
    ]
    with pytest.raises(Exception, match="its builder differs from that of two_step_digits-v1"):
        entries.submit(runs, "two", entries.URL, board=board)
