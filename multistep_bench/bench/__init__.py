"""Measures the suite itself on this machine, each figure beside a plain reference timed in the same run."""

import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass

import torch

from multistep_bench.bench.attention import measure_attention
from multistep_bench.bench.cells import measure_cells
from multistep_bench.bench.data import PerSampleTwoStep, bench_data, measure_data
from multistep_bench.bench.gym import measure_gym
from multistep_bench.bench.paper import measure_paper
from multistep_bench.bench.pool import measure_pool
from multistep_bench.bench.quick import measure_quick
from multistep_bench.bench.result import Measured, Result, print_result
from multistep_bench.bench.scaling import measure_scaling
from multistep_bench.bench.scores import measure_scores
from multistep_bench.errors import NotFound
from multistep_bench.runs.machine import hardware, versions
from multistep_bench.training.device import find_device
from multistep_bench.training.randomness import own_randomness

__all__ = ["BENCHMARKS", "Benchmark", "PerSampleTwoStep", "Result", "bench", "bench_data", "print_result"]


@dataclass(frozen=True)
class Benchmark:
    """A function of (seconds, device) that measures, and how long it takes.

    about_seconds: of processor time, measured once on a CPU with the default of 2 seconds a comparison. A rough guide:
    on an idle machine it takes about as long, where it starts several processes less.
    """

    measure: Callable[[float, torch.device], Measured]
    about_seconds: int

    @property
    def about(self) -> str:
        """What it measures: the docstring of its function."""
        return inspect.getdoc(self.measure) or ""


BENCHMARKS = {
    "data": Benchmark(measure_data, 10),
    "attention": Benchmark(measure_attention, 100),
    "quick": Benchmark(measure_quick, 10),
    "cells": Benchmark(measure_cells, 90),
    "paper": Benchmark(measure_paper, 80),
    "scaling": Benchmark(measure_scaling, 120),
    "scores": Benchmark(measure_scores, 100),
    "gym": Benchmark(measure_gym, 10),
    "pool": Benchmark(measure_pool, 120),  # at least 90, likewise
}


def bench(name: str, seconds: float = 2.0, device: str = "auto") -> Result:
    """One of `BENCHMARKS` on this machine.

    seconds: how long each comparison is repeated; every figure is a median of at least three rounds.
    device:  as in `run`. Raises `NotFound` for an unknown name, `RunError` for a device that is not here.
    """
    if name not in BENCHMARKS:
        raise NotFound("benchmark", name, BENCHMARKS, f"one of {', '.join(BENCHMARKS)}, all")
    place = find_device(device)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None  # Windows has none
    with own_randomness(place):
        measured = BENCHMARKS[name].measure(seconds, place)
    return Result(
        **vars(measured),
        benchmark=name,
        hardware=hardware(str(place)),
        versions=versions(),
        load=load,
    )
