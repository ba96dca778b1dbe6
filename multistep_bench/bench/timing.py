"""Times calls in turn, so that whatever else the machine does weighs on all of them alike."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from statistics import median
from typing import Any, TypeVar

import torch

LEAST_ROUNDS = 3
CPU = torch.device("cpu")

Measure = Callable[[], float]
"""Measures one thing once: its seconds."""
Name = TypeVar("Name")


@contextlib.contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """torch's intra-op threads inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def timed(call: Callable[[], object], device: torch.device = CPU, threads: int | None = None) -> Measure:
    """Seconds of one call, a GPU's work included, with that many threads of torch (by default as many as now)."""

    def measure() -> float:
        with torch_threads(threads or torch.get_num_threads()):
            _wait_for(device)
            begin = time.perf_counter()
            call()
            _wait_for(device)
            return time.perf_counter() - begin

    return measure


def interleaved(measures: Mapping[Name, Measure], seconds: float) -> dict[Name, list[float]]:
    """What each measure gives in every round: one round that does not count, then at least `LEAST_ROUNDS`.

    Rounds, each of them every measure once, go on until `seconds` have passed.
    """
    for measure in measures.values():
        measure()
    found: dict[Name, list[float]] = {name: [] for name in measures}
    rounds, begin = 0, time.perf_counter()
    while rounds < LEAST_ROUNDS or time.perf_counter() - begin < seconds:
        for name, measure in measures.items():
            found[name].append(measure())
        rounds += 1
    return found


def speedup(times: list[float], reference: list[float]) -> tuple[float, tuple[float, float]]:
    """How many times faster than the reference: the ratio of the medians, and the range over the rounds."""
    rounds = [theirs / ours for ours, theirs in zip(times, reference, strict=True)]
    return median(reference) / median(times), (min(rounds), max(rounds))


def peak_memory(call: Callable[[], object], device: torch.device) -> int:
    """Bytes that torch's allocator held at most during a call, above what it held before.

    On a GPU `torch.cuda.max_memory_allocated`; on a CPU the running sum of the allocations and releases that
    torch's profiler records, which counts what kernels use inside and not what the process takes from the system.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        call()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # or the profiler writes on standard error that there is no GPU
    with torch.autograd.profiler.profile(profile_memory=True) as profile:
        call()
    recorded: Any = profile  # torch's types know its events by half
    events = [event for event in recorded.kineto_results.events() if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
