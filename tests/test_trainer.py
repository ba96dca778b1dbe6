"""One cell: its grid, its determinism, what it tells the model and when it stops."""

import math
from collections.abc import Callable

import pytest
import torch
import user_models
from torch import nn

from multistep_bench.batch import IGNORED, Batch
from multistep_bench.models.build import build
from multistep_bench.runs.events import Evaluation, Outcome
from multistep_bench.runs.spec import Cell, RunSpec
from multistep_bench.training.losses import flat_cross_entropy, training_loss
from multistep_bench.training.plan import plan, task_of
from multistep_bench.training.trainer import SingleTrainer

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def spec() -> RunSpec:
    changes = {"protocol.budget": 3200, "protocol.learning_rates": [1e-3, 1e-2], "protocol.seeds": 2}
    return plan("two_step_digits-v1", "user_models:linear", "smoke", changes)


def trainer(spec: RunSpec, cell: Cell, build: Callable[..., nn.Module] = user_models.linear) -> SingleTrainer:
    task = task_of(spec)
    return SingleTrainer(spec, [cell], task, lambda: build(task.info), CPU)


def curve(spec: RunSpec, cell: Cell, build: Callable[..., nn.Module] = user_models.linear) -> list[tuple]:
    """The evaluations without the wall-clock."""
    with torch.random.fork_rng():
        events = [event for _, event in trainer(spec, cell, build).curve()]
    assert isinstance(events[-1], Outcome)
    return [(e.samples, e.correct, e.loss, e.train_loss) for e in events if isinstance(e, Evaluation)]


def test_a_cell_is_evaluated_at_the_start_and_on_the_whole_grid(spec: RunSpec) -> None:
    points = curve(spec, Cell(0, 0))
    assert [samples for samples, *_ in points] == list(range(0, 3201, 32))
    assert points[0][3] is None
    assert all(math.isfinite(loss) for *_, loss in points[1:])
    assert all(0 <= correct <= spec.protocol.evaluation_items for _, correct, *_ in points)


def test_the_same_cell_gives_the_same_curve_whatever_ran_before(spec: RunSpec) -> None:
    first = curve(spec, Cell(0, 1))
    torch.manual_seed(99)
    assert curve(spec, Cell(0, 1)) == first


def test_cells_differ_in_weights_data_and_items(spec: RunSpec) -> None:
    with torch.random.fork_rng():
        one, other = trainer(spec, Cell(0, 0)), trainer(spec, Cell(0, 1))
    assert one.items[0].description.sha256 != other.items[0].description.sha256
    assert not torch.equal(next(one.model.parameters()), next(other.model.parameters()))
    draw = [each.task.sample(8, split="train", rng=each.rngs[0]).inputs for each in (one, other)]
    assert isinstance(draw[0], torch.Tensor)
    assert isinstance(draw[1], torch.Tensor)
    assert not torch.equal(draw[0], draw[1])


def test_dropout_follows_the_cells_noise_stream(spec: RunSpec) -> None:
    def dropping(info: object) -> nn.Module:
        return user_models.linear(info, dropout=0.5)  # type: ignore[arg-type]

    assert curve(spec, Cell(0, 0), dropping) == curve(spec, Cell(0, 0), dropping)
    assert curve(spec, Cell(0, 0), dropping)[0][1:3] == curve(spec, Cell(0, 0))[0][1:3], "evaluation drops nothing"
    assert curve(spec, Cell(0, 0), dropping) != curve(spec, Cell(0, 0))


def test_training_learns(spec: RunSpec) -> None:
    points = curve(spec, Cell(1, 0))
    assert points[-1][2] < points[0][2]
    assert points[-1][1] > points[0][1]


def test_the_model_is_told_its_progress_from_zero_to_one(spec: RunSpec) -> None:
    with torch.random.fork_rng():
        cell = trainer(spec, Cell(0, 0), user_models.Progress)
        list(cell.curve())
    assert isinstance(cell.model, user_models.Progress)
    seen = cell.model.seen
    assert (seen[0], seen[-1]) == (0.0, 1.0)
    assert seen == sorted(seen)
    assert len(set(seen)) == spec.protocol.steps + 1


def test_a_cell_whose_logits_turn_nan_diverges_and_keeps_its_curve(spec: RunSpec) -> None:
    with torch.random.fork_rng():
        *evaluations, outcome = [event for _, event in trainer(spec, Cell(1, 0), user_models.returns_nan).curve()]
    assert isinstance(outcome, Outcome)
    assert outcome.status == "diverged"
    last = evaluations[-1]
    assert isinstance(last, Evaluation)
    assert (last.correct, last.loss) == (None, None)
    assert 0 < outcome.samples == last.samples < spec.protocol.budget
    assert all(isinstance(e, Evaluation) and e.correct is not None for e in evaluations[:-1])


def test_label_smoothing_is_for_training_only(spec: RunSpec) -> None:
    smoothed = plan("two_step_digits-v1", "user_models:linear", "smoke", {"protocol.label_smoothing": 0.5})
    plain = plan("two_step_digits-v1", "user_models:linear", "smoke")
    (_, correct, loss, _), (*_, train_loss) = curve(smoothed, Cell(0, 0))[:2]
    assert (correct, loss) == curve(plain, Cell(0, 0))[0][1:3]
    assert train_loss != curve(plain, Cell(0, 0))[1][3]


def test_ignored_targets_are_neither_trained_on_nor_counted(spec: RunSpec) -> None:
    logits = torch.tensor([[[2.0, 0.0], [0.0, 5.0]]])
    targets = torch.tensor([[0, IGNORED]])
    expected = math.log(1 + math.exp(-2))
    assert flat_cross_entropy(logits, targets).item() == pytest.approx(expected)

    with torch.random.fork_rng():
        cell = trainer(spec, Cell(0, 0))
    batch = cell.items[0].batches[0]
    everything, _ = cell.evaluate()[0]
    half = batch.targets.clone()
    half[::2] = IGNORED
    cell.items[0].batches[0] = Batch(batch.inputs, half, batch.steps)
    odd, _ = cell.evaluate()[0]
    cell.items[0].batches[0] = Batch(batch.inputs, torch.where(half == IGNORED, batch.targets, IGNORED), batch.steps)
    even, _ = cell.evaluate()[0]
    assert odd + even == everything


def test_a_batch_without_a_scored_target_teaches_nothing() -> None:
    logits = torch.randn(2, 3, 4, requires_grad=True)
    loss = training_loss(logits, torch.full((2, 3), IGNORED), 0.1)
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_masking_one_sentence_at_a_time_does_not_diverge() -> None:
    """One in nine of them has nothing masked."""
    changes = {"protocol.batch_size": 1, "protocol.budget": 100, "model.size": "micro"}
    agreement = plan("mlm_agreement-v1", "bert", "smoke", changes)
    points = curve(agreement, Cell(0, 0), lambda info: build(agreement.model.card(), info))
    train_losses = [train_loss for *_, train_loss in points[1:]]
    assert len(train_losses) == 100
    assert 0 < train_losses.count(0.0) < 50
    assert all(math.isfinite(loss) for loss in train_losses)
