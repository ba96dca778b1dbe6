"""What a model must pass before anything is trained: a whole training step, and a few that are interrupted.

Each check is what training itself does, on the CPU and on a few batches, so that a model that would fail or be scored
wrongly in every cell is refused once, with the reason. Nothing here changes the caller's random states.
"""

import io
import warnings
from typing import Any

import torch

from multistep_bench.batch import Batch
from multistep_bench.errors import BenchError, ModelError
from multistep_bench.generators.base import TaskGenerator
from multistep_bench.models.build import build, logits
from multistep_bench.runs.spec import Cell, RunSpec
from multistep_bench.training.losses import training_loss
from multistep_bench.training.randomness import own_randomness
from multistep_bench.training.trainer import SingleTrainer

CPU = torch.device("cpu")
FIRST, SECOND = Cell(0, 0), Cell(0, 1)
STEP_FLOPS = 1e11  # a step of more is rehearsed with fewer samples: about a second or two of one core
INTERRUPTED_SAMPLES = 16  # of each batch of the interrupted steps
STEPS = 3  # before the interruption, and after it


def rehearse(spec: RunSpec, task: TaskGenerator) -> None:
    """Trains a model for a few steps as its cells will be trained.

    Raises `ModelError` where a step fails, where a resumed training would be another one, or where the answers in
    training mode are no logits; warns where all seeds start from the same weights.
    """
    with own_randomness(CPU):
        _one_step(spec, task)
        first = _interrupted_steps(spec, task)
        _seeds_differ(spec, task, first)


def _trainer(spec: RunSpec, task: TaskGenerator, cell: Cell = FIRST) -> SingleTrainer:
    """A trainer of a shorter protocol: few evaluation items, and batches that are drawn by hand."""
    small = spec.protocol.model_copy(update={"evaluation_items": 2, "precision": "float32"})
    card = spec.task.model_copy(update={"protocols": {spec.protocol_name: small}})
    brief = spec.model_copy(update={"task": card})
    return SingleTrainer(brief, [cell], task, lambda: build(spec.model.card(), task.info), CPU)


def _one_step(spec: RunSpec, task: TaskGenerator) -> None:
    """Forward, loss, backward and an update in training mode, at the protocol's batch size where that is cheap."""
    trainer = _trainer(spec, task)
    name = type(trainer.model).__name__
    size = affordable(spec, spec.protocol.batch_size, STEP_FLOPS)
    batch = task.sample(size, split="train", rng=trainer.rngs[0])
    trainer.model.train()
    names = {each for each, _ in trainer.model.named_parameters()}
    try:
        answer = logits(trainer.model, batch)
    except Exception as error:  # a user's code may fail in any way
        raise ModelError(
            f"{name} cannot take a batch of {size} samples of {spec.task.id} in training mode:"
            f" {type(error).__name__}: {error}; correct the model"
        ) from error
    _check_answer(answer, batch, task, name)
    try:
        training_loss(answer, batch.targets, spec.protocol.label_smoothing).backward()
        trainer.optimizer.zero_grad(set_to_none=True)
        trainer.train_step(batch)
    except BenchError:
        raise
    except Exception as error:
        raise ModelError(
            f"{name} cannot be trained by one step of the harness: {type(error).__name__}: {error};"
            " parameters must be real, with dense gradients"
        ) from error
    late = {each for each, _ in trainer.model.named_parameters()} - names
    if late:
        raise ModelError(
            f"{name} makes parameters while it trains ({', '.join(sorted(late)[:3])}), which no optimiser knows;"
            " make them in __init__"
        )


def affordable(spec: RunSpec, samples: int, flops: float) -> int:
    """As many of the samples as train with so many operations, at least two."""
    each = 3 * (spec.model.flops_per_sample or 0)
    return samples if each * samples <= flops else max(2, int(flops / each))


def _check_answer(answer: Any, batch: Batch, task: TaskGenerator, name: str) -> None:
    wanted = (*batch.targets.shape, task.info.num_classes)
    if not isinstance(answer, torch.Tensor):
        raise ModelError(
            f"{name} answers with a {type(answer).__name__} in training mode; return logits, a tensor of shape {wanted}"
        )
    if tuple(answer.shape) != wanted or not answer.is_floating_point():
        raise ModelError(
            f"{name} answers with {answer.dtype} of shape {tuple(answer.shape)} in training mode; logits of floating"
            f" point and shape {wanted} are wanted"
        )
    if not answer.requires_grad:
        raise ModelError(f"{name} answers in training mode without a gradient; do not detach its logits")


def _interrupted_steps(spec: RunSpec, task: TaskGenerator) -> dict[str, torch.Tensor]:
    """Raises unless a training that is saved and restored goes on as one that was never interrupted.

    Returns the model's first weights.
    """
    trainer = _trainer(spec, task)
    first = {name: tensor.detach().clone() for name, tensor in trainer.model.named_parameters()}
    _steps(trainer)
    saved = io.BytesIO()
    torch.save(trainer.state_dict(), saved)
    went_on = _steps(trainer)
    again = _trainer(spec, task)
    saved.seek(0)
    try:
        again.load_state_dict(torch.load(saved, weights_only=True))
    except Exception as error:  # a user's module may refuse in any way
        name = type(trainer.model).__name__
        raise ModelError(
            f"the state of {name} cannot be restored into a new {name}: {type(error).__name__}: {error};"
            " make parameters and buffers in __init__"
        ) from error
    if not _equal(went_on, _steps(again)):
        raise ModelError(
            f"{type(trainer.model).__name__} trains on differently once it is restored from a checkpoint, so an"
            " interrupted run would give another curve: it keeps something outside its parameters and buffers (an"
            " attribute that changes, a generator of its own, a variable of its module); keep it in a buffer, or in"
            " get_extra_state and set_extra_state"
        )
    return first


def _steps(trainer: SingleTrainer) -> list[torch.Tensor]:
    """The losses of a few steps, and the logits of evaluation afterwards."""
    trainer.model.train()
    losses = []
    size = affordable(trainer.spec, min(INTERRUPTED_SAMPLES, trainer.spec.protocol.batch_size), STEP_FLOPS / 10)
    for _ in range(STEPS):
        losses.append(trainer.train_step(trainer.task.sample(size, split="train", rng=trainer.rngs[0])))
    trainer.model.eval()
    with torch.no_grad():
        answers = [logits(trainer.model, batch) for batch in trainer.items[0].batches]
    trainer.model.train()
    return [*losses, *answers]


def _equal(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) or (a.isnan().all() and b.isnan().all()) for a, b in zip(ours, theirs, strict=True))


def _seeds_differ(spec: RunSpec, task: TaskGenerator, first: dict[str, torch.Tensor]) -> None:
    second = dict(_trainer(spec, task, SECOND).model.named_parameters())
    if not all(torch.equal(tensor, second[name]) for name, tensor in first.items() if name in second):
        return
    warnings.warn(
        f"every seed of '{spec.model.name}' starts from the same weights: its builder seeds a generator itself, or"
        " draws nothing; replicates then differ in their data alone, and such a run is no entry of the leaderboard",
        stacklevel=3,
    )
