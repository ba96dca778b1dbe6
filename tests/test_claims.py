"""Claims: the rule decides, never a hand; what has no runs is not tested; the page is stale when a verdict changes."""

from pathlib import Path
from typing import Any

import pytest
import records

from multistep_bench.cards import card_folder
from multistep_bench.errors import BenchError, CardError
from multistep_bench.reporting.claims_table import CLAIMS, replace_claims
from multistep_bench.reporting.reference_tables import update_page
from multistep_bench.reporting.references import reference_runs
from multistep_bench.runs.store import Run, read_run
from multistep_bench.scoring.claims import Claim, decide, findings, read_claims
from multistep_bench.scoring.compare import compare
from multistep_bench.scoring.statistics import Interval, boschloo, newcombe

EARLY, LATE = [0.2, 0.22, 0.24, 0.26, 0.28], [0.7, 0.72, 0.74, 0.76, 0.78]
FILE = """
[[claims]]
text = "A temperature helps"
tasks = ["steps-v1"]
protocols = ["quick"]
model = "vit_tau"
reference = "vit"
rule = "faster"
"""
PAGE = "before\n<!-- claims -->\nold\n<!-- end -->\n![x](figures/forest-quick.png)\n"
PAGE += "<!-- results: all -->\n<!-- end -->\n<!-- results: steps-v1 quick -->\n<!-- end -->\n"


def claim(**changes: Any) -> Claim:
    content = {"text": "t", "tasks": ["steps-v1"], "protocols": ["quick"], "model": "a", "reference": "b"}
    return Claim.model_validate({**content, "rule": "faster", **changes})


def at(times: list[float]) -> dict[tuple[int, int], Any]:
    return {(0, seed): records.jump(time) for seed, time in enumerate(times)}


@pytest.fixture
def make(tmp_path: Path) -> Any:
    def make(name: str, curves: Any, **keys: Any) -> Run:
        return read_run(records.make_run(tmp_path / name, curves, model=name, **keys))

    return make


@pytest.mark.parametrize(
    ("low", "high", "p", "verdict"),
    [
        (0.01, 0.3, 0.049, "holds"),
        (0.01, 0.3, 0.05, "undecided"),  # the corrected test says no
        (-0.01, 0.3, 0.01, "undecided"),  # the interval reaches 0
        (0.0, 0.3, 0.01, "undecided"),
        (-0.3, -0.01, 0.01, "does not hold"),
        (-0.3, 0.01, 0.01, "undecided"),
    ],
)
def test_faster_needs_an_interval_without_0_and_a_corrected_test(
    low: float, high: float, p: float, verdict: str
) -> None:
    assert decide(claim(), Interval((low + high) / 2, low, high), p) == verdict


def test_each_rule_has_its_own_difference_and_test(make: Any) -> None:
    jumps = make("a", {(0, seed): records.jump(0.5) for seed in range(8)}, seeds=8)
    stays = make("b", {(0, seed): records.flat() for seed in range(8)}, seeds=8)
    runs = {("steps-v1", "quick", "a"): jumps, ("steps-v1", "quick", "b"): stays}
    rules = ("faster", "likelier", "more accurate")
    found = {rule: findings([claim(rule=rule)], runs)[0] for rule in rules}
    assert [each.verdict for each in found.values()] == ["holds"] * 3
    grid = compare(jumps, stays, same_recipe=True).grid
    assert found["faster"].effect == grid.speed
    assert found["likelier"].effect == newcombe(8, 8, 0, 8)
    assert found["likelier"].p == boschloo(8, 8, 0, 8)
    assert found["more accurate"].effect == grid.final
    assert found["more accurate"].p == grid.final_permutation
    reverse = findings([claim(rule=rule, model="b", reference="a") for rule in rules], runs)
    assert [each.verdict for each in reverse] == ["does not hold"] * 3


def test_a_rule_that_a_task_does_not_measure_is_refused(make: Any) -> None:
    runs = {
        ("loss-v1", "quick", name): make(name, {(0, 0): records.fall(0.3)}, task=records.LOSS_TASK) for name in "ab"
    }
    with pytest.raises(BenchError, match="cannot be decided on steps-v1, which measures a loss; take another rule"):
        findings([claim(tasks=["loss-v1"], rule="more accurate")], runs)


@pytest.mark.parametrize(
    ("low", "high", "p", "verdict"),
    [
        (-0.09, 0.1, 1, "holds"),
        (-0.11, 0.09, 1, "undecided"),  # too few cells for the margin
        (-0.09, 0.11, 1, "undecided"),
        (0.02, 0.11, 0.01, "does not hold"),
        (0.02, 0.09, 0.01, "holds"),  # a difference, and smaller than the margin
    ],
)
def test_no_difference_needs_an_interval_within_the_margin(low: float, high: float, p: float, verdict: str) -> None:
    equal = claim(rule="no difference", margin=0.1)
    assert decide(equal, Interval((low + high) / 2, low, high), p) == verdict


def test_findings_carry_n_effect_and_p_corrected_over_the_table(make: Any) -> None:
    runs = {("steps-v1", "quick", name): make(name, at(times)) for name, times in {"a": EARLY, "b": LATE}.items()}
    (alone,) = findings([claim()], runs)
    assert (alone.verdict, alone.n, alone.n_reference) == ("holds", 5, 5)
    assert alone.effect is not None
    assert alone.effect.estimate == pytest.approx(0.5)
    both = findings([claim(), claim(model="b", reference="a")], runs)
    assert [finding.verdict for finding in both] == ["holds", "does not hold"]
    assert alone.p is not None
    assert [finding.p for finding in both] == pytest.approx([2 * alone.p, 2 * alone.p])


def test_what_lacks_a_run_or_cells_is_not_tested_and_is_not_corrected_for(make: Any) -> None:
    runs = {("steps-v1", "quick", name): make(name, at(times)) for name, times in {"a": EARLY, "b": LATE}.items()}
    (alone,) = findings([claim()], runs)
    declared = claim(tasks=["steps-v1", "other-v1"], protocols=["quick", "confirmation"])
    found = findings([declared], runs)
    assert [(each.task, each.protocol, each.verdict) for each in found] == [
        ("steps-v1", "quick", "holds"),
        ("steps-v1", "confirmation", "not tested"),
        ("other-v1", "quick", "not tested"),
        ("other-v1", "confirmation", "not tested"),
    ]
    assert found[0].p == alone.p
    runs["steps-v1", "quick", "b"] = make("lacking", at(LATE[:4]), seeds=5)
    assert findings([claim()], runs)[0].verdict == "not tested"


@pytest.mark.parametrize(
    ("times", "verdict"),
    [
        ([0.05, 0.05, 0.06, 0.05], "holds"),
        ([0.09, 0.11, 0.10, 0.10], "undecided"),
        ([0.2, 0.21, 0.22, 0.2], "does not hold"),
    ],
)
def test_no_plateau_is_a_mean_time_within_a_tenth_of_the_budget(make: Any, times: list[float], verdict: str) -> None:
    alone = claim(reference=None, rule="no plateau")
    (finding,) = findings([alone], {("steps-v1", "quick", "a"): make("a", at(times))})
    assert (finding.verdict, finding.n, finding.p) == (verdict, 4, None)
    assert finding.effect is not None
    assert finding.effect.estimate == pytest.approx(sum(times) / 4)
    one_fails = {**at(times), (0, 3): records.flat()}
    assert findings([alone], {("steps-v1", "quick", "a"): make("b", one_fails)})[0].verdict == "does not hold"


def test_a_file_of_claims_reports_every_problem(tmp_path: Path) -> None:
    path = tmp_path / "claims.toml"
    path.write_text(FILE)
    assert read_claims(path)[0].model == "vit_tau"
    path.write_text(FILE.replace('reference = "vit"\n', "") + FILE.replace("faster", "no difference"))
    with pytest.raises(CardError, match=r"needs a reference.*margin of 'A temperature helps' belongs to"):
        read_claims(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "baselines" / "results" / "steps-v1" / "quick"
    place.mkdir(parents=True)
    for name, times in {"vit_tau": EARLY, "vit": LATE}.items():
        run = read_run(records.make_run(tmp_path / name, at(times), model=name))
        (place / f"{name}.jsonl").write_bytes(run.packed)
    folder = tmp_path / "baselines"
    (folder / CLAIMS).write_text(FILE)
    (folder / "README.md").write_text(PAGE)
    return folder


def test_the_page_gets_table_and_figure_and_is_stale_when_a_run_changes(folder: Path, tmp_path: Path) -> None:
    page, figure = folder / "README.md", folder / "figures" / "forest-quick.png"
    assert not update_page(folder, check=True)
    assert not figure.exists()
    assert not update_page(folder)
    text = page.read_text()
    assert text.startswith("before\n<!-- claims -->\n\n| claim | task |")
    files = "results/steps-v1/quick/vit_tau.jsonl results/steps-v1/quick/vit.jsonl"
    (line,) = [line for line in text.splitlines() if line.startswith("| A temperature helps")]
    assert line.startswith("| A temperature helps | `steps-v1` | quick | 5, 5 | ΔS +0.50 [+0.")
    assert line.endswith(f"| **holds** | `mstep-bench compare {files}` |")
    assert update_page(folder, check=True)
    figure.unlink()
    assert not update_page(folder, check=True)
    assert not update_page(folder)
    assert figure.is_file()
    slow = read_run(records.make_run(tmp_path / "slow", at([0.9, 0.91, 0.92, 0.93, 0.94]), model="vit_tau"))
    (folder / "results" / "steps-v1" / "quick" / "vit_tau.jsonl").write_bytes(slow.packed)
    before = figure.read_bytes()
    assert not update_page(folder)
    assert "**does not hold**" in page.read_text()
    assert figure.read_bytes() != before


def test_an_untested_claim_names_the_commands_that_train_it(folder: Path) -> None:
    (folder / CLAIMS).write_text(FILE.replace('"quick"', '"standard"'))
    text = replace_claims(PAGE, folder, reference_runs(folder), "README.md")
    run = "mstep-bench run --task steps-v1 --protocol standard --model"
    assert f"| – | – | – | **not tested** | `{run} vit_tau; {run} vit` |" in text


def test_a_run_of_a_changed_model_does_not_count(folder: Path, tmp_path: Path) -> None:
    changed = records.make_run(tmp_path / "changed", at(EARLY), model="vit_tau", changes={"model.depth": 9})
    (folder / "results" / "steps-v1" / "quick" / "vit_tau.jsonl").write_bytes(read_run(changed).packed)
    assert "**not tested**" in replace_claims(PAGE, folder, reference_runs(folder), "README.md")


def test_claims_and_their_place_belong_together(folder: Path) -> None:
    with pytest.raises(BenchError, match="belong together, once each"):
        replace_claims("no place", folder, [], "README.md")
    with pytest.raises(BenchError, match="belong together, once each"):
        replace_claims(2 * PAGE, folder, [], "README.md")
    (folder / CLAIMS).unlink()
    assert replace_claims("no place", folder, [], "README.md") == "no place"


def test_the_committed_claims_name_models_and_protocols_that_ship() -> None:
    from multistep_bench.cards import list_baselines, load_task

    for each in read_claims(card_folder("baselines") / CLAIMS):
        assert {each.model, each.reference or each.model} <= set(list_baselines())
        for task in each.tasks:
            assert set(each.protocols) <= set(load_task(task).protocols)
