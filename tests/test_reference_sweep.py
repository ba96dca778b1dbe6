"""The reference runs are declared; one command trains those that are missing and writes the tables."""

from pathlib import Path

import pytest
from commands import in_process

from multistep_bench.cards import load_baseline, load_task
from multistep_bench.errors import CardError, RunError
from multistep_bench.reporting.reference_tables import PAGE
from multistep_bench.reporting.references import reference_name, reference_runs
from multistep_bench.runs.store import read_run
from multistep_bench.training.reference_sweep import collect, declared_references, missing_references

BASELINES = Path(__file__).resolve().parents[1] / "baselines"
TASK = "two_step_digits-v1"
SMALL = '"protocol.budget" = 400, "protocol.batch_size" = 4, "protocol.seeds" = 1'
SWEEP = f"""
[[sweep]]
tasks = ["{TASK}"]
models = ["vit", "vit_tau"]
protocol = "smoke"
changes = {{ {SMALL} }}
"""
NAMES = [f"{TASK}/smoke/vit", f"{TASK}/smoke/vit_tau"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "sweep.toml").write_text(SWEEP)
    (tmp_path / PAGE).write_text(f"<!-- results: all -->\n<!-- end -->\n<!-- results: {TASK} smoke -->\n<!-- end -->\n")
    return tmp_path


def test_every_committed_result_is_declared_as_it_was_trained() -> None:
    declared = dict(declared_references(BASELINES))
    for path in reference_runs(BASELINES):
        sweep = declared[reference_name(path)]
        (variant,) = sweep.variants.values() or [{}]
        assert {**sweep.changes, **variant} == read_run(path).spec.changes


def test_what_is_declared_exists() -> None:
    for name, sweep in declared_references(BASELINES):
        (task,), (model,) = sweep.tasks, sweep.models
        load_task(task).protocol(sweep.protocol)
        assert load_baseline(model).name == model
        variant = "".join(f"-{variant}" for variant in sweep.variants)
        assert name == f"{task}/{sweep.protocol}/{model}{variant}"


def test_the_command_trains_what_is_missing_and_writes_the_tables(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    train = ["baselines", "train", "--folder", str(folder), "--workers", "1"]
    code, out, error = in_process(capsys, *train, "--dry-run", "--json")
    assert code == 0, error
    assert '"cells": 2' in out
    assert not (folder / "runs").exists()
    code, _, error = in_process(capsys, *train, "--only", "vit_tau")
    assert code == 0, error
    (trained,) = reference_runs(folder)
    assert reference_name(trained) == NAMES[1]
    assert read_run(trained).spec.changes["protocol.budget"] == 400
    assert "`vit_tau` with protocol.budget=400" in (folder / PAGE).read_text()
    before = trained.read_bytes()
    code, _, error = in_process(capsys, *train)
    assert code == 0, error
    assert [reference_name(path) for path in reference_runs(folder)] == NAMES
    assert trained.read_bytes() == before
    assert "`vit` with protocol.budget=400" in (folder / PAGE).read_text()
    code, out, _ = in_process(capsys, *train)
    assert code == 0
    assert "no reference run is missing" in out


def test_only_whole_runs_are_added_and_none_is_overwritten(folder: Path, tmp_path: Path) -> None:
    from multistep_bench.training.launch import launch
    from multistep_bench.training.plan import plan

    spec = plan(TASK, "vit", "smoke", {"protocol.budget": 400, "protocol.batch_size": 4, "protocol.seeds": 1})
    whole = launch(spec, tmp_path / "root" / TASK / "vit" / "smoke", workers=1)
    broken = tmp_path / "root" / TASK / "vit_tau" / "smoke" / "run.jsonl"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(whole.packed.replace(b'"status":"completed"', b'"status":"failed","reason":"it broke"'))
    assert read_run(broken).failed or read_run(broken).missing
    root = tmp_path / "root"
    assert collect(folder, root, only="vit_tau") == []
    assert collect(folder, root) == NAMES[:1]
    added = folder / "results" / f"{NAMES[0]}.jsonl"
    assert added.read_bytes() == whole.packed
    added.write_bytes(b"mine")
    assert collect(folder, root) == []
    assert added.read_bytes() == b"mine"
    assert list(missing_references(folder)) == NAMES[1:]


def test_a_dry_run_writes_nothing(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from multistep_bench.training.launch import launch
    from multistep_bench.training.plan import plan

    root = tmp_path / "root"
    spec = plan(TASK, "vit", "smoke", {"protocol.budget": 400, "protocol.batch_size": 4, "protocol.seeds": 1})
    launch(spec, root / TASK / "vit" / "smoke", workers=1)
    before = sorted(folder.rglob("*"))
    dry_run = ["baselines", "train", "--folder", str(folder), "--out", str(root), "--dry-run", "--json"]
    code, out, error = in_process(capsys, *dry_run)
    assert code == 0, error
    assert f"1 whole run in {root}, would be added to {folder / 'results'}" in error
    assert '"cells": 1' in out
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("text", "error", "sentence"),
    [
        (SWEEP + SWEEP, RunError, f"names {NAMES[0]} twice"),
        ("[[sweeps]]\n", CardError, "sweep"),
    ],
    ids=["twice", "no sweeps"],
)
def test_a_declaration_that_cannot_be_named_is_refused(
    text: str, error: type[Exception], sentence: str, folder: Path
) -> None:
    (folder / "results" / "sweep.toml").write_text(text)
    with pytest.raises(error, match=sentence):
        missing_references(folder)


def test_variants_of_a_model_are_runs_of_their_own_that_one_command_trains_and_shows(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    variants = 'variants = { t2 = { "model.attention_options" = { temperature = 2.0 } }, as_it_is = {} }'
    sweep = SWEEP.replace('"vit", "vit_tau"', '"vit"')
    (folder / "results" / "sweep.toml").write_text(sweep + variants)
    declared = dict(declared_references(folder))
    assert list(declared) == [f"{TASK}/smoke/vit-t2", f"{TASK}/smoke/vit-as_it_is"]
    assert [len(each.variants) for each in declared.values()] == [1, 1]
    page = (folder / PAGE).read_text()
    (folder / PAGE).write_text(f"{page}<!-- dose: {TASK} smoke vit attention_options.temperature -->\n<!-- end -->\n")
    code, _, error = in_process(
        capsys, "baselines", "train", "--folder", str(folder), "--workers", "1", "--only", "vit-t2"
    )
    assert code == 0, error
    (trained,) = reference_runs(folder)
    assert reference_name(trained) == f"{TASK}/smoke/vit-t2"
    assert read_run(trained).spec.model.config["attention_options"] == {"temperature": 2.0}
    assert "| 2 | 0/1 |" in (folder / PAGE).read_text()
    assert list(missing_references(folder)) == [f"{TASK}/smoke/vit-as_it_is"]


def test_without_a_checkout_the_way_out_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="declared in a checkout of the suite, so run this in one"):
        missing_references(tmp_path)


def test_a_part_of_no_name_is_refused(folder: Path) -> None:
    with pytest.raises(RunError, match=f"contains 'vti'; .* declares 2, such as {NAMES[0]}"):
        missing_references(folder, "vti")
