"""The gate: what curves of an oracle, fixed attention and softmax say about a plateau, and that it trains them."""

import json
from pathlib import Path
from typing import Any

import pytest
import records
from commands import in_process

from multistep_bench.cards import card_folder
from multistep_bench.errors import NotFound
from multistep_bench.runs.store import Run, read_run
from multistep_bench.scoring.gate import judge
from multistep_bench.training.gate import gate_models

Curves = dict[tuple[int, int], Any]


def cells(*curves: Any) -> Curves:
    """Two learning rates of as many seeds as there are curves, alike at both."""
    return {(rate, seed): curve for rate in range(2) for seed, curve in enumerate(curves)}


EARLY = cells(*[records.jump(at) for at in (0.01, 0.02, 0.02, 0.03)])
LATE = cells(*[records.jump(at) for at in (0.5, 0.6, 0.7, 0.8)])
BIMODAL = cells(records.jump(0.4), records.flat(), records.flat(), records.flat())
NEVER = cells(*[records.flat()] * 4)


@pytest.fixture
def make(tmp_path: Path) -> Any:
    def make(name: str, curves: Curves, **keys: Any) -> Run:
        return read_run(records.make_run(tmp_path / name, curves, model=name, **keys))

    return make


@pytest.mark.parametrize("plain", [LATE, BIMODAL, NEVER])
def test_early_oracle_and_early_fixed_attention_make_it_a_bottleneck_of_attention(make: Any, plain: Curves) -> None:
    gate = judge(make("oracle", EARLY), make("softmax", plain), make("fixed", EARLY))
    assert gate.verdict == "attention"
    assert gate.sentence().startswith("bottleneck: attention; oracle jumps in 8/8 cells at 0.02 of the budget")
    assert judge(make("oracle2", EARLY), make("softmax2", plain)).verdict == "attention"


def test_rows_tell_n_times_with_failures_at_the_budget_and_corrected_tests(make: Any) -> None:
    gate = judge(make("oracle", EARLY), make("softmax", BIMODAL), make("fixed", BIMODAL))
    oracle, fixed, softmax = gate.rows
    assert (oracle.role, oracle.model, oracle.events, oracle.n) == ("oracle", "oracle", 8, 8)
    assert oracle.median == 20_000 * 0.1
    assert oracle.mean_time.estimate == pytest.approx(0.02)
    assert oracle.mean_time.low <= 0.02 <= oracle.mean_time.high
    assert softmax.mean_time.estimate == pytest.approx((0.4 + 3) / 4)  # failures are counted at the budget
    assert (softmax.events, softmax.median, softmax.p) == (2, None, None)
    assert fixed.p == 1  # equal curves
    assert oracle.p is not None
    assert oracle.p < 0.01
    alone = judge(make("oracle2", EARLY), make("softmax2", BIMODAL)).rows[0].p
    assert alone is not None
    assert oracle.p == pytest.approx(2 * alone)  # Holm over two comparisons


def test_fixed_attention_that_plateaus_as_long_says_not_attention_alone(make: Any) -> None:
    gate = judge(make("oracle", EARLY), make("softmax", LATE), make("fixed", LATE))
    assert gate.verdict == "not attention alone"
    assert "fixed jumps in 8/8 cells at 0.65 of the budget" in gate.sentence()


def test_an_oracle_that_is_not_early_says_not_attention_alone(make: Any) -> None:
    almost = cells(*[records.jump(at) for at in (0.17, 0.17, 0.17, 0.17)])  # 0.17 > 0.65 / 4
    within = cells(*[records.jump(at) for at in (0.16, 0.16, 0.16, 0.16)])
    softmax = make("softmax", LATE)
    assert judge(make("almost", almost), softmax).verdict == "not attention alone"
    assert judge(make("within", within), softmax).verdict == "attention"
    one_fails = {**EARLY, (0, 0): records.flat()}
    assert judge(make("fails", one_fails), softmax).verdict == "not attention alone"


def test_softmax_that_jumps_everywhere_within_a_tenth_of_the_budget_has_no_plateau(make: Any) -> None:
    at_once = cells(*[records.jump(0.1)] * 4)
    assert judge(make("oracle", EARLY), make("softmax", at_once)).verdict == "no plateau"
    later = cells(*[records.jump(0.11)] * 4)
    assert judge(make("oracle2", EARLY), make("softmax2", later)).verdict != "no plateau"
    one_fails = {**at_once, (1, 3): records.flat()}
    assert judge(make("oracle3", EARLY), make("softmax3", one_fails)).verdict != "no plateau"


def test_what_the_runs_cannot_decide_is_undecided_and_says_why(make: Any) -> None:
    few_early, few_late = {(0, 0): records.jump(0.01)}, {(0, 0): records.jump(0.9)}
    gate = judge(make("oracle", few_early), make("softmax", few_late))
    assert (gate.verdict, gate.sentence().split("; ")[-1]) == ("undecided", "give more seeds.")
    gate = judge(make("oracle2", NEVER), make("softmax2", NEVER))
    assert gate.sentence() == "undecided; no cell jumps, 0/8 oracle and 0/8 softmax; give a larger budget."
    failed = {**LATE, (0, 0): records.Ended("failed", reason="broken")}
    gate = judge(make("oracle3", EARLY), make("softmax3", failed))
    assert gate.verdict == "undecided"
    assert "1 of 8 cells of the softmax run are missing or failed" in gate.reason


def test_the_default_task_is_not_one_of_attention_alone() -> None:
    folder = card_folder("baselines") / "results" / "two_step_digits-v1" / "quick"
    gate = judge(*(read_run(folder / f"{name}.jsonl") for name in ("vit_oracle", "vit", "vit_fixed_regions")))
    assert gate.verdict == "not attention alone"
    assert [(row.events, row.n) for row in gate.rows] == [(18, 18), (12, 18), (10, 18)]


def test_each_family_has_its_models_and_an_unknown_one_is_an_error() -> None:
    assert gate_models("vit") == {"oracle": "vit_oracle", "fixed": "vit_fixed_regions", "softmax": "vit"}
    assert gate_models("bert") == {"oracle": "bert_oracle", "softmax": "bert"}
    with pytest.raises(NotFound, match=r"no family of models with an oracle 'gtp'. Did you mean 'gpt'\?"):
        gate_models("gtp")


def test_check_gate_trains_all_models_resumes_and_ends_with_1_where_it_is_undecided(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("check", "mlm_agreement-v1", "--gate", "--protocol", "smoke", "--out", str(tmp_path), "--json")
    settings = ("--set", "protocol.seeds=1", "--set", "protocol.budget=1600")
    code, out, _ = in_process(capsys, *command, *settings, "--workers", "1", "--device", "cpu")
    said = json.loads(out)
    assert (code, said["verdict"]) == (1, "undecided")
    assert [row["model"] for row in said["rows"]] == ["bert_oracle", "bert"]
    files = {path: path.read_bytes() for path in tmp_path.glob("*/run.jsonl")}
    assert {path.parent.name for path in files} == {"bert_oracle", "bert"}
    assert in_process(capsys, *command, *settings, "--workers", "1", "--device", "cpu")[:2] == (1, out)
    assert {path: path.read_bytes() for path in tmp_path.glob("*/run.jsonl")} == files


def test_options_of_the_gate_are_refused_without_it(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, error = in_process(capsys, "check", "mlm_agreement-v1", "--protocol", "smoke")
    assert code == 2
    assert "--protocol smoke: only a gate is trained; add --gate or leave out --protocol" in error
