"""Trains cells of an entry again: the only proof that a model made them.

Randomly chosen cells on their own seeds, whose curves are compared; cells on fresh seeds, whose times are; and a
control run on shuffled answers. No code of an entry runs, for an entry holds none. The model is built by what is
installed here: a shipped builder, timm, or a module that the person who reproduces has read, installed and named with
`trusted`.
"""

import random
from collections.abc import Collection
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import torch

from multistep_bench import seeds
from multistep_bench.atomic import write_atomically
from multistep_bench.cards import load_task
from multistep_bench.errors import BenchError, RunError
from multistep_bench.generators.task import make_task
from multistep_bench.leaderboard.blind import train_blind
from multistep_bench.leaderboard.checks.recipe import STEP_LIMIT
from multistep_bench.leaderboard.control import control_run
from multistep_bench.leaderboard.entry import REPRODUCTIONS_FILE, Entry
from multistep_bench.leaderboard.fresh import draw_cells, fresh_test, sufficient
from multistep_bench.leaderboard.notes import FreshTest, Reproduction, RerunCell
from multistep_bench.leaderboard.reproductions import LEAST_POWER, Reproduced, counts, disagreements, needed
from multistep_bench.leaderboard.rerun import compared, fresh_cell
from multistep_bench.leaderboard.verify import verify
from multistep_bench.models import build as models
from multistep_bench.models.code import code_sha256
from multistep_bench.models.flops import flops_per_sample, training_flops_per_sample
from multistep_bench.runs.events import Environment, event_line
from multistep_bench.runs.spec import Cell, RunSpec
from multistep_bench.scoring.score import Score
from multistep_bench.training.losses import training_loss
from multistep_bench.training.randomness import own_randomness, seed_everything
from multistep_bench.trusted_code import import_paths


def reproduce(
    folder: Path,
    cells: int | None,
    by: str,
    *,
    fresh: int = 0,
    seed: int | None = None,
    trusted: Collection[str] = (),
    data_root: Path | None = None,
) -> Reproduced:
    """Trains cells of an entry again, on the CPU one after another, and appends the note to the entry.

    cells:   how many on their own seeds, by default as many as make a note count. fresh: how many on fresh seeds.
    by:      who vouches for the note. seed: of the choice of cells; by default nobody can foresee it.
    trusted: import paths that the entry's model may come from.
    Raises `BenchError` where the entry does not verify, its model is not installed here as it was, or a cell breaks.
    """
    verdict = verify(folder, data_root=data_root)
    entry, score = verdict.entry, verdict.score
    if not verdict.sound or entry is None or score is None:
        raise BenchError(f"{folder} does not verify, so nothing is run again: {'; '.join(verdict.problems[:5])}")
    for run in entry.runs:
        _check_model(run.spec, trusted, data_root)
    drawn = _choice(entry, cells, needed(score), seed)
    place, chosen = drawn[0]
    control = control_run(entry.runs[place].spec, chosen[0], data_root)
    rerun, environment = _rerun(entry, score, drawn, data_root)
    note = Reproduction(
        by=by,
        date=datetime.now(UTC).date().isoformat(),
        root=entry.root,
        versions=environment.versions,
        hardware=environment.hardware,
        cells=tuple(rerun),
        control=control,
        fresh=_fresh(entry, score, fresh, data_root) if fresh else None,
    )
    write_atomically(folder / REPRODUCTIONS_FILE, "".join(map(event_line, [*entry.reproductions, note])))
    return Reproduced(
        note, disagreements(note, score), counts(note, score), sufficient(score, needed(score), LEAST_POWER)
    )


def _rerun(
    entry: Entry, score: Score, drawn: list[tuple[int, list[Cell]]], data_root: Path | None
) -> tuple[list[RerunCell], Environment]:
    """How cells compare that were trained again on their own seeds, and where that was."""
    rerun: list[RerunCell] = []
    records = []
    for place, cells in drawn:
        run, scored = entry.runs[place], score.runs[place]
        submitted = {record.cell: record for record in run.records}
        theirs = {cell.cell: cell for cell in scored.cells}
        for cell in cells:
            records.append(train_blind(run.spec, cell, data_root))
            rerun.append(compared(run.spec, submitted[cell], theirs[cell], records[-1]))
    return rerun, records[0].environment


def _fresh(entry: Entry, score: Score, count: int, data_root: Path | None) -> FreshTest:
    drawn = draw_cells(score, count)
    made = [
        fresh_cell(run.spec, train_blind(run.spec, cell, data_root))
        for run in entry.runs
        for cell in drawn.get(run.spec.task.id, [])
    ]
    return fresh_test(score, made)


def _check_model(spec: RunSpec, trusted: Collection[str], data_root: Path | None) -> None:
    """Raises `BenchError` unless the model installed here is the one that was trained."""
    foreign = sorted(set(import_paths([spec.model.builder, spec.model.config])).difference(trusted))
    if foreign:
        raise BenchError(
            f"this entry's model would run {', '.join(foreign)} from what is installed here;"
            f" read that code, then add {' '.join(f'--trust {path}' for path in foreign)}"
        )
    card = spec.model.card()
    task = make_task(load_task(spec.task.id), data_root)
    with own_randomness(torch.device("cpu")):
        seed_everything(seeds.derive("plan"))
        module = models.build(card, task.info)
        other = dict(models.build(card, task.info).named_parameters())
    if code_sha256(module, models.builder(card.model)) != spec.model.code_sha256:
        raise BenchError(
            f"the code of model '{spec.model.name}' here is not that of the entry ({spec.model.code_sha256[:12]});"
            " install the version that its records name"
        )
    if all(torch.equal(tensor, other[name]) for name, tensor in module.named_parameters()):
        raise BenchError(f"model '{spec.model.name}' starts from the same weights on every seed; it cannot be an entry")
    batch = task.sample(2, split="eval", rng=seeds.generator(seeds.derive("plan")))
    models.check_contract(module, task.info, batch)
    if getattr(module, "uses_steps", False):
        raise BenchError(f"model '{spec.model.name}' is given the intermediate variables; it cannot be an entry")
    forward = flops_per_sample(module, batch.inputs)
    step = training_flops_per_sample(module, batch, partial(training_loss, label_smoothing=0.0))
    built = models.count_parameters(module), forward
    claimed = spec.model.parameters, spec.model.flops_per_sample
    if built != claimed:
        raise BenchError(
            f"model '{spec.model.name}' has (parameters, operations) {built} here, and the entry says {claimed}"
        )
    if forward and step and step > STEP_LIMIT * forward:
        raise BenchError(
            f"a training step of model '{spec.model.name}' takes {step / forward:.1f} times the operations of a forward"
            f" pass, and at most {STEP_LIMIT} are honest: it trains inside its own forward pass"
        )


def _choice(entry: Entry, count: int | None, default: int, seed: int | None) -> list[tuple[int, list[Cell]]]:
    """`count` cells drawn from all of the entry's, by place of the run; none whose program broke.

    default: where `count` is None, if the entry has as many.
    """
    source = random.SystemRandom() if seed is None else random.Random(seed)
    trained = [
        (index, record.cell)
        for index, run in enumerate(entry.runs)
        for record in run.records
        if record.status != "failed"
    ]
    count = min(default, len(trained)) if count is None else count
    if not 1 <= count <= len(trained):
        raise RunError(
            f"--cells {count}: the entry has {len(trained)} cells that were trained; give 1 to {len(trained)}"
        )
    drawn = sorted(source.sample(trained, count))
    places = sorted({place for place, _ in drawn})
    return [(index, [cell for place, cell in drawn if place == index]) for index in places]
