"""Feeds cells: batches to train on, and the held-out items that every evaluation of a cell shows again."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from multistep_bench import seeds
from multistep_bench.batch import IGNORED, Batch
from multistep_bench.generators.base import TaskGenerator
from multistep_bench.protocol import Protocol
from multistep_bench.runs.events import EvaluationSet
from multistep_bench.runs.spec import Cell, RunSpec

EVALUATION_CHUNK = 512  # evaluation items drawn at a time
EVALUATION_LOGITS = 2**24  # of one forward pass of an evaluation at most, unless one item has more
DRAW_SAMPLES = 512  # training samples drawn at a time: as fast as larger draws of small images, faster for large ones


@dataclass(frozen=True)
class EvaluationBatches:
    """Held-out items of a cell, drawn once, a batch for each forward pass; `description` goes into the record."""

    batches: list[Batch]
    description: EvaluationSet


def training_batches(task: TaskGenerator, protocol: Protocol, rng: torch.Generator) -> Iterator[Batch]:
    """The batches of one interval between evaluations, several drawn at a time: a small draw costs as much."""
    size, remaining = protocol.batch_size, protocol.steps_per_evaluation
    while remaining:
        count = min(max(1, DRAW_SAMPLES // size), remaining)
        yield from task.sample(count * size, split="train", rng=rng).split(size)
        remaining -= count


def draw_evaluation(spec: RunSpec, cell: Cell, task: TaskGenerator, device: torch.device) -> EvaluationBatches:
    """The cell's held-out items from its "eval" stream."""
    rng = seeds.generator(cell.seed(spec.task.id, "eval"), device)
    remaining = spec.protocol.evaluation_items
    batches = []
    while remaining:
        chunk = min(remaining, EVALUATION_CHUNK)
        batches.append(task.sample(chunk, split="eval", rng=rng))
        remaining -= chunk
    return _evaluation_batches(batches, task.info.num_classes)


def draw_auxiliary(
    spec: RunSpec, cell: Cell, task: TaskGenerator, device: torch.device
) -> dict[str, EvaluationBatches]:
    """The cell's items of each auxiliary measurement, by name, from its "secondary" stream."""
    rng = seeds.generator(cell.seed(spec.task.id, "secondary"), device)
    drawn = task.auxiliary(spec.protocol.evaluation_items, rng)
    return {name: _evaluation_batches([batch], task.info.num_classes) for name, batch in drawn.items()}


def _evaluation_batches(batches: list[Batch], classes: int) -> EvaluationBatches:
    """Batches cut to the size of one forward pass, and what identifies them."""
    digest = hashlib.sha256()
    for batch in batches:
        for tensor in batch.tensors().values():
            digest.update(tensor.cpu().contiguous().numpy().tobytes())
    items = int(sum((batch.targets != IGNORED).sum() for batch in batches))
    logits = classes * batches[0].targets[0].numel()  # of one sample
    size = max(1, min(EVALUATION_CHUNK, EVALUATION_LOGITS // logits))
    pieces = [piece for batch in batches for piece in batch.split(size)]
    return EvaluationBatches(pieces, EvaluationSet(items=items, sha256=digest.hexdigest()))
