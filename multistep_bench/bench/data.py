"""How fast batches are made, beside a loader that makes one sample at a time."""

from dataclasses import asdict, dataclass
from functools import partial
from statistics import median
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from multistep_bench import seeds
from multistep_bench.bench.result import Measured
from multistep_bench.bench.timing import CPU, interleaved, speedup, timed
from multistep_bench.generators.base import TaskGenerator
from multistep_bench.generators.task import make_task
from multistep_bench.generators.tiles.canvas import COLOUR_NOISE, RED_BLUE
from multistep_bench.sources.images import open_source

BATCH = 512
IMAGES = "two_step_glyphs-v1"  # the task that the reference makes too
TASKS = (  # one of every generator that needs no files
    IMAGES,
    "icl_gaussian-v1",
    "icl_glyphs-v1",
    "lookup-v1",
    "two_hop-v1",
    "compositional_recall-v1",
    "trigger-v1",
    "path_star-v1",
    "window_sum-v1",
    "parity-v1",
    "markov-v1",
    "mlm_agreement-v1",
)


class PerSampleTwoStep(Dataset):
    """The two-step task on glyphs as one would first write it: one image at a time, for a `DataLoader` to stack."""

    def __init__(self) -> None:
        train = open_source("glyphs").train
        labels = train.labels.numpy()
        self.images = train.images.squeeze(1).numpy()
        self.of_class = [np.flatnonzero(labels == c) for c in range(20)]
        self.random = np.random.default_rng(0)

    def __len__(self) -> int:
        return 1_000_000

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        random = self.random
        first, second = random.integers(1, 3, 2)
        target_a, target_b = random.integers(10, 20, 2)
        image = np.empty((3, 56, 56), np.float32)
        for place, label in enumerate((first, target_a, target_b, second)):
            rows = self.of_class[label]
            grey = self.images[rows[random.integers(len(rows))]] / np.float32(255)
            colour = np.asarray(RED_BLUE[int(random.integers(2))] if label < 10 else (1, 1, 1))
            tint = (colour + random.normal(0, COLOUR_NOISE, 3)).astype(np.float32)
            top, left = place // 2 * 28, place % 2 * 28
            image[:, top : top + 28, left : left + 28] = tint[:, None, None] * grey
        return torch.from_numpy(image), int(target_a if first == second else target_b) - 10


@dataclass(frozen=True)
class DataRow:
    """Batches of the suite, and of the reference where it makes the same task; a sample is an image or a sequence.

    tokens: length of a sequence, or None for images and episodes.
    """

    task: str
    tokens: int | None
    batch_size: int
    threads: int
    samples_per_second: float
    reference_samples_per_second: float | None
    ratio: float | None
    ratio_range: tuple[float, float] | None
    repeats: int


def measure_data(seconds: float, device: torch.device) -> Measured:
    """Training samples a second of `TASKS` on one CPU thread, whatever the device; the first beside the reference."""
    rng = seeds.generator(seeds.derive("bench", "data"))
    batches = iter(DataLoader(PerSampleTwoStep(), batch_size=BATCH))
    tasks = {name: make_task(name) for name in TASKS}
    measures = {
        name: timed(partial(task.sample, BATCH, split="train", rng=rng), threads=1) for name, task in tasks.items()
    }
    measures["reference"] = timed(lambda: next(batches), threads=1)
    times = interleaved(measures, seconds)
    rows = tuple(_row(task, times[name], times["reference"]) for name, task in tasks.items())
    return Measured("one image at a time with NumPy, stacked by a torch DataLoader", {}, rows)


def _row(task: TaskGenerator, times: list[float], reference: list[float]) -> DataRow:
    ratio, ratio_range = speedup(times, reference) if task.id == IMAGES else (None, None)
    shape = task.info.observation_space.shape
    return DataRow(
        task=task.id,
        tokens=shape[0] if task.info.kind == "tokens" and shape else None,
        batch_size=BATCH,
        threads=1,
        samples_per_second=BATCH / median(times),
        reference_samples_per_second=None if ratio is None else BATCH / median(reference),
        ratio=ratio,
        ratio_range=ratio_range,
        repeats=len(times),
    )


def bench_data(seconds: float = 2.0) -> dict[str, Any]:
    """The first row of `measure_data` as plain data, such as "samples_per_second" and "ratio"."""
    measured = measure_data(seconds, CPU)
    return {"reference": measured.reference, **asdict(measured.rows[0])}
