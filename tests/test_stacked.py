"""Cells trained at once learn what each would have learned alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from test_launch import TASK, Notes, curves
from torch import nn

from multistep_bench.batch import Inputs
from multistep_bench.models.build import build
from multistep_bench.protocol import Protocol
from multistep_bench.runs.spec import Cell, RunSpec
from multistep_bench.training.decay import decayed_names
from multistep_bench.training.launch import launch
from multistep_bench.training.optimizers import make_optimizer, set_learning_rate
from multistep_bench.training.plan import plan, task_of
from multistep_bench.training.stackable import why_not_stackable
from multistep_bench.training.stacked import StackedTrainer
from multistep_bench.training.stacked_optimizers import StackedAdamW
from multistep_bench.training.trainer import SingleTrainer, Trainer

CPU = torch.device("cpu")
STEPS_50 = {
    "protocol.budget": 1600,
    "protocol.batch_size": 16,
    "protocol.learning_rates": [1e-3, 1e-2],
    "protocol.seeds": 2,
    "protocol.warmup": 0.1,
    "protocol.schedule": "cosine",
    "protocol.label_smoothing": 0.1,
}

BATCHES_OF_2 = {"protocol.batch_size": 2, "protocol.budget": 200}
SMALL_EPISODES = {"protocol.batch_size": 4, "protocol.budget": 400, "protocol.seeds": 1}  # each item is an image


class Double(nn.Module):
    """A model in float64 that takes float32 images, tokens, or episodes."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model.double()

    def no_weight_decay(self) -> set[str]:
        return {f"model.{name}" for name in getattr(self.model, "no_weight_decay", set)()}

    def set_progress(self, fraction: float) -> None:
        getattr(self.model, "set_progress", lambda fraction: None)(fraction)

    def forward(self, inputs: Inputs) -> torch.Tensor:
        def double(tensor: torch.Tensor) -> torch.Tensor:
            return tensor.double() if tensor.is_floating_point() else tensor

        return self.model(
            {name: double(each) for name, each in inputs.items()} if isinstance(inputs, dict) else double(inputs)
        )


def losses(trainer: Trainer, intervals: int) -> list[list[float]]:
    interval = trainer.spec.protocol.interval
    return [trainer.train_interval(index * interval) for index in range(intervals)]


@pytest.mark.parametrize(
    ("task_id", "model", "rates", "more"),
    [
        *((TASK, model, [1e-3, 1e-2], {}) for model in ("vit", "vit_normsoftmax", "vit_heat", "vit_fixed_uniform")),
        ("lookup-v1", "gpt", [1e-4, 1e-3], {}),  # at 1e-2 it saturates: Adam blows gradients of rounding errors up
        ("mlm_agreement-v1", "bert_normsoftmax", [1e-4, 1e-3], {}),
        ("icl_glyphs-v1", "gpt_heat", [1e-4, 1e-3], SMALL_EPISODES),
    ],
)
def test_fifty_steps_stacked_equal_fifty_steps_alone(
    task_id: str, model: str, rates: list[float], more: dict[str, Any]
) -> None:
    """In float64: the losses of every interval, the weights after 50 steps, and the evaluations."""
    spec = plan(task_id, model, "smoke", STEPS_50 | {"protocol.learning_rates": rates} | more)
    task = task_of(spec)

    def double() -> nn.Module:
        return Double(build(spec.model.card(), task.info))

    with torch.random.fork_rng():
        stacked = StackedTrainer(spec, spec.cells(), task, double, CPU)
        together = losses(stacked, 50)
        for index, cell in enumerate(spec.cells()):
            single = SingleTrainer(spec, [cell], task, double, CPU)
            alone = losses(single, 50)
            assert [step[index] for step in together] == pytest.approx([step[0] for step in alone], rel=1e-6)
            for name, parameter in single.model.named_parameters():
                torch.testing.assert_close(stacked.parameters[name][index], parameter, rtol=1e-9, atol=1e-9)
            for name in (None, *single.auxiliary[0]):
                (correct, loss), (alone_correct, alone_loss) = stacked.evaluate(name)[index], single.evaluate(name)[0]
                assert correct == alone_correct
                assert loss == pytest.approx(alone_loss, rel=1e-9)


def test_batches_without_a_scored_target_leave_the_other_cells_alone() -> None:
    """One sentence a batch: now this cell's has nothing masked, now the other's."""
    changes = {"protocol.batch_size": 1, "protocol.budget": 100, "protocol.seeds": 2, "model.size": "micro"}
    spec = plan("mlm_agreement-v1", "bert", "smoke", changes)
    task = task_of(spec)
    with torch.random.fork_rng():
        stacked = StackedTrainer(spec, spec.cells(), task, lambda: build(spec.model.card(), task.info), CPU)
        together = torch.tensor(losses(stacked, 100))
        for index, cell in enumerate(spec.cells()):
            single = SingleTrainer(spec, [cell], task, lambda: build(spec.model.card(), task.info), CPU)
            torch.testing.assert_close(together[:, index], torch.tensor(losses(single, 100))[:, 0])
    assert ((together == 0).sum(1) == 1).any(), "no batch came in which one cell alone had nothing to learn"


def test_stacked_adamw_is_torchs_for_each_cell() -> None:
    protocol = Protocol(
        budget=1000,
        batch_size=10,
        evaluations=100,
        evaluation_items=9,
        seeds=1,
        learning_rates=(1e-3,),
        betas=(0.8, 0.95),
    )
    torch.manual_seed(0)
    rates = [1e-3, 0.1]
    models = [nn.Linear(3, 2).double() for _ in rates]
    stacks = {
        name: torch.stack([dict(model.named_parameters())[name].detach() for model in models]).requires_grad_()
        for name in ("weight", "bias")
    }
    optimizer = StackedAdamW(stacks, decayed_names(models[0]), protocol)
    singles = [make_optimizer(model, protocol) for model in models]
    for _ in range(30):
        gradients = {name: torch.randn_like(stack) for name, stack in stacks.items()}
        for name, stack in stacks.items():
            stack.grad = gradients[name].clone()
        optimizer.step(torch.tensor(rates, dtype=torch.float64))
        for index, (model, single) in enumerate(zip(models, singles, strict=True)):
            for name, parameter in model.named_parameters():
                parameter.grad = gradients[name][index].clone()
            set_learning_rate(single, rates[index])
            single.step()
    for index, model in enumerate(models):
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(stacks[name][index], parameter, rtol=1e-12, atol=1e-12)


def test_a_stacked_run_writes_the_same_records(tmp_path: Path) -> None:
    spec = plan(TASK, "user_models:linear", "smoke", {**STEPS_50, "protocol.learning_rates": [1e-3, 3e-3]})
    notes = Notes()
    stacked = launch(spec, tmp_path / "stacked", workers=1, stack=3, observer=notes)
    alone = launch(spec, tmp_path / "alone", workers=1)
    assert {record.environment.engine for record in stacked.records} == {"cells stacked"}
    assert {record.environment.engine for record in alone.records} == {"one cell at a time"}
    assert set(notes.outcomes) == set(spec.cells())
    for ours, theirs in zip(stacked.records, alone.records, strict=True):
        assert ours.curve.set == theirs.curve.set
        assert ours.curve.loss == pytest.approx(theirs.curve.loss, rel=1e-3)


class StopsLate(Notes):
    """Presses Ctrl-C when the last cell of the group has its fortieth evaluation."""

    def evaluated(self, cell: Cell, evaluation: Any, items: int) -> None:
        super().evaluated(cell, evaluation, items)
        if len(self.evaluations) == 4 and all(len(each) >= 40 for each in self.evaluations.values()):
            raise KeyboardInterrupt


def test_a_stacked_group_resumes_as_it_was_with_a_diverged_cell_in_it(tmp_path: Path) -> None:
    """float32 weights of 1e38 overflow in the cells of one learning rate."""
    changes = {**STEPS_50, "protocol.learning_rates": [1e-3, 1e37], "protocol.warmup": 0.0}
    spec = plan(TASK, "user_models:linear", "smoke", changes)
    whole = launch(spec, tmp_path / "whole", workers=1, stack=4)
    assert {r.cell.rate_index: r.status for r in whole.records} == {0: "completed", 1: "diverged"}

    class StopsAfterDivergence(Notes):
        def evaluated(self, cell: Cell, evaluation: Any, items: int) -> None:
            super().evaluated(cell, evaluation, items)
            if len(self.outcomes) == 2 and evaluation.samples > 800:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        launch(spec, tmp_path / "cut", workers=1, stack=4, checkpoint_seconds=0, observer=StopsAfterDivergence())
    notes = Notes()
    resumed = launch(spec, tmp_path / "cut", workers=1, stack=1, observer=notes)
    assert set(notes.finished) == {Cell(1, 0), Cell(1, 1)}
    assert curves(resumed) == curves(whole)
    assert {record.environment.engine for record in resumed.records} == {"cells stacked"}


def test_what_cannot_be_stacked_is_trained_alone_and_the_record_says_why(tmp_path: Path) -> None:
    spec = plan(TASK, "resnet9", "smoke", STEPS_50 | {"protocol.learning_rates": [1e-3]} | BATCHES_OF_2)
    done = launch(spec, tmp_path / "run", workers=1, stack=2)
    note = "one cell at a time: not stacked because it keeps running statistics of its batches"
    assert {record.environment.engine for record in done.records} == {note}


class BranchesOnData(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x) if x.sum().item() > 0 else -self.linear(x)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: nn.Linear(2, 2), None),
        (BranchesOnData, "RuntimeError"),
        (lambda: nn.BatchNorm1d(2), "running statistics"),
    ],
)
def test_why_not_stackable(make: Callable[[], nn.Module], reason: str | None) -> None:
    spec: RunSpec = plan(TASK, "user_models:linear", "smoke", STEPS_50)
    found = why_not_stackable(spec, make(), torch.ones(2, 2))
    assert found is None if reason is None else reason in str(found)


def test_rescaled_gradients_are_not_stacked() -> None:
    spec = plan(TASK, "vit_gradscale", "smoke", STEPS_50)
    assert why_not_stackable(spec, nn.Linear(2, 2), torch.ones(2, 2)) == "its gradients are rescaled"


class ReplacesItsBuffer(nn.Module):
    """Counts in a buffer by replacing it, which a stacked forward pass forgets."""

    step: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 2)
        self.register_buffer("step", torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.step = self.step * 2
        return self.linear(x) * self.step.detach() ** 0


class LooksAtItsGroup(nn.Module):
    """Answers otherwise when many weights are at hand, as code that tests for a functional tensor might."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        stacked = torch._C._functorch.is_batchedtensor(self.linear.weight)  # type: ignore[attr-defined]
        return self.linear(x) * (2 if stacked else 1)


class KeepsAMask(nn.Module):
    mask: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 2)
        self.register_buffer("mask", torch.tensor([True, False]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x).where(self.mask, 0.0)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (KeepsAMask, None),
        (ReplacesItsBuffer, "buffer step ends otherwise than in a cell alone"),
        (LooksAtItsGroup, "its answers differ from those of a cell alone"),
        (lambda: nn.Sequential(nn.Linear(2, 8), nn.Dropout(0.5), nn.Linear(8, 2)), None),
        (lambda: nn.Sequential(nn.Linear(2, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 2)), None),
    ],
)
def test_a_model_that_trains_otherwise_when_stacked_is_trained_alone(
    make: Callable[[], nn.Module], reason: str | None
) -> None:
    spec = plan(TASK, "user_models:linear", "smoke", STEPS_50)
    assert why_not_stackable(spec, make(), torch.randn(3, 2)) == reason


def test_nothing_that_decays_is_trained_stacked_too(tmp_path: Path) -> None:
    spec = plan(TASK, "user_models:linear", "smoke", {**STEPS_50, "protocol.weight_decay": 0.0})
    stacked = launch(spec, tmp_path / "stacked", workers=1, stack=2)
    alone = launch(spec, tmp_path / "alone", workers=1)
    for ours, theirs in zip(stacked.records, alone.records, strict=True):
        assert ours.status == "completed"
        assert ours.curve.loss == pytest.approx(theirs.curve.loss, rel=1e-3)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("model", ["vit", "vit_normsoftmax"])  # torch's attention, and products of our own
def test_a_gpu_trains_stacked_cells_by_itself(tmp_path: Path, model: str, precision: str) -> None:
    spec = plan(TASK, model, "smoke", {**STEPS_50, "protocol.precision": precision})
    run = launch(spec, tmp_path / "run", device="cuda")
    assert {record.status for record in run.records} == {"completed"}
    assert {record.environment.engine for record in run.records} == {"cells stacked"}
