"""The results that baselines/README.md reports are those of the committed curves, on the cards as they are."""

from pathlib import Path

import pytest

from multistep_bench.cards import load_baseline, load_task
from multistep_bench.scoring.score import score

BASELINES = Path(__file__).resolve().parents[1] / "baselines"
RUNS = sorted(path.parent for path in (BASELINES / "results").glob("*/*/*/spec.json"))


def test_there_are_results() -> None:
    assert {run.name for run in RUNS} >= {"vit", "vit_tau", "vit_heat", "vit_normsoftmax", "vit_fixed_uniform"}


@pytest.mark.parametrize("run", RUNS, ids=lambda run: "/".join(run.parts[-3:]))
def test_a_result_is_complete_and_of_the_present_cards(run: Path) -> None:
    (scored,) = score([run]).runs
    task, protocol, model = run.parts[-3:]
    spec, card = scored.spec, load_task(task)
    assert not scored.missing
    assert not scored.problems
    assert spec.task.sha256() == card.sha256()
    assert spec.model.config == load_baseline(model).config
    assert spec.protocol_name == protocol
    if not spec.changes:
        assert spec.protocol == card.protocol(spec.protocol_name)


def section(task: str, protocol: str) -> str:
    """What the page says of a task's results under a protocol."""
    parts = (BASELINES / "README.md").read_text().split("\n## ")
    (found,) = [part for part in parts if part.startswith(f"Results: `{task}`, protocol {protocol}\n")]
    return found


@pytest.mark.parametrize("run", RUNS, ids=lambda run: "/".join(run.parts[-3:]))
def test_the_page_reports_what_the_curves_score(run: Path) -> None:
    (scored,) = score([run]).runs
    if scored.spec.changes:
        pytest.skip("not the protocol as it is: reported in words")
    task, protocol, model = run.parts[-3:]
    (row,) = [row for row in section(task, protocol).splitlines() if row.startswith(f"| `{model}` | ")]
    by_rate = " | ".join(f"{rate.events}/{rate.n}" for rate in scored.by_rate)
    speed = scored.grid.speed
    assert by_rate in row
    assert f"| {scored.grid.events}/{scored.grid.n} = " in row
    assert f"| {speed.estimate:.2f} [{speed.low:.2f}, {speed.high:.2f}] |" in row
