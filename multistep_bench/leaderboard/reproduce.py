"""Trains randomly chosen cells of an entry again and compares the curves: the only proof that a model made them.

No code of an entry runs, for an entry holds none. The model is built by what is installed here: a shipped builder,
timm, or a module that the person who reproduces has read, installed and named with `trusted`.
"""

import math
import random
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from multistep_bench import seeds
from multistep_bench.atomic import write_atomically
from multistep_bench.cards import load_task
from multistep_bench.errors import BenchError, RunError
from multistep_bench.generators.task import make_task
from multistep_bench.leaderboard.entry import REPRODUCTIONS_FILE, Entry, Reproduction, RerunCell
from multistep_bench.leaderboard.verify import verify
from multistep_bench.models import build as models
from multistep_bench.models.code import code_sha256
from multistep_bench.models.flops import flops_per_sample
from multistep_bench.runs.events import Environment, event_line
from multistep_bench.runs.folder import RunFolder
from multistep_bench.runs.machine import versions
from multistep_bench.runs.record import Record
from multistep_bench.runs.spec import Cell, ModelSpec, RunSpec
from multistep_bench.runs.store import Run, read_run
from multistep_bench.scoring.cell_set import CellScore
from multistep_bench.scoring.run import score_run
from multistep_bench.training.group import Job, Message
from multistep_bench.training.randomness import own_randomness
from multistep_bench.training.workers import train_here

NOWHERE = Environment(engine="", versions={}, hardware={})
STACK_VERSIONS = ("multistep_bench", "torch")
STACK_HARDWARE = ("device", "machine", "processor", "threads")


def reproduce(
    folder: Path,
    cells: int,
    by: str,
    *,
    seed: int | None = None,
    trusted: Collection[str] = (),
    data_root: Path | None = None,
    watch: Callable[[Message], None] = lambda message: None,
) -> Reproduction:
    """Trains `cells` cells of an entry again, on the CPU one after another, and appends the note to the entry.

    by:      who vouches for the note. seed: of the choice of cells; by default nobody can foresee it.
    trusted: import paths that the entry's model may come from. watch: is told what happens.
    Raises `BenchError` where the entry does not verify, its model is not installed here as it was, or a cell breaks.
    """
    verdict = verify(folder, data_root=data_root)
    entry = verdict.entry
    if not verdict.sound or entry is None:
        raise BenchError(f"{folder} does not verify, so nothing is run again: {'; '.join(verdict.problems[:5])}")
    for run in entry.runs:
        _check_model(run.spec, trusted, data_root)
    rerun: list[RerunCell] = []
    environments: list[Environment] = []
    for run, chosen in _choice(entry, cells, seed):
        for record, compared in _rerun(run, chosen, data_root, watch):
            environments.append(record.environment)
            rerun.append(compared)
    note = Reproduction(
        by=by,
        date=datetime.now(UTC).date().isoformat(),
        root=entry.root,
        versions=environments[0].versions,
        hardware=environments[0].hardware,
        cells=tuple(rerun),
    )
    write_atomically(folder / REPRODUCTIONS_FILE, "".join(map(event_line, [*entry.reproductions, note])))
    return note


def import_paths(model: ModelSpec) -> set[str]:
    """What building a model would import from outside the suite: its builder, and what its options name."""

    def texts(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            yield from (text for inner in value.values() for text in texts(inner))
        elif isinstance(value, list):
            yield from (text for inner in value for text in texts(inner))
        elif isinstance(value, str):
            yield value

    return {text for text in texts([model.builder, model.config]) if ":" in text}


def _check_model(spec: RunSpec, trusted: Collection[str], data_root: Path | None) -> None:
    """Raises `BenchError` unless the model installed here is the one that was trained."""
    foreign = sorted(import_paths(spec.model).difference(trusted))
    if foreign:
        raise BenchError(
            f"this entry's model would run {', '.join(foreign)} from what is installed here;"
            f" read that code, then add {' '.join(f'--trust {path}' for path in foreign)}"
        )
    card = spec.model.card()
    task = make_task(load_task(spec.task.id), data_root)
    with own_randomness(torch.device("cpu")):
        module = models.build(card, task.info)
    if code_sha256(module, models.builder(card.model)) != spec.model.code_sha256:
        raise BenchError(
            f"the code of model '{spec.model.name}' here is not that of the entry ({spec.model.code_sha256[:12]});"
            " install the version that its records name"
        )
    batch = task.sample(2, split="eval", rng=seeds.generator(seeds.derive("plan")))
    models.check_contract(module, task.info, batch)
    if getattr(module, "uses_steps", False):
        raise BenchError(f"model '{spec.model.name}' is given the intermediate variables; it cannot be an entry")
    built = models.count_parameters(module), flops_per_sample(module, batch.inputs)
    claimed = spec.model.parameters, spec.model.flops_per_sample
    if built != claimed:
        raise BenchError(
            f"model '{spec.model.name}' has (parameters, operations) {built} here, and the entry says {claimed}"
        )


def _choice(entry: Entry, count: int, seed: int | None) -> list[tuple[Run, list[Cell]]]:
    """`count` cells drawn from all of the entry's, by run; cells whose program broke are not among them."""
    source = random.SystemRandom() if seed is None else random.Random(seed)
    trained = [
        (index, record.cell)
        for index, run in enumerate(entry.runs)
        for record in run.records
        if record.status != "failed"
    ]
    if not 1 <= count <= len(trained):
        raise RunError(
            f"--cells {count}: the entry has {len(trained)} cells that were trained; give 1 to {len(trained)}"
        )
    drawn = sorted(source.sample(trained, count))
    return [
        (run, chosen)
        for index, run in enumerate(entry.runs)
        if (chosen := [cell for place, cell in drawn if place == index])
    ]


def _rerun(
    run: Run, cells: Sequence[Cell], data_root: Path | None, watch: Callable[[Message], None]
) -> Iterator[tuple[Record, RerunCell]]:
    """The new records of cells and how they compare, trained in a folder that is removed afterwards."""
    root = str(data_root) if data_root else None
    with tempfile.TemporaryDirectory() as temporary, RunFolder(Path(temporary) / "run", run.spec) as held:
        job = Job(
            spec=run.spec,
            folder=held.path,
            device="cpu",
            data_root=root,
            checkpoint_seconds=math.inf,
            versions=versions(),
        )
        train_here(job, [(cell,) for cell in cells], watch)
        records = [record for record in read_run(held.path).records if record.cell in cells]
    broken = [f"{record.cell.name}: {record.reason}" for record in records if record.status == "failed"]
    if broken:
        raise BenchError(f"cells of {run.spec.task.id} broke here: {'; '.join(broken)}")
    theirs = {cell.cell: cell for cell in score_run(run).cells}
    ours = {cell.cell: cell for cell in score_run(Run(run.path, run.spec, records)).cells}
    submitted = {record.cell: record for record in run.records}
    for record in records:
        cell = record.cell
        yield record, _compared(run.spec.task.id, submitted[cell], record, theirs[cell], ours[cell])


def _compared(task: str, submitted: Record, record: Record, theirs: CellScore, ours: CellScore) -> RerunCell:
    return RerunCell(
        task=task,
        cell=record.cell.name,
        record_sha256=submitted.sha256,
        same_stack=_stack(submitted.environment) == _stack(record.environment),
        bit_equal=_without_seconds(submitted) == _without_seconds(record),
        eureka=(theirs.curve.eureka, ours.curve.eureka),
        final_accuracy=(theirs.curve.final_accuracy, ours.curve.final_accuracy),
    )


def _stack(environment: Environment) -> list[Any]:
    """What decides a curve to the last bit."""
    return [
        *(environment.versions.get(name) for name in STACK_VERSIONS),
        *(environment.hardware.get(name) for name in STACK_HARDWARE),
    ]


def _without_seconds(record: Record) -> str:
    """The record's curves as text, which is equal where every number is."""
    timeless = replace(record, seconds=np.zeros(len(record)), environment=NOWHERE, attempts=1)
    return timeless.line
