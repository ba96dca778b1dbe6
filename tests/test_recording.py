"""Diagnostics stand beside the curves and change none of them: alone, in workers, resumed, stacked."""

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from test_launch import curves
from test_stacked import Double

from multistep_bench import load_diagnostics, make_model
from multistep_bench.batch import Batch
from multistep_bench.diagnostics.options import parse_diagnostics
from multistep_bench.diagnostics.recorder import Recorder
from multistep_bench.errors import ModelError, NotFound, RunError
from multistep_bench.models.build import build
from multistep_bench.reporting.describe import describe_estimate
from multistep_bench.runs.diagnostics import diagnostics_path, save_diagnostics, stacked_figures
from multistep_bench.runs.events import Evaluation
from multistep_bench.runs.folder import checkpoint_path
from multistep_bench.runs.spec import Cell
from multistep_bench.training.estimate import estimate
from multistep_bench.training.group import Job, train
from multistep_bench.training.launch import launch, run
from multistep_bench.training.plan import plan, task_of
from multistep_bench.training.stacked import StackedTrainer
from multistep_bench.training.trainer import SingleTrainer

CPU = torch.device("cpu")
ALL = "gradients,attention,logits,every=25"
SMALL: dict[str, Any] = {
    "protocol.budget": 400,
    "protocol.batch_size": 4,
    "protocol.learning_rates": [1e-2],
}


def assert_same(ours: Mapping[Any, Mapping[str, np.ndarray]], theirs: Mapping[Any, Mapping[str, np.ndarray]]) -> None:
    """Bit for bit, NaN where NaN is."""
    assert set(ours) == set(theirs)
    for cell, arrays in ours.items():
        assert list(arrays) == list(theirs[cell])
        for name, values in arrays.items():
            np.testing.assert_array_equal(values, theirs[cell][name], err_msg=name)


@pytest.mark.parametrize(
    ("task", "model", "kinds", "more"),
    [
        ("two_step_digits-v1", "vit", ALL, {"model.drop_path": 0.3}),  # draws noise while it trains
        ("two_step_digits-v1", "vit_heat", ALL, {}),  # keeps the fraction of training outside its parameters
        ("mlm_agreement-v1", "bert", ALL, {}),
        ("lookup-v1", "gpt", ALL, {"model.attention": "differential"}),
        ("two_step_digits-v1", "timm/vit_tiny_patch16_224", "gradients,every=50", {"model.depth": 1}),
    ],
)
def test_curves_with_diagnostics_are_those_without(
    tmp_path: Path, task: str, model: str, kinds: str, more: dict[str, Any]
) -> None:
    spec = plan(task, model, "smoke", SMALL | {"protocol.seeds": 1} | more)
    plain = launch(spec, tmp_path / "plain", workers=1)
    here = launch(spec, tmp_path / "here", workers=1, diagnostics=kinds)
    assert curves(here) == curves(plain)
    assert set(load_diagnostics(here)) == {Cell(0, 0)}
    assert not (tmp_path / "plain" / "diagnostics").exists()


def test_workers_leave_the_same_curves_and_arrays(tmp_path: Path) -> None:
    spec = plan("two_step_digits-v1", "vit", "smoke", SMALL | {"protocol.seeds": 2})
    plain = launch(spec, tmp_path / "plain", workers=1)
    here = launch(spec, tmp_path / "here", workers=1, diagnostics=ALL)
    among = launch(spec, tmp_path / "among", workers=2, diagnostics=ALL)
    assert curves(plain) == curves(here) == curves(among)
    assert here.spec.identity() == plain.spec.identity()
    assert_same(load_diagnostics(here), load_diagnostics(str(among.path)))
    arrays = load_diagnostics(here)[Cell(0, 0)]
    assert arrays["samples"].tolist() == [0, 100, 200, 300, 400]
    assert arrays["gradients.l2"].shape == (5, 3, 3)
    assert arrays["attention.share"].shape == (5, 3, 2, 4)
    assert not np.array_equal(arrays["gradients.l2"][0], arrays["gradients.l2"][4]), "the model did not move"


def test_an_interrupted_cell_has_the_arrays_of_an_uninterrupted_one(tmp_path: Path) -> None:
    spec = plan("mlm_agreement-v1", "bert", "smoke", SMALL | {"protocol.seeds": 1})
    whole = launch(spec, tmp_path / "whole", workers=1, diagnostics=ALL)
    for name in ("cut", "cut/cells"):
        (tmp_path / name).mkdir()
    job = Job(spec, tmp_path / "cut", "cpu", None, 0.0, {}, diagnostics=parse_diagnostics(ALL))
    for message in train(job, (Cell(0, 0),)):
        if isinstance(message.event, Evaluation) and message.event.samples == 208:
            break
    assert checkpoint_path(tmp_path / "cut", Cell(0, 0)).exists()
    assert not diagnostics_path(tmp_path / "cut", Cell(0, 0)).exists()
    for _ in train(job, (Cell(0, 0),)):
        pass
    cut = {Cell(0, 0): stacked_from(tmp_path / "cut")}
    assert_same(cut, load_diagnostics(whole))


def stacked_from(folder: Path) -> dict[str, np.ndarray]:
    with np.load(diagnostics_path(folder, Cell(0, 0)), allow_pickle=False) as file:
        return dict(file)


@pytest.mark.parametrize(("task_id", "model"), [("two_step_digits-v1", "vit_heat"), ("mlm_agreement-v1", "bert")])
def test_stacked_cells_have_the_figures_of_cells_alone(task_id: str, model: str) -> None:
    """In float64, after 20 steps at two rates."""
    spec = plan(task_id, model, "smoke", SMALL | {"protocol.learning_rates": [1e-3, 1e-2], "protocol.seeds": 1})
    task = task_of(spec)

    def double() -> Double:
        return Double(build(spec.model.card(), task.info))

    recorder = Recorder(parse_diagnostics(ALL), task, CPU)
    with torch.random.fork_rng():
        stacked = StackedTrainer(spec, spec.cells(), task, double, CPU)
        singles = [SingleTrainer(spec, [cell], task, double, CPU) for cell in spec.cells()]
        for trainer in (stacked, *singles):
            for index in range(20):
                trainer.train_interval(index * spec.protocol.interval)
        together = [recorder.record(stacked.model_of(place)) for place in range(2)]
        assert abs(together[0]["gradients.l2"] - together[1]["gradients.l2"]).max() > 1e-3
        for figures, single in zip(together, singles, strict=True):
            alone = recorder.record(single.model_of(0))
            assert list(figures) == list(alone)
            for name, values in alone.items():
                if values.dtype.kind == "f":
                    np.testing.assert_allclose(figures[name], values, rtol=1e-9, atol=1e-9, err_msg=name)


def test_a_stacked_run_records_every_cell(tmp_path: Path) -> None:
    spec = plan("two_step_digits-v1", "vit", "smoke", SMALL | {"protocol.seeds": 2})
    alone = load_diagnostics(launch(spec, tmp_path / "alone", workers=1, diagnostics=ALL))
    together = load_diagnostics(launch(spec, tmp_path / "together", stack=2, diagnostics=ALL))
    for cell, arrays in alone.items():  # the start is the same to the bit, the rest up to rounding of float32
        assert together[cell]["samples"].tolist() == arrays["samples"].tolist()
        np.testing.assert_array_equal(together[cell]["gradients.l2"][0], arrays["gradients.l2"][0])
        np.testing.assert_allclose(together[cell]["gradients.l2"], arrays["gradients.l2"], rtol=0.05)


def test_cells_that_ended_before_get_none_and_the_user_is_told(tmp_path: Path) -> None:
    spec = plan("two_step_digits-v1", "vit", "smoke", SMALL | {"protocol.seeds": 1})
    launch(spec, tmp_path / "run", workers=1)
    with pytest.warns(UserWarning, match=r"1 cells in .* were trained without and get none, among them rate0-seed0"):
        done = launch(spec, tmp_path / "run", workers=1, diagnostics=ALL)
    with pytest.raises(RunError, match=r"no diagnostics stand in .*; train it with --diagnostics"):
        load_diagnostics(done)


def test_what_cannot_be_recorded_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"--diagnostics attention: .* holds none of the suite's attention rules"):
        run("two_step_digits-v1", "user_models:linear", "smoke", tmp_path / "run", diagnostics="attention")
    with pytest.raises(NotFound, match="Did you mean 'logits'"):
        run("two_step_digits-v1", "vit", "smoke", tmp_path / "run", diagnostics="logit")
    assert not (tmp_path / "run").exists()


def test_a_dry_run_states_the_cost() -> None:
    spec = plan("two_step_digits-v1", "vit", "smoke", SMALL)
    plain = estimate(spec, device="cpu", seconds=0.1)
    costs = estimate(spec, device="cpu", seconds=0.1, diagnostics="logits,every=1")
    assert plain.diagnostics_share is None
    assert "diagnostics" not in describe_estimate(plain)
    assert costs.diagnostics_share is not None
    assert costs.diagnostics_share > 0
    assert f"{costs.diagnostics_share:.1%} more time" in describe_estimate(costs)["diagnostics"]


def test_the_time_of_recordings_is_part_of_what_a_dry_run_expects(monkeypatch: pytest.MonkeyPatch) -> None:
    """200 steps of 0.5 s, 101 evaluations of 0.5 s; every 25th records for 2 s, and those at 0 and 100 do too."""
    monkeypatch.setattr("multistep_bench.training.estimate._timed", lambda *given: (0.5, 0.5, 2.0, 100))
    spec = plan("two_step_digits-v1", "vit", "smoke", {"protocol.seeds": 1})
    plain = estimate(spec, device="cpu", workers=1)
    costs = estimate(spec, device="cpu", workers=1, diagnostics=ALL)
    assert (plain.cell_seconds, plain.seconds) == (150.5, 150.5)
    assert (costs.cell_seconds, costs.seconds) == (160.5, 160.5)
    assert costs.diagnostics_share == pytest.approx(10 / 150.5)
    assert costs.samples_per_second == pytest.approx(3_200 / 160.5)


def test_a_dry_run_of_a_large_protocol_times_a_few_steps_and_items(monkeypatch: pytest.MonkeyPatch) -> None:
    """An interval of the paper's protocols is an epoch, which no dry run should train; a step tells as much."""
    steps: list[int] = []
    items: list[int] = []
    step, evaluate = SingleTrainer.train_step, SingleTrainer.evaluate

    def counted_step(trainer: SingleTrainer, batch: Batch) -> torch.Tensor:
        steps.append(len(batch.targets))
        return step(trainer, batch)

    def counted_evaluation(trainer: SingleTrainer, name: str | None = None) -> list[tuple[int, float]]:
        items.append(trainer.items[0].description.items)
        return evaluate(trainer, name)

    monkeypatch.setattr(SingleTrainer, "train_step", counted_step)
    monkeypatch.setattr(SingleTrainer, "evaluate", counted_evaluation)
    clock = SimpleNamespace(perf_counter=lambda: float(len(steps) + len(items)))  # each takes a second
    monkeypatch.setattr("multistep_bench.training.estimate.time", clock)
    changes = {"protocol.budget": 3_200_000, "protocol.evaluation_items": 5_120}
    spec = plan("two_step_digits-v1", "vit", "smoke", {**changes, "protocol.seeds": 1})
    steps.clear()
    items.clear()
    costs = estimate(spec, device="cpu", workers=1, seconds=6.0)
    assert set(items) == {512}
    assert steps == [2, *[16] * (1 + 2 + 4)]  # the first pays for what is set up once; four steps take half of 6 s
    assert costs.cell_seconds == 200_000 * 1.0 + 101 * (5_120 / 512) * 1.0


def test_figures_are_those_of_evaluation_mode_whatever_mode_the_model_is_in() -> None:
    """With drop-path of 0.9 nearly every block would be skipped in training mode."""
    task = task_of(plan("two_step_digits-v1", "vit", "smoke", SMALL))
    torch.manual_seed(0)
    model = make_model("vit", task.info, drop_path=0.9)
    recorder = Recorder(parse_diagnostics(ALL), task, CPU)
    training, evaluating = recorder.record(model.train()), recorder.record(model.eval())
    assert not model.training
    for name, values in evaluating.items():
        np.testing.assert_array_equal(training[name], values, err_msg=name)


def test_a_figure_that_some_recordings_lack_is_nan_there() -> None:
    first: dict[str, np.ndarray] = {"a": np.array([1.0, 2.0]), "names": np.array(["x", "y"])}
    arrays = stacked_figures([(0, first), (10, {"b": np.array(3.0)})])
    assert arrays["samples"].tolist() == [0, 10]
    assert arrays["names"].tolist() == ["x", "y"]
    np.testing.assert_array_equal(arrays["a"], [[1.0, 2.0], [np.nan, np.nan]])
    np.testing.assert_array_equal(arrays["b"], [np.nan, 3.0])


def test_a_damaged_file_is_named_and_nothing_is_unpickled(tmp_path: Path) -> None:
    spec = plan("two_step_digits-v1", "user_models:linear", "smoke", SMALL | {"protocol.seeds": 1})
    done = launch(spec, tmp_path / "run", workers=1)
    save_diagnostics(done.path, Cell(0, 0), [(0, {"a": np.array([1.0])})])
    assert load_diagnostics(done)[Cell(0, 0)]["a"].tolist() == [[1.0]]
    path = diagnostics_path(done.path, Cell(0, 0))
    for content in (b"", path.read_bytes()[:100], b"\x80\x04N."):
        path.write_bytes(content)
        with pytest.raises(RunError, match=r"rate0-seed0.npz is damaged"):
            load_diagnostics(done)
    np.savez(path, a=np.array([{}], dtype=object))
    with pytest.raises(RunError, match=r"rate0-seed0.npz is damaged"):
        load_diagnostics(done)
