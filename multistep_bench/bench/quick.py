"""The default run's cost: a cell of the quick protocol in the suite's trainer and in a bare PyTorch loop."""

from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import torch

from multistep_bench.bench.plain import PlainCell
from multistep_bench.bench.result import Measured
from multistep_bench.bench.timing import interleaved, speedup, timed
from multistep_bench.cards import DEFAULT_TASK
from multistep_bench.models.build import build, count_parameters
from multistep_bench.runs.spec import RunSpec
from multistep_bench.training.plan import plan, task_of
from multistep_bench.training.trainer import SingleTrainer

RATE = 1e-3
ONE_THREAD, DEFAULT_THREADS = "plain, 1 thread", "plain, default"


@dataclass(frozen=True)
class QuickRow:
    """One way to train a cell; samples a second of training and evaluation together.

    ratio: over plain PyTorch with torch's default threads; ratio_one_thread: over plain PyTorch with one.
    """

    program: str
    threads: int
    samples_per_second: float
    evaluation_share: float
    ratio: float
    ratio_range: tuple[float, float]
    ratio_one_thread: float
    ratio_one_thread_range: tuple[float, float]
    repeats: int


def quick_spec(cells: int = 1, **changes: Any) -> RunSpec:
    """The model "vit" on the default task under its quick protocol, with that many cells of one learning rate."""
    settings = {"protocol.learning_rates": [RATE], "protocol.seeds": cells}
    return plan(DEFAULT_TASK, "vit", "quick", {**settings, **changes})


def single_trainer(spec: RunSpec, device: torch.device) -> SingleTrainer:
    """The suite's trainer for the first cell of a specification."""
    task = task_of(spec)
    return SingleTrainer(spec, spec.cells()[:1], task, lambda: build(spec.model.card(), task.info), device)


def measure_quick(seconds: float, device: torch.device, spec: RunSpec | None = None) -> Measured:
    """Samples a second of one cell, an interval of training and an evaluation at a time, for three programs.

    The suite with one thread, as a worker runs it; the bare loop with one; the bare loop with torch's default.
    """
    spec = spec or quick_spec()
    trainer = single_trainer(spec, device)
    plain = PlainCell(spec, spec.cells()[0], task_of(spec), device)
    programs = {
        ("suite", 1): (partial(trainer.train_interval, 0), trainer.evaluate),
        (ONE_THREAD, 1): (plain.train_interval, plain.evaluate),
        (DEFAULT_THREADS, torch.get_num_threads()): (plain.train_interval, plain.evaluate),
    }
    measures = {}
    for (name, threads), (train, evaluate) in programs.items():
        measures[name, "train"] = timed(train, device, threads)
        measures[name, "evaluate"] = timed(evaluate, device, threads)
    times = interleaved(measures, seconds)
    rows = []
    default, one_thread = _both(times, DEFAULT_THREADS), _both(times, ONE_THREAD)
    for name, threads in programs:
        both = _both(times, name)
        ratio, ratio_range = speedup(both, default)
        ratio_one_thread, ratio_one_thread_range = speedup(both, one_thread)
        rows.append(
            QuickRow(
                program=name,
                threads=threads,
                samples_per_second=spec.protocol.interval / median(both),
                evaluation_share=median(times[name, "evaluate"]) / median(both),
                ratio=ratio,
                ratio_range=ratio_range,
                ratio_one_thread=ratio_one_thread,
                ratio_one_thread_range=ratio_one_thread_range,
                repeats=len(both),
            )
        )
    return Measured(
        reference="timm's VisionTransformer with the same first weights, batches and held-out items, torch.optim.AdamW",
        settings={
            "task": spec.task.id,
            "batch_size": spec.protocol.batch_size,
            "samples_between_evaluations": spec.protocol.interval,
            "evaluation_items": spec.protocol.evaluation_items,
            "parameters": count_parameters(plain.model),
        },
        rows=tuple(rows),
    )


def _both(times: dict[tuple[str, str], list[float]], name: str) -> list[float]:
    return [sum(pair) for pair in zip(times[name, "train"], times[name, "evaluate"], strict=True)]
