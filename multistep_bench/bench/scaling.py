"""How the cost of training grows with the budget, the number of cells and the number of tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

import torch

from multistep_bench.bench.cells import COUNTS, cells_at_once
from multistep_bench.bench.quick import quick_spec, single_trainer
from multistep_bench.bench.result import Measured
from multistep_bench.bench.timing import Measure, interleaved, timed
from multistep_bench.runs.machine import available_cores

INTERVALS = (1, 2, 4, 8)
PATCHES = (1, 2, 4, 8)

Axis = Literal["budget", "cells", "tokens"]


@dataclass(frozen=True)
class ScalingRow:
    """One point: `samples` trained by all cells, evaluations included; `cost_ratio` is over the axis's first point."""

    axis: Axis
    value: int
    samples: int
    seconds: float
    samples_per_second: float
    cost_ratio: float
    repeats: int


def measure_scaling(
    seconds: float,
    device: torch.device,
    intervals: Sequence[int] = INTERVALS,
    counts: Sequence[int] | None = None,
    patches: Sequence[int] = PATCHES,
) -> Measured:
    """Seconds against the budget in intervals, cells at once (on a CPU up to a process a core), patches a tile's side.

    Budget and tokens with one cell and, on a CPU, one thread.
    """
    if counts is None:
        counts = [n for n in COUNTS if device.type == "cuda" or n <= available_cores()]
    spec = quick_spec()
    size = spec.protocol.interval
    budget = {count * size: (_train(count, 1, device), count * size) for count in intervals}
    tokens = {1 + (2 * side) ** 2: (_train(1, side, device), size) for side in patches}
    at_once = {count: (_all_cells(count, seconds, device), count * size) for count in counts}
    return Measured(
        reference="the first point of each axis",
        settings={"task": spec.task.id, "model": "vit", "protocol": "quick", "samples_between_evaluations": size},
        rows=(
            *_rows("budget", budget, seconds),
            *_rows("cells", at_once, seconds),
            *_rows("tokens", tokens, seconds),
        ),
    )


def _train(intervals: int, patches_per_tile: int, device: torch.device) -> Measure:
    """Seconds of some intervals of one cell, each with its evaluation."""
    trainer = single_trainer(quick_spec(**{"model.patches_per_tile": patches_per_tile}), device)

    def train() -> None:
        for _ in range(intervals):
            trainer.train_interval(0)
            trainer.evaluate()

    return timed(train, device, threads=1)


def _all_cells(count: int, seconds: float, device: torch.device) -> Measure:
    """Seconds of one interval of every cell."""
    _, cost = cells_at_once(count, seconds, device)
    samples = count * quick_spec().protocol.interval
    return lambda: cost() * samples


def _rows(axis: Axis, points: dict[int, tuple[Measure, int]], seconds: float) -> list[ScalingRow]:
    times = interleaved({value: measure for value, (measure, _) in points.items()}, seconds)
    first = median(next(iter(times.values())))
    return [
        ScalingRow(
            axis=axis,
            value=value,
            samples=points[value][1],
            seconds=median(found),
            samples_per_second=points[value][1] / median(found),
            cost_ratio=median(found) / first,
            repeats=len(found),
        )
        for value, found in times.items()
    ]
