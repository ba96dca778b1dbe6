"""What a run will cost, before it is run: counted where it can be, measured on a handful of steps where not."""

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import chain, count, islice
from pathlib import Path
from typing import Any

import torch

from multistep_bench.diagnostics.options import DiagnosticOptions, parse_diagnostics
from multistep_bench.diagnostics.recorder import Recorder
from multistep_bench.models.build import build
from multistep_bench.runs.events import event_line
from multistep_bench.runs.machine import available_cores, peak_memory
from multistep_bench.runs.spec import RunSpec
from multistep_bench.training.data import EVALUATION_CHUNK, training_batches
from multistep_bench.training.device import find_device
from multistep_bench.training.diagnosed import check_diagnostics
from multistep_bench.training.launchers import check_numbers
from multistep_bench.training.plan import task_of
from multistep_bench.training.randomness import own_randomness
from multistep_bench.training.rehearsal import STEP_FLOPS, affordable
from multistep_bench.training.trainer import SingleTrainer

TIMED_SECONDS = 2.0
TIMED_RECORDINGS = 5
STATE_COPIES = 3  # a checkpoint holds the weights and AdamW's two moments


@dataclass(frozen=True)
class Estimate:
    """Costs of a run of `cells` cells.

    cell_seconds: of one cell. seconds: of the run, if `processes` processors are free.
    memory_bytes: peak, of all processes, None where the system does not tell, and on a CPU for batches so large that
    a part of one was timed.
    disk_bytes: records and checkpoints. training_flops: three forward passes a sample.
    diagnostics_share: seconds of recording diagnostics by the seconds of the same run without; None where none are
    recorded. `seconds` and `samples_per_second` include it.
    """

    cells: int
    steps_per_cell: int
    samples_per_cell: int
    evaluations_per_cell: int
    parameters: int
    training_flops: int | None
    device: str
    processes: int
    samples_per_second: float
    evaluation_share: float
    cell_seconds: float
    seconds: float
    memory_bytes: int | None
    disk_bytes: int
    diagnostics_share: float | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def estimate(
    spec: RunSpec,
    data_root: str | Path | None = None,
    *,
    device: str = "auto",
    workers: int | None = None,
    diagnostics: str | None = None,
    seconds: float = TIMED_SECONDS,
) -> Estimate:
    """Trains the first cell of a specification for so many seconds or a step, writes nothing, and extrapolates."""
    check_numbers(workers)
    place = find_device(device)
    wanted = None if diagnostics is None else parse_diagnostics(diagnostics)
    if wanted is not None:
        check_diagnostics(spec, wanted, data_root)
    cells, protocol = spec.cells(), spec.protocol
    processes = min(workers or available_cores(), len(cells)) if place.type == "cpu" else 1
    with own_randomness(place):
        threads = torch.get_num_threads()
        try:
            if place.type == "cpu":
                torch.set_num_threads(1)
            step, evaluation, recording, line_bytes = _timed(spec, data_root, place, wanted, seconds)
        finally:
            torch.set_num_threads(threads)
    cut = _timed_samples(spec, protocol.batch_size, place) < protocol.batch_size
    points = protocol.evaluations + 1
    plain = step * protocol.steps + evaluation * points
    recordings = sum(wanted.due(index, protocol.evaluations) for index in range(points)) if wanted else 0
    cell_seconds = plain + recordings * recording
    forward = spec.model.flops_per_sample
    return Estimate(
        cells=len(cells),
        steps_per_cell=protocol.steps,
        samples_per_cell=protocol.budget,
        evaluations_per_cell=points,
        parameters=spec.model.parameters,
        training_flops=None if forward is None else 3 * forward * protocol.budget * len(cells),
        device=str(place),
        processes=processes,
        samples_per_second=protocol.budget / cell_seconds,
        evaluation_share=evaluation * points / cell_seconds,
        cell_seconds=cell_seconds,
        seconds=math.ceil(len(cells) / processes) * cell_seconds,
        memory_bytes=None if cut or (peak := _peak_memory(place)) is None else peak * processes,
        disk_bytes=len(cells) * (points * line_bytes + STATE_COPIES * 4 * spec.model.parameters),
        diagnostics_share=recordings * recording / plain if wanted else None,
    )


def together(costs: Sequence[Estimate], workers: int | None = None) -> dict[str, Any]:
    """The whole of a sweep as one pool: the work shared among its processes, but no less than its longest cell."""
    cells = sum(each.cells for each in costs)
    processes = min(workers or available_cores(), cells) if all(each.device == "cpu" for each in costs) else 1
    work = sum(each.cells * each.cell_seconds for each in costs)
    return {
        "cells": cells,
        "processes": processes,
        "seconds": max(work / processes, max(each.cell_seconds for each in costs)),
    }


def _timed(
    spec: RunSpec,
    data_root: str | Path | None,
    device: torch.device,
    diagnostics: DiagnosticOptions | None,
    seconds: float,
) -> tuple[float, float, float, int]:
    """Seconds of one step, one evaluation and one recording, and the bytes of an evaluation's line."""
    task = task_of(spec, data_root)
    items = spec.protocol.evaluation_items
    timed = min(items, _timed_samples(spec, EVALUATION_CHUNK, device))
    few = spec.protocol.model_copy(update={"evaluation_items": timed})
    brief = spec.model_copy(update={"task": spec.task.model_copy(update={"protocols": {spec.protocol_name: few}})})
    trainer = SingleTrainer(brief, spec.cells()[:1], task, lambda: build(spec.model.card(), task.info), device)
    _, event = next(trainer.curve())  # the first evaluation and the first step pay for what is set up once
    begin = time.perf_counter()
    for name in (None, *trainer.auxiliary[0]):
        trainer.evaluate(name)
    evaluation = (time.perf_counter() - begin) * items / timed
    recording = 0.0
    if diagnostics is not None:
        recorder = Recorder(diagnostics, task, device)
        recorder.record(trainer.model)  # the first one pays for what is set up once
        begin = time.perf_counter()
        for _ in range(TIMED_RECORDINGS):
            recorder.record(trainer.model)
        recording = (time.perf_counter() - begin) / TIMED_RECORDINGS
    return _step_seconds(trainer, seconds), evaluation, recording, len(event_line(event))


def _timed_samples(spec: RunSpec, samples: int, device: torch.device) -> int:
    """As many of a batch as a CPU trains in a few seconds; of the paper's protocols that is a part of one."""
    return affordable(spec, samples, STEP_FLOPS) if device.type == "cpu" else samples


def _step_seconds(trainer: SingleTrainer, seconds: float) -> float:
    """Of one step, data included: the mean over as many as take half of the seconds, at least one."""
    protocol = trainer.spec.protocol
    size = _timed_samples(trainer.spec, protocol.batch_size, trainer.device)
    endless = chain.from_iterable(training_batches(trainer.task, protocol, trainer.rngs[0]) for _ in count())
    trainer.model.train()
    trainer.train_step(next(endless).split(2)[0]).item()
    steps = 1
    while True:
        begin = time.perf_counter()
        for batch in islice(endless, steps):
            loss = trainer.train_step(batch.split(size)[0])
        loss.item()  # waits for the device
        elapsed = time.perf_counter() - begin
        if elapsed >= seconds / 2:
            return elapsed / steps * protocol.batch_size / size
        steps *= 2


def _peak_memory(device: torch.device) -> int | None:
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else peak_memory()
