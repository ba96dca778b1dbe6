"""From a task card to a generator, and the hash that pins a task's data."""

import hashlib
import os
from pathlib import Path
from typing import Any

from multistep_bench import registry, seeds
from multistep_bench.cards import TaskCard, load_task
from multistep_bench.errors import BenchError
from multistep_bench.generators.base import Split, TaskGenerator


def make_task(task: str | Path | TaskCard, data_root: str | Path | None = None, **parameters: Any) -> TaskGenerator:
    """The generator of a task.

    task:       an id ("two_step_digits-v1"), the path of a card, or a loaded card.
    data_root:  folder of data files; by default $MULTISTEP_BENCH_DATA, then the user's cache.
    parameters: replace the card's, by name.
    Raises `NotFound`, `CardError` or `DataError`.
    """
    card = task if isinstance(task, TaskCard) else load_task(task)
    factory = registry.generators.get(card.generator)
    if not (isinstance(factory, type) and issubclass(factory, TaskGenerator)):
        raise BenchError(f"generator '{card.generator}' of {card.id} is not a subclass of TaskGenerator")
    root = data_root or os.environ.get("MULTISTEP_BENCH_DATA")
    return factory(
        {**card.parameters, **parameters},
        id=card.id,
        size=card.size,
        data_root=Path(root).expanduser() if root else None,
    )


def batch_sha256(task: TaskGenerator) -> str:
    """SHA-256 of a task's first batches: 64 samples of the train and of the eval stream at seed 0, on the CPU."""
    digest = hashlib.sha256()
    splits: tuple[Split, ...] = ("train", "eval")
    for split in splits:
        rng = seeds.generator(seeds.derive("card", split, 0))
        for name, tensor in task.sample(64, split=split, rng=rng).tensors().items():
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()
