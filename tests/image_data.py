"""Image data for tests: real files, a small stand-in for CIFAR-10, tasks built on both, and samples of them."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch

from multistep_bench import seeds
from multistep_bench.batch import Batch
from multistep_bench.errors import DataMissing
from multistep_bench.generators.base import Split, TaskGenerator
from multistep_bench.generators.task import make_task
from multistep_bench.sources import cifar10

DATA = Path(os.environ.get("MULTISTEP_BENCH_DATA") or Path(__file__).parents[2] / "shared" / "data")
CIFAR_RECORDS = 20
_FOLDER = tempfile.TemporaryDirectory(prefix="multistep-bench-tests-")


def write_cifar_folder(root: Path) -> np.ndarray:
    """Six files of CIFAR-10's binary version, of random pixels and CIFAR_RECORDS images each; returns the records
    [6, CIFAR_RECORDS, 3073]."""
    folder = root / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    records = _cifar_records()
    for name, content in zip(cifar10.LABEL_COUNTS, records, strict=True):
        (folder / name).write_bytes(content.tobytes())
    return records


def _cifar_records() -> np.ndarray:
    records = np.random.RandomState(0).randint(0, 256, (6, CIFAR_RECORDS, 3073)).astype(np.uint8)
    records[:, :, 0] = np.arange(CIFAR_RECORDS) % 10
    return records


@contextmanager
def small_cifar() -> Iterator[None]:
    """Within it CIFAR-10's published figures are those of the files that `write_cifar_folder` makes."""
    means = _cifar_records()[:, :, 1:].reshape(6, -1, 3, 1024).mean((1, 3)) / 255  # files, 3
    with mock.patch.multiple(
        cifar10,
        RECORDS=CIFAR_RECORDS,
        LABEL_COUNTS=dict.fromkeys(cifar10.LABEL_COUNTS, (CIFAR_RECORDS // 10,) * 10),
        TRAIN_MEANS=tuple(means[:5].mean(0)),
        TEST_MEANS=tuple(means[5]),
    ):
        yield


@lru_cache(maxsize=1)
def data_root() -> Path:
    """A folder with the real data that are present, and the small CIFAR-10."""
    root = Path(_FOLDER.name)
    for dataset in ("MNIST", "FashionMNIST", "omniglot-py", "wikitext-2"):
        if (DATA / dataset).is_dir():
            (root / dataset).symlink_to(DATA / dataset)
    write_cifar_folder(root)
    return root


@contextmanager
def small_files() -> Iterator[None]:
    """Within it sources download nothing, and CIFAR-10's files are as short as `write_cifar_folder` makes them."""
    no_network = mock.patch("torchvision.datasets.utils.download_url", side_effect=OSError("tests download nothing"))
    with no_network, small_cifar():
        yield


@lru_cache(maxsize=64)
def _task(task: str, parameters: tuple[tuple[str, Any], ...]) -> TaskGenerator:
    with small_files():
        return make_task(task, data_root(), **dict(parameters))


def image_task(task: str, **parameters: Any) -> TaskGenerator:
    """The task of an id; skips the test where its files are absent."""
    try:
        return _task(task, tuple(parameters.items()))
    except DataMissing as error:
        pytest.skip(str(error))


def stream(*name: str | int) -> torch.Generator:
    """A random stream of a test's own."""
    return seeds.generator(seeds.derive("test", *name))


def sample(task: TaskGenerator, n: int, split: Split = "train") -> Batch:
    return task.sample(n, split=split, rng=stream(task.id, split))
