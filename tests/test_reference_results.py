"""The committed reference runs are whole and of the present cards, and the page's tables are what they give."""

from pathlib import Path

import pytest
from present_cards import present_card

from multistep_bench.cards import list_baselines, load_baseline
from multistep_bench.errors import DataMissing
from multistep_bench.reporting.reference_tables import PAGE, update_page
from multistep_bench.reporting.references import older_code, reference_name, reference_runs, split_name
from multistep_bench.runs.machine import hardware, versions
from multistep_bench.runs.store import read_run
from multistep_bench.scoring.score import score
from multistep_bench.training.replay import present_code, replay

BASELINES = Path(__file__).resolve().parents[1] / "baselines"
RUNS = reference_runs(BASELINES)


def test_there_are_results() -> None:
    assert {run.stem for run in RUNS} >= {"vit", "vit_tau", "vit_heat", "vit_normsoftmax", "vit_fixed_uniform"}


@pytest.mark.parametrize("run", RUNS, ids=lambda run: "/".join(run.parts[-3:]))
def test_a_result_is_complete_and_of_the_present_cards(run: Path) -> None:
    (scored,) = score([run]).runs
    task, protocol = run.parts[-3:-1]
    spec = scored.spec
    card = present_card(spec)
    assert not scored.missing
    assert not scored.problems
    assert (spec.task.id, spec.task.sha256()) == (task, card.sha256())
    model, _, variant = run.stem.partition("-")
    assert spec.model.name == model
    changes = {key.removeprefix("model."): value for key, value in spec.changes.items() if key.startswith("model.")}
    assert bool(changes) == bool(variant)
    assert spec.model.config == {**load_baseline(model).config, **changes}
    assert spec.protocol_name == protocol
    if not spec.changes:
        assert spec.protocol == card.protocol(spec.protocol_name)


@pytest.mark.parametrize("run", RUNS, ids=lambda run: "/".join(run.parts[-3:]))
def test_a_result_is_of_the_present_code_or_marked_as_of_older_code(run: Path) -> None:
    spec = read_run(run).spec
    try:
        present = present_code(spec) == spec.model.code_sha256
    except DataMissing as missing:
        pytest.skip(str(missing))
    assert present != (reference_name(run) in older_code(BASELINES)), (
        "run `mstep-bench baselines replay --restate` and look at what it says"
    )


def test_a_cell_of_the_default_task_comes_out_of_the_present_code_bit_for_bit() -> None:
    """Float arithmetic is that of the machine, so only where the record's processor and torch are."""
    run = read_run(BASELINES / "results" / "two_step_digits-v1" / "quick" / "vit.jsonl")
    there, here = run.records[-1].environment, hardware("cpu")
    if (there.hardware["processor"], there.versions["torch"]) != (here["processor"], versions()["torch"]):
        pytest.skip("another processor or torch than the record's")
    assert replay(run, 3) is None


def test_a_replay_finds_another_curve(tmp_path: Path) -> None:
    run = read_run(BASELINES / "results" / "two_step_digits-v1" / "quick" / "vit.jsonl")
    run.records[-1].curve.correct[2] += 1
    assert "evaluation 2 of rate2-seed5 is" in (replay(run, 3) or "")


def test_the_tables_of_the_page_are_what_the_runs_give() -> None:
    assert update_page(BASELINES, check=True), "run `mstep-bench baselines build`"


def test_the_page_names_every_family_and_rule() -> None:
    models = (BASELINES / PAGE).read_text(encoding="utf-8").partition("\n## Models\n")[2].partition("\n## ")[0]
    for name in list_baselines():
        family, rule = split_name(name)
        assert f"`{name}`" in models or (f"`…_{rule}`" in models and f"`{family}`" in models), name
