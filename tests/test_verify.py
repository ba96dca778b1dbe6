"""Verification finds what is false in an entry whose hashes and scores were all made to fit again."""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import entries
import numpy as np
import pytest
from commands import in_process
from entries import TASK
from typer.testing import CliRunner

from multistep_bench.cli import app
from multistep_bench.leaderboard.checks.copies import (
    OTHER_SEEDS,
    SAME_SEEDS,
    Trace,
    copies,
    fingerprints,
    noise,
    traces_of,
)
from multistep_bench.leaderboard.checks.curves import answers_are_targets
from multistep_bench.leaderboard.checks.noise import smoothness_problem
from multistep_bench.leaderboard.reading import read_entry
from multistep_bench.leaderboard.references import references
from multistep_bench.leaderboard.verify import verify, verify_entry
from multistep_bench.runs.record import MISSING, Record
from multistep_bench.runs.store import RUN_FILE, Run, read_run

CELL = "rate0-seed0"


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
    recipes = {"vit_gradscale", "vit_qk_rate", "vit_sigma_reparam"}  # they change what training does
    assert {entry.name for entry in references() if entry.track == "open"} == recipes


Change = Callable[[Record], Record]


def at(index: int, **values: float) -> Change:
    """Another value at one evaluation of the arrays named."""

    def change(record: Record) -> Record:
        arrays = {"correct": record.curve.correct, "loss": record.curve.loss, "train_loss": record.train_loss}
        changed = {name: arrays[name].copy() for name in values}
        for name, value in values.items():
            changed[name][index] = value
        return entries.with_arrays(record, **changed)

    return change


def to(**values: Any) -> Change:
    """Other arrays, items or hash of the items."""
    return lambda record: entries.with_arrays(record, **values)


def fields(**values: Any) -> Change:
    return lambda record: replace(record, **values)


def placed(**values: Any) -> Change:
    """Another environment."""
    return lambda record: replace(record, environment=record.environment.model_copy(update=values))


def smooth(record: Record) -> Record:
    """A perfect jump, rounded to whole counts."""
    share = np.linspace(0, 1, len(record))
    accuracy = 0.125 + 0.4 * np.minimum(share / 0.5, 1) + 0.42 / (1 + np.exp(-(share - 0.6) / 0.1))
    return entries.with_arrays(record, correct=np.round(accuracy * 192).astype(np.int64), loss=2.0 - accuracy)


def cut(record: Record, length: int) -> Record:
    arrays = {"correct": record.curve.correct, "loss": record.curve.loss}
    arrays |= {"train_loss": record.train_loss, "seconds": record.seconds}
    return entries.with_arrays(record, **{name: values[:length] for name, values in arrays.items()})


FALSE_RECORDS: dict[str, tuple[Change, str]] = {
    "fewer items": (to(items=95, correct=np.full(101, 30)), "counts 95 items, the protocol draws 192"),
    "other items": (to(sha256="0" * 64), "its evaluation items are not those that"),
    "early stop": (lambda record: cut(record, 59), "says completed after 59 of 101 evaluations"),
    "no start": (at(0, correct=MISSING, loss=np.nan), "its evaluation before training is missing"),
    "a gap": (at(50, correct=MISSING, loss=np.nan), "evaluation 50 is missing or not finite, and the record does not"),
    "a count without a loss": (at(50, loss=np.nan), "an evaluation has a count without a loss"),
    "solved at the start": (at(0, correct=180, loss=0.5), "before training, 0.938, is above the threshold"),
    "no loss left": (to(loss=np.full(101, 0.01)), "smaller than its wrong answers allow"),
    "negative loss": (at(7, train_loss=-1.0), "a loss is negative"),
    "a loss of 999,999": (at(7, train_loss=999_999.0), "a loss is negative or above"),
    "no training loss": (to(train_loss=np.r_[np.nan, np.zeros(100)]), "its training losses are all 0"),
    "falling clock": (to(seconds=100.0 - np.arange(101)), "its seconds fall"),
    "no time at all": (to(seconds=np.zeros(101)), "its training took no time"),
    "an age": (to(seconds=1e9 * np.arange(101)), "are beyond any training"),
    "loss before training": (at(0, train_loss=1.0), "a training loss before training"),
    "smooth counts": (smooth, "its counts are too smooth for 192 items"),
    "diverged, but finite": (fields(status="diverged"), "says diverged, and it is not its last evaluation"),
    "completed with a reason": (fields(reason="because"), "says completed and gives a reason"),
    "an engine of its own": (placed(engine="by hand"), "its engine 'by hand' is none of this suite"),
    "no version of torch": (placed(versions={"multistep_bench": "0.1.0"}), "it names no version of torch"),
    "a version that is none": (
        placed(versions={"multistep_bench": "0.1.0", "torch": "newest", "python": "3.11.7"}),
        "its version 'newest' of torch is none",
    ),
    "a version of something else": (
        placed(versions={"multistep_bench": "0.1.0", "torch": "2.6", "python": "3.11", "luck": "1"}),
        "names a version of 'luck', which the harness does not record",
    ),
    "no device": (placed(hardware={"machine": "x86_64"}), "its device 'None' is none of cpu, cuda and cuda:N"),
    "a misspelt device": (placed(hardware={"device": "cdua"}), "its device 'cdua' is none of cpu"),
    "a device in small letters and more": (placed(hardware={"device": "cpu "}), "its device 'cpu ' is none of cpu"),
    "hardware of its own": (placed(hardware={"device": "cpu", "colour": "red"}), "hardware names 'colour', which"),
    "truth for cores": (placed(hardware={"device": "cpu", "cores": True}), "its hardware has 'True' cores"),
}


@pytest.mark.parametrize("name", FALSE_RECORDS)
def test_a_false_record_is_found_although_every_hash_fits(entry: Path, name: str) -> None:
    change, expected = FALSE_RECORDS[name]
    entries.change_record(entry, CELL, change, signed=False)
    resign_hashes(entry)
    assert expected in problems(entry)


def resign_hashes(entry: Path) -> None:
    """All hashes fit; the scores stay, for many of these curves cannot be scored at all."""
    content = (entry / "runs" / f"{TASK}.jsonl").read_bytes()

    def edit(file: dict[str, Any]) -> None:
        file["runs"][0]["sha256"] = hashlib.sha256(content).hexdigest()

    entries.edit_entry_file(entry, edit)


def test_another_specification_in_a_signed_file_is_another_run(entry: Path) -> None:
    path = entry / "runs" / f"{TASK}.jsonl"
    run = read_run(path)
    model = run.spec.model.model_copy(update={"config": {"width": 512}})
    path.write_bytes(Run(path, run.spec.model_copy(update={"model": model}), run.records).packed)
    resign_hashes(entry)
    assert "its run is another one than the manifest names" in problems(entry)


def test_a_diverged_record_is_accepted_as_the_failure_it_is(entry: Path) -> None:
    def diverge(record: Record) -> Record:
        ended = replace(cut(record, 31), status="diverged", reason="the loss is not finite after 960 samples")
        return at(30, correct=MISSING, loss=np.nan)(ended)

    entries.change_record(entry, CELL, diverge)
    verdict = verify(entry)
    assert verdict.problems == ()
    assert verdict.score is not None
    assert verdict.score.runs[0].grid.events == 0


def test_a_cell_that_failed_before_its_first_evaluation_is_accepted_as_the_failure_it_is(entry: Path) -> None:
    entries.change_record(entry, CELL, lambda record: replace(cut(record, 0), status="failed", reason="no room"))
    verdict = verify(entry)
    assert verdict.problems == ()
    assert verdict.score is not None
    assert verdict.score.runs[0].grid.n == 2


@pytest.mark.parametrize(("signed", "expected"), [(False, "is not the file that the manifest hashes"), (True, "")])
def test_one_count_changed_breaks_the_hash_or_shows(entry: Path, signed: bool, expected: str) -> None:
    before = verify(entry)
    (count,) = (record.curve.correct[100] for record in before.entry.runs[0].records if record.cell.name == CELL)  # type: ignore[union-attr]
    entries.change_record(entry, CELL, at(100, correct=count - 1), signed=signed)
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
    (other,) = (each for each in read_run(entry / "runs" / f"{TASK}.jsonl").records if each.cell.name != CELL)
    stolen = np.roll(other.curve.correct, -shift)
    stolen[0] = other.curve.correct[0]

    def steal(record: Record) -> Record:
        return entries.with_arrays(record, correct=stolen, loss=1.5 + np.arange(101) / 1000)

    entries.change_record(entry, CELL, steal)
    assert f"{TASK}/rate0-seed0 shares a curve with {TASK}/rate0-seed1" in problems(entry)


def test_swapped_lines_are_found(entry: Path) -> None:
    path = entry / "runs" / f"{TASK}.jsonl"
    first, one, other = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + other + one)
    assert "its cells are not in the order of its specification" in problems(entry)


def test_a_curve_of_another_entry_or_a_reference_is_found(tmp_path: Path) -> None:
    board = entries.make_board(tmp_path / "board")
    first = entries.make_entry(board, "first", noise=1)
    second = entries.make_entry(board, "second", noise=2)
    assert verify(second, among=board).sound
    (theirs,) = (each for each in read_run(first / "runs" / f"{TASK}.jsonl").records if each.cell.name == CELL)
    entries.change_record(second, CELL, lambda record: theirs)
    assert f"{TASK}/{CELL} shares a curve with first: {TASK}/{CELL}" in "; ".join(verify(second, among=board).problems)
    spec = entries.make_spec("quick")
    stolen = entries.reference("vit").runs[0].records
    thief = tmp_path / "thief"
    thief.mkdir()
    (thief / RUN_FILE).write_bytes(Run(thief, spec, list(stolen)).packed)
    with pytest.raises(Exception, match=rf"{TASK}/rate0-seed0 shares a curve with vit: {TASK}/rate0-seed0"):
        entries.submit([thief], "thief", entries.URL, board=board)


SPEC_CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "budget": ({"protocol.budget": 6_400}, "budget 6400 instead of 3200, which no track may change"),
    "evaluations": ({"protocol.evaluations": 200}, "evaluations 200 instead of 100"),
    "items": ({"protocol.evaluation_items": 200}, "evaluation_items 200 instead of 192"),
    "chosen seeds": ({"protocol.first_seed": 7}, "first_seed 7 instead of 0"),
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
    "an unlisted recipe": (
        {"recipe": {"linear_layers": "spectral"}},
        "not what that name builds with the changes listed",
    ),
    "another recipe than listed": (
        {"recipe": {"linear_layers": "spectral"}, "changes": {"recipe.linear_layers": None}},
        "it lists recipe.linear_layers=None and was trained with spectral",
    ),
    "an unlisted option": ({"config": {"width": 512}}, "not what that name builds with the changes listed"),
    "pretrained weights": (
        {"model": "timm/resnet18", "config": {"checkpoint_path": "x"}, "changes": {"model.checkpoint_path": "x"}},
        "models start untrained",
    ),
    "a letter from elsewhere": ({"model": "vіt:build"}, "is no name of a model"),  # a Cyrillic і
    "no end of parameters": ({"parameters": 10**18}, "beyond 1000000000000000"),
    "training inside": ({"training_flops_per_sample": 9001}, "trains inside its own forward pass"),
    "no hash": ({"code_sha256": "unknown"}, "hash of the model's code is none"),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_that_may_not_compete_is_refused(tmp_path: Path, name: str) -> None:
    keys, expected = MODELS[name]
    changes = keys.get("changes", {})
    spec = entries.make_spec(**{key: value for key, value in keys.items() if key != "changes"})
    spec = spec.model_copy(update={"changes": changes})
    with pytest.raises(Exception, match=expected):
        entries.make_entry(entries.make_board(tmp_path / "board"), spec=spec, declared_open="recipe" in keys)


def test_a_recipe_that_is_listed_competes_on_the_open_track(tmp_path: Path) -> None:
    recipe: dict[str, Any] = {"learning_rate_multipliers": {"attn.q": 4.0}}
    spec = entries.make_spec(recipe=recipe)
    spec = spec.model_copy(update={"changes": {f"recipe.{key}": value for key, value in recipe.items()}})
    entry = entries.make_entry(entries.make_board(tmp_path / "board"), spec=spec, declared_open=True)
    assert problems(entry) == ""


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


def test_a_missing_cell_is_found(entry: Path) -> None:
    entries.change_runs(entry, lambda record: None if record.cell.name == CELL else record, signed=False)
    assert f"{CELL} is missing" in problems(entry)
    assert "its run is not the file that the manifest hashes" in problems(entry)
    entries.sign(entry)
    assert problems(entry) == f"{TASK}: {CELL} is missing"


def test_roughness_of_real_curves_is_above_the_limit() -> None:
    real = [record for entry in references() for run in entry.runs for record in run.records]
    assert len(real) >= 126
    assert [record.cell for record in real if smoothness_problem(record)] == []


def test_curves_on_a_plateau_may_look_alike_and_lively_ones_not(made: Path) -> None:
    entry = read_entry(made)
    record = read_run(made / "runs" / f"{TASK}.jsonl").records[0]
    dead = entries.with_arrays(record, correct=np.full(101, 24), loss=np.full(101, 2.0))
    assert len(fingerprints(dead)) == 0
    for records, expected in (([dead, dead], []), ([record, record], [(0, 1, "shares a curve with")])):
        run = Run(made, entry.runs[0].spec, records)
        assert list(copies(list(traces_of(replace(entry, runs=(run,)))))) == expected


def test_noise_of_independent_seeds_is_unlike_and_that_of_a_seed_is_no_copy() -> None:
    """The margin that checks/copies.py states, on every reference."""
    groups: dict[tuple[str, int], list[tuple[str, np.ndarray]]] = {}
    for reference in references():
        for trace in traces_of(reference):
            if trace.noise.any():
                groups.setdefault((trace.task, trace.noise.shape[1]), []).append((trace.cell, trace.noise))
    seen = 0
    for cells in groups.values():
        same = np.array([[one == other for one, _ in cells] for other, _ in cells])
        for kind, (independent, alike) in enumerate(zip(OTHER_SEEDS, SAME_SEEDS, strict=True)):
            curves = np.stack([curve[kind] for _, curve in cells])
            close = curves @ curves.T
            assert close[~same].max() < independent - 0.2
            assert close[same & ~np.eye(len(cells), dtype=bool)].max(initial=0) < alike - 0.03
            seen += close[~same].size // 2
    assert seen > 300_000


@pytest.mark.parametrize(
    ("cell", "shift"), [("rate0-seed0", 0), ("rate1-seed3", 0), ("rate1-seed3", -1), ("rate1-seed3", 1)]
)
def test_a_reference_nudged_here_and_there_is_found(tmp_path: Path, cell: str, shift: int) -> None:
    """Every tenth count by up to 2, every loss by a thousandth; into the same cell, or shifted into another."""
    rng = np.random.default_rng(0)
    vit = entries.reference("vit")
    (stolen,) = (record for record in vit.runs[0].records if record.cell.name == "rate0-seed0")
    counts = np.roll(stolen.curve.correct, shift)
    counts[::10] += rng.choice([-2, -1, 1, 2], len(counts[::10]))
    losses = np.roll(stolen.curve.loss, shift) * (1 + 1e-3 * rng.standard_normal(len(counts)))
    board = entries.make_board(tmp_path / "board")
    entry = entries.make_entry(board, protocol="quick")
    entries.change_record(entry, cell, lambda record: entries.with_arrays(record, correct=counts, loss=losses))
    assert not set(fingerprints(entries.with_arrays(stolen, correct=counts, loss=losses))) & set(fingerprints(stolen))
    found = verify(entry, among=board, draw_items=False).problems
    assert f"{TASK}/{cell} is a nudged copy of vit: {TASK}/rate0-seed0" in found
    assert all(problem.startswith(f"{TASK}/{cell} is a nudged copy of vit") for problem in found)  # or of its like


def test_models_that_are_alike_in_the_same_cells_are_no_copies() -> None:
    names = ("vit", "vit_gradscale", "vit_ssmax", "vit_ssmax_fixed")
    traces = [trace for name in names for trace in traces_of(entries.reference(name))]
    assert len(traces) == 72
    assert list(copies(traces)) == []


def test_a_model_that_differs_little_in_the_same_cell_is_no_copy() -> None:
    """As a temperature of 3.9 differs from 4: counts by one in four of ten evaluations, losses by 4·10⁻⁴."""
    rng = np.random.default_rng(0)
    record = entries.reference("vit").runs[0].records[0]
    length = len(record.curve.correct)
    counts = record.curve.correct + rng.choice([-1, 0, 1], length, p=[0.2, 0.6, 0.2])
    twin = entries.with_arrays(
        record, correct=counts, loss=record.curve.loss * (1 + 4e-4 * rng.standard_normal(length))
    )
    traces = [
        Trace(name, TASK, record.cell.name, fingerprints(each), noise(each))
        for name, each in (("vit", record), ("twin", twin))
    ]
    assert traces[0].noise[0] @ traces[1].noise[0] > 0.98
    assert list(copies(traces)) == []


def test_losses_that_fall_alike_are_no_copies(made: Path) -> None:
    """A loss that falls smoothly over many evaluations, as honest seeds of an easy task have it, is no noise."""
    record = read_run(made / "runs" / f"{TASK}.jsonl").records[0]
    at = np.arange(101)
    fall = 3 / (1 + np.exp((at - 50) / 8)) + 0.5 * np.exp(-at / 20)
    rngs = np.random.default_rng(0), np.random.default_rng(1)
    alike = [entries.with_arrays(record, loss=0.01 + fall * (1 + 1e-3 * rng.standard_normal(101))) for rng in rngs]
    first, second = (noise(each)[1] for each in alike)
    assert abs(first @ second) < 0.4


def test_curves_too_short_or_too_still_have_no_noise_to_compare(made: Path) -> None:
    record = read_run(made / "runs" / f"{TASK}.jsonl").records[0]
    assert noise(record).any()
    assert not noise(cut(record, 60)).any()
    assert not noise(entries.with_arrays(record, correct=np.full(101, 24), loss=np.full(101, 2.0))).any()


def test_the_least_loss_holds_only_where_right_answers_are_the_targets() -> None:
    assert answers_are_targets(TASK)
    assert not answers_are_targets("no-such-task-v1")


def test_the_command_says_every_problem_and_exits_1_or_2(entry: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = CliRunner().invoke
    sound = run(app, ["verify", str(entry)])
    assert sound.exit_code == 0
    assert "2 cells verified, re-scored" in sound.output
    entries.change_runs(entry, at(0, correct=180, loss=0.5))
    false = run(app, ["verify", str(entry)])
    assert false.exit_code == 1
    assert false.output.count("is above the threshold") == 2
    as_json = json.loads(in_process(capsys, "verify", str(entry), "--json")[1])
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
