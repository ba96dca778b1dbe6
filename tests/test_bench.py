"""What the suite's own benchmark compares, and that what it times is what it says."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from multistep_bench import bench as benchmarks
from multistep_bench.bench import Benchmark, PerSampleTwoStep, bench, bench_data
from multistep_bench.bench.attention import contestants, dense_normsoftmax, draw_inputs, measure_attention
from multistep_bench.bench.cells import launched_cost, measure_cells, stacked_cost
from multistep_bench.bench.data import measure_data
from multistep_bench.bench.paper import measure_paper, paper_spec
from multistep_bench.bench.plain import PlainCell
from multistep_bench.bench.quick import measure_quick, quick_spec, single_trainer
from multistep_bench.bench.result import Measured
from multistep_bench.bench.scaling import measure_scaling
from multistep_bench.bench.timing import interleaved, peak_memory, speedup
from multistep_bench.cards import load_task
from multistep_bench.cli import app
from multistep_bench.errors import BenchError, NotFound, RunError
from multistep_bench.generators import BUILTIN
from multistep_bench.generators.task import make_task
from multistep_bench.models.build import count_parameters
from multistep_bench.training.plan import task_of
from multistep_bench.training.trainer import SingleTrainer

CPU = torch.device("cpu")
MIB = 2**20


def test_the_reference_loader_makes_samples_of_the_same_kind() -> None:
    """Equal averages over many images: the reference does the same work, only one sample at a time."""
    loader = PerSampleTwoStep()
    images, targets = zip(*(loader[i] for i in range(3000)), strict=True)
    reference = torch.stack(images)
    batch = make_task("two_step_glyphs-v1").sample(3000, split="train", rng=torch.Generator().manual_seed(0))
    assert isinstance(batch.inputs, torch.Tensor)
    assert reference.shape == batch.inputs.shape
    assert reference.dtype == batch.inputs.dtype
    torch.testing.assert_close(reference.mean(0), batch.inputs.mean(0), atol=0.06, rtol=0)
    assert set(targets) == set(range(10))


def test_bench_data_reports_both_speeds_and_their_ratio_and_restores_the_threads() -> None:
    before = torch.get_num_threads()
    found = bench_data(seconds=0.05)
    assert torch.get_num_threads() == before
    assert found["ratio"] == pytest.approx(found["samples_per_second"] / found["reference_samples_per_second"])
    assert found["reference_samples_per_second"] > 0


def test_bench_data_lists_every_generator_that_needs_no_files() -> None:
    rows = {row.task: row for row in measure_data(0.0, CPU).rows}
    assert {load_task(name).generator for name in rows} == {"image_episodes", "indicator"} | {
        name
        for name, module in BUILTIN.items()
        if ".tiles." not in module and name not in ("image_episodes", "text_mlm")
    }
    assert [name for name, row in rows.items() if row.ratio is not None] == ["two_step_glyphs-v1"]
    assert (rows["markov-v1"].tokens, rows["window_sum-v1"].tokens, rows["icl_glyphs-v1"].tokens) == (100, 16, None)
    assert all(row.samples_per_second > 0 and row.repeats >= 3 for row in rows.values())


def test_measures_take_turns_after_a_round_that_does_not_count() -> None:
    calls: list[str] = []

    def measure(name: str) -> float:
        calls.append(name)
        return float(len(calls))

    found = interleaved({"a": lambda: measure("a"), "b": lambda: measure("b")}, seconds=0)
    assert calls == ["a", "b"] * 4
    assert found == {"a": [3, 5, 7], "b": [4, 6, 8]}


def test_speedup_is_the_ratio_of_medians_with_the_range_of_the_rounds() -> None:
    assert speedup([1.0, 2.0, 10.0], [4.0, 6.0, 5.0]) == (2.5, (0.5, 4.0))


def test_peak_memory_counts_what_is_held_at_once() -> None:
    """Two of three tensors of 1 MiB live together, and the one that was there before does not count."""
    before = torch.ones(MIB, dtype=torch.uint8)

    def call() -> None:
        first = before + 1
        second = first + 1
        del first
        assert (second + 1).numel() == MIB

    assert peak_memory(call, CPU) == pytest.approx(2 * MIB, abs=4096)


@pytest.mark.parametrize("tokens", [17, 197, 1024])  # with and without the matrix of logits
def test_dense_and_linear_normsoftmax_agree_on_the_inputs_timed(tokens: int) -> None:
    inputs = draw_inputs(tokens, CPU)
    rule = contestants(CPU)["normsoftmax"]
    grads = [torch.autograd.grad(each(*inputs).square().sum(), inputs) for each in (rule, dense_normsoftmax)]
    torch.testing.assert_close(rule(*inputs), dense_normsoftmax(*inputs), atol=1e-5, rtol=1e-4)
    for ours, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-3)


def test_attention_measures_every_rule_that_learns() -> None:
    measured = measure_attention(0.0, CPU, tokens=(300,))
    rows = {row.rule: row for row in measured.rows}
    assert set(rows) >= {"dense normsoftmax", "torch SDPA", "normsoftmax", "normsoftmax var", "softmax", "heat"}
    assert set(rows).isdisjoint({"uniform", "regions"})
    logits = 4096 // 300 * 300**2 * 4
    assert rows["dense normsoftmax"].peak_bytes > 2 * logits  # logits and weights at least
    assert rows["normsoftmax"].peak_bytes < 2 * logits
    for row in measured.rows:
        assert row.memory_over_dense == row.peak_bytes / rows["dense normsoftmax"].peak_bytes
        assert row.time_over_sdpa == row.training_seconds / rows["torch SDPA"].training_seconds


def seen_by(model: nn.Module) -> list[torch.Tensor]:
    """Every input that a model is called with from now on."""
    seen: list[torch.Tensor] = []
    model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
    return seen


def test_the_bare_loop_sees_what_the_suite_sees_with_the_same_model() -> None:
    spec = quick_spec()
    trainer = single_trainer(spec, CPU)
    plain = PlainCell(spec, spec.cells()[0], task_of(spec), CPU)
    assert count_parameters(plain.model) == count_parameters(trainer.model) == spec.model.parameters
    for name, parameter in plain.model.named_parameters():
        assert torch.equal(parameter, trainer.model.get_parameter(name)), name
    ours, theirs = seen_by(trainer.model), seen_by(plain.model)
    trainer.train_interval(0)
    ((correct, _),) = trainer.evaluate()
    plain.train_interval()
    plain_correct = plain.evaluate()
    assert len(ours) == len(theirs) == spec.protocol.steps_per_evaluation + 1
    assert all(torch.equal(mine, its) for mine, its in zip(ours, theirs, strict=True))
    assert 0 < correct < 256
    assert 0 < plain_correct < 256


def test_quick_compares_one_cell_with_both_thread_counts_of_the_bare_loop() -> None:
    before = torch.get_num_threads()
    suite, one_thread, default = measure_quick(0.0, CPU).rows
    assert torch.get_num_threads() == before
    assert (suite.threads, one_thread.threads, default.threads) == (1, 1, before)
    assert suite.ratio == pytest.approx(suite.samples_per_second / default.samples_per_second)
    assert suite.ratio_one_thread == pytest.approx(suite.samples_per_second / one_thread.samples_per_second)
    assert default.ratio == one_thread.ratio_one_thread == 1
    assert 0 < suite.evaluation_share < 1


def test_cells_counts_the_samples_of_a_launched_run() -> None:
    (row,) = measure_cells(0.0, CPU, counts=(1,)).rows
    assert (row.cells, row.engine, row.repeats) == (1, "processes", 3)
    assert row.ratio == pytest.approx(row.samples_per_second / row.reference_samples_per_second)


def test_a_cell_that_breaks_while_it_is_timed_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(trainer: SingleTrainer, name: str | None) -> None:
        raise ZeroDivisionError("no items")

    monkeypatch.setattr(SingleTrainer, "evaluate", broken)
    with pytest.raises(RunError, match="while it was timed: ZeroDivisionError: no items"):
        launched_cost(quick_spec(), seconds=0.0)


def test_stacked_cells_cost_is_per_sample_of_all_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("multistep_bench.bench.cells.timed", lambda call, device: lambda: call() or 2560.0)
    assert stacked_cost(quick_spec(2), CPU)() == 1.0  # 2 cells of 1280 samples


def test_paper_puts_the_recipe_together_from_what_it_timed() -> None:
    changes = {"model.width": 16, "model.depth": 1}
    (row,) = measure_paper(0.0, CPU, changes).rows
    spec = paper_spec(CPU, changes)
    assert spec.protocol_name == "paper"
    assert spec.model.flops_per_sample is not None
    assert row.samples_per_second == pytest.approx(512 * row.steps_per_second)
    assert row.hours_per_cell == pytest.approx(17_971_200 / row.samples_per_second / 3600)
    assert row.training_operations == pytest.approx(3 * spec.model.flops_per_sample * row.samples_per_second)
    assert row.share_of_matrix_rate == pytest.approx(row.training_operations / row.matrix_operations)
    assert 0 < row.evaluation_share < 1
    assert 0 < row.data_share < 1


def test_the_papers_model_and_recipe_are_what_is_timed() -> None:
    spec, full = paper_spec(CPU), paper_spec(torch.device("cuda"))
    assert spec.model.parameters == full.model.parameters == 3_750_666
    assert full.protocol.batch_size == 512
    assert full.protocol.precision == "bfloat16"
    assert full.changes == {}


def test_scaling_covers_budget_cells_and_tokens() -> None:
    rows = measure_scaling(0.0, CPU, intervals=(1, 2), counts=(1,), patches=(1, 2)).rows
    assert [(row.axis, row.value) for row in rows] == [
        ("budget", 1280),
        ("budget", 2560),
        ("cells", 1),
        ("tokens", 5),
        ("tokens", 17),
    ]
    assert [row.samples for row in rows] == [1280, 2560, 1280, 1280, 1280]
    assert rows[1].cost_ratio == rows[1].seconds / rows[0].seconds


def test_a_result_names_the_machine_and_is_plain_json() -> None:
    result = bench("data", seconds=0.0, device="cpu")
    content = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert set(content) == {field.name for field in fields(result)}
    assert content["benchmark"] == "data"
    assert content["hardware"]["device"] == "cpu"
    assert content["versions"]["torch"] == torch.__version__
    assert content["rows"][0]["repeats"] >= 3
    assert content["reference"]


def test_an_unknown_benchmark_is_refused_with_the_closest_match() -> None:
    with pytest.raises(NotFound, match="Did you mean 'attention'"):
        bench("atention")


@pytest.fixture
def only_two_benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    def small(seconds: float, device: torch.device) -> Measured:
        return measure_attention(seconds, device, tokens=(5,))

    some = {"data": benchmarks.BENCHMARKS["data"], "attention": Benchmark(small, 1)}
    monkeypatch.setattr(benchmarks, "BENCHMARKS", some)


@pytest.mark.usefixtures("only_two_benchmarks")
def test_the_command_prints_and_writes_the_same_json(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    done = CliRunner().invoke(app, ["bench", "all", "--seconds", "0", "--device", "cpu", "-o", str(path), "--json"])
    assert done.exit_code == 0, done.output
    printed: dict[str, Any] = json.loads(done.stdout)
    assert printed == json.loads(path.read_text())
    assert list(printed) == ["data", "attention"]
    assert len(printed["attention"]["rows"]) == len(contestants(CPU))


def test_the_command_refuses_a_file_it_could_not_write_before_it_measures(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["bench", "data", "-o", str(tmp_path / "none" / "bench.json")])
    assert isinstance(done.exception, BenchError)
    assert "there is no folder" in str(done.exception)


@pytest.mark.usefixtures("only_two_benchmarks")
def test_the_command_shows_a_table_with_the_reference() -> None:
    done = CliRunner().invoke(app, ["bench", "attention", "--seconds", "0", "--device", "cpu"])
    assert done.exit_code == 0, done.output
    assert "normsoftmax var" in done.stdout
    assert "scaled_dot_product_attention" in "".join(done.stdout.split())


def test_without_a_name_the_benchmarks_are_listed_and_nothing_is_measured() -> None:
    done = CliRunner().invoke(app, ["bench", "--json"])
    assert done.exit_code == 0
    listed = json.loads(done.stdout)
    assert listed.keys() == benchmarks.BENCHMARKS.keys()
    assert all(each["about"] and each["about_seconds"] > 0 for each in listed.values())
    assert "--seconds" in CliRunner().invoke(app, ["bench"]).stdout


def test_the_list_says_how_long_each_benchmark_and_all_of_them_take(monkeypatch: pytest.MonkeyPatch) -> None:
    known = benchmarks.BENCHMARKS
    some = {"data": Benchmark(known["data"].measure, 20), "paper": Benchmark(known["paper"].measure, 200)}
    monkeypatch.setattr(benchmarks, "BENCHMARKS", some)
    first, second, *rest = CliRunner().invoke(app, ["bench"]).stdout.splitlines()
    assert first.split(maxsplit=4)[:4] == ["data", "about", "20", "s"]
    assert second.split(maxsplit=4)[:4] == ["paper", "about", "3", "min"]
    assert len(rest) == 1  # lines of a pipe are never wrapped
    assert "`mstep-bench bench all` takes about 4 min;" in rest[0]
