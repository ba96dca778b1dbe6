"""The committed reference runs are whole and of the present cards, and the page's tables are what they give."""

from pathlib import Path

import pytest

from multistep_bench.cards import list_baselines, load_baseline, load_task
from multistep_bench.reporting.reference_tables import PAGE, update_page
from multistep_bench.reporting.references import reference_runs, split_name
from multistep_bench.scoring.score import score

BASELINES = Path(__file__).resolve().parents[1] / "baselines"
RUNS = reference_runs(BASELINES)


def test_there_are_results() -> None:
    assert {run.stem for run in RUNS} >= {"vit", "vit_tau", "vit_heat", "vit_normsoftmax", "vit_fixed_uniform"}


@pytest.mark.parametrize("run", RUNS, ids=lambda run: "/".join(run.parts[-3:]))
def test_a_result_is_complete_and_of_the_present_cards(run: Path) -> None:
    (scored,) = score([run]).runs
    task, protocol = run.parts[-3:-1]
    spec, card = scored.spec, load_task(task)
    assert not scored.missing
    assert not scored.problems
    assert spec.task.sha256() == card.sha256()
    assert spec.model.name == run.name.removesuffix(".jsonl")
    assert spec.model.config == load_baseline(spec.model.name).config
    assert spec.protocol_name == protocol
    if not spec.changes:
        assert spec.protocol == card.protocol(spec.protocol_name)


def test_the_tables_of_the_page_are_what_the_runs_give() -> None:
    assert update_page(BASELINES, check=True), "run `mstep-bench baselines build`"


def test_the_page_names_every_family_and_rule() -> None:
    models = (BASELINES / PAGE).read_text(encoding="utf-8").partition("\n## Models\n")[2].partition("\n## ")[0]
    for name in list_baselines():
        family, rule = split_name(name)
        assert f"`{name}`" in models or (f"`…_{rule}`" in models and f"`{family}`" in models), name
