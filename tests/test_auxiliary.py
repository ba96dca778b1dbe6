"""Auxiliary curves: measured on sets of their own, beside a primary curve that they leave as it is."""

from pathlib import Path

import pytest
import torch

from multistep_bench import seeds
from multistep_bench.models.build import logits
from multistep_bench.runs.events import Evaluation
from multistep_bench.runs.spec import Cell, RunSpec
from multistep_bench.runs.store import read_run
from multistep_bench.training.launch import launch
from multistep_bench.training.losses import flat_cross_entropy
from multistep_bench.training.plan import plan, task_of
from multistep_bench.training.trainer import SingleTrainer, draw_auxiliary

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def spec() -> RunSpec:
    return plan("lookup-v1", "gpt", "smoke", {"protocol.seeds": 1, "model.width": 16})


def evaluations(spec: RunSpec, *, auxiliary: bool = True) -> tuple[SingleTrainer, list[Evaluation]]:
    task = task_of(spec)
    if not auxiliary:
        task.auxiliary = lambda n, rng: {}  # type: ignore[method-assign]
    with torch.random.fork_rng():
        from multistep_bench.models.build import build

        trainer = SingleTrainer(spec, [Cell(0, 0)], task, lambda: build(spec.model.card(), task.info), CPU)
        return trainer, [event for _, event in trainer.curve() if isinstance(event, Evaluation)]


def test_every_evaluation_reads_the_auxiliary_sets_too(spec: RunSpec) -> None:
    trainer, curve = evaluations(spec)
    assert all(evaluation.auxiliary.keys() == {"hop 1"} for evaluation in curve)
    items = draw_auxiliary(spec, Cell(0, 0), trainer.task, CPU)["hop 1"]
    answers = torch.cat([logits(trainer.model.eval(), batch) for batch in items.batches])
    targets = torch.cat([batch.targets for batch in items.batches])
    last = curve[-1].auxiliary["hop 1"]
    assert items.description.items == len(targets)
    assert last.correct == int((answers.argmax(-1) == targets).sum())
    assert last.loss == pytest.approx(flat_cross_entropy(answers, targets).item(), rel=1e-5)


def test_their_items_come_from_a_stream_of_their_own(spec: RunSpec) -> None:
    task, cell = task_of(spec), Cell(0, 0)
    (batch,) = draw_auxiliary(spec, cell, task, CPU)["hop 1"].batches
    items = spec.protocol.evaluation_items
    others = [
        task.auxiliary(items, seeds.generator(cell.seed(spec.task.id, name)))["hop 1"] for name in ("eval", "train")
    ]
    assert all(not torch.equal(batch.tensors()["inputs"], other.tensors()["inputs"]) for other in others)


def test_the_primary_curve_does_not_depend_on_them(spec: RunSpec) -> None:
    (_, beside), (_, without) = evaluations(spec), evaluations(spec, auxiliary=False)
    assert [(e.correct, e.loss, e.train_loss) for e in beside] == [(e.correct, e.loss, e.train_loss) for e in without]


def test_records_carry_them_and_come_back_whole(spec: RunSpec, tmp_path: Path) -> None:
    run = launch(spec, tmp_path / "run", workers=1)
    (record,) = read_run(run.path).records
    curve = record.auxiliary["hop 1"]
    assert curve.set.items == 64
    assert curve.set.sha256 != record.curve.set.sha256
    assert len(curve) == len(record) == 101
    assert ((curve.correct >= 0) & (curve.correct <= 64)).all()
