"""What notes of re-runs prove: whether they agree with the entry, count, and are about this very entry."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from multistep_bench.cards import Levels
from multistep_bench.leaderboard.entry import Entry, Tier
from multistep_bench.leaderboard.fresh import FIRST_SEED, LEVEL, fresh_test, speaks_against, submitted_times
from multistep_bench.leaderboard.notes import ControlRun, FreshTest, Reproduction, RerunCell
from multistep_bench.leaderboard.rerun import start_of
from multistep_bench.scoring.eureka import CurveScore
from multistep_bench.scoring.score import Score

FINAL_TOLERANCE = 0.05  # of the final accuracy, where the machine differs; in nats where the curve is a loss
ROUNDING = 1e-9
# By which the start of a curve may differ on another stack: the accuracy before training, and as shares the loss before
# training and the first training loss. Kernels of another width or number of threads moved no count of the reference
# models, their losses by 1e-7 before training and by up to 2e-4 after the first interval.
START_TOLERANCE = {"accuracy": 0.01, "loss": 1e-3, "train_loss": 0.01}
OTHER_ITEMS_TOLERANCE = 0.1  # where another device draws other items and batches: the noise of a few hundred items
LEAST_CELLS, LEAST_SHARE = 3, 0.1  # of an entry's cells, so that a note counts
LEAST_POWER = 0.8  # of a test on fresh seeds, so that it counts
CONTROL_FRACTION = 0.25  # of the way from the shortcut to the ceiling, far above the noise of an evaluation
SIGMAS = 3.0  # of the spread that seeds have, by which times on another stack may differ
SPREAD = 0.05, 0.5, 0.7  # of ln T over seeds: at least, where the entry has too few events to say, at most


@dataclass(frozen=True)
class Reproduced:
    """A note as it was written into the entry.

    disagreements: what of it speaks against the entry. counts: whether it can lift the tier. fresh_needed: how many
    cells on fresh seeds that takes; None where no number would do, for the entry has too few Eureka-moments.
    """

    note: Reproduction
    disagreements: tuple[str, ...]
    counts: bool
    fresh_needed: int | None


def agrees(cell: RerunCell) -> bool:
    """Bit-equal on the same stack; elsewhere the same start, an event in both or in neither, and a like final accuracy.

    On another machine rounding alone may move a Eureka-moment, so its time is judged over the cells of a note.
    """
    if cell.same_stack:
        return cell.bit_equal
    theirs, ours = cell.eureka
    difference = abs(cell.final_accuracy[0] - cell.final_accuracy[1])
    return same_start(cell) and (theirs is None) == (ours is None) and difference <= FINAL_TOLERANCE


def same_start(cell: RerunCell) -> bool:
    """Whether two curves of a cell begin alike, as they do on every stack: weights and first batches are the same."""
    theirs, ours = cell.start
    for name, tolerance in START_TOLERANCE.items():
        submitted, here = getattr(theirs, name), getattr(ours, name)
        if submitted is None or here is None:
            if submitted != here:
                return False
            continue
        allowed = tolerance if cell.same_items else OTHER_ITEMS_TOLERANCE
        scale = 1.0 if name == "accuracy" else abs(submitted)
        if abs(submitted - here) > allowed * scale + ROUNDING:
            return False
    return True


def disagreements(note: Reproduction, score: Score) -> tuple[str, ...]:
    """What of a note speaks against the entry of that score, a sentence each."""
    found = [
        f"{cell.task} {cell.cell} {'has another curve' if same_start(cell) else 'starts otherwise'} here"
        for cell in note.cells
        if not agrees(cell)
    ]
    found += _time_problems(note.cells, spread(score))
    levels = next(run.spec.task.levels for run in score.runs if run.spec.task.id == note.control.task)
    if not stays_at_the_shortcut(note.control, levels):
        found.append(
            f"trained on shuffled answers the model reaches {note.control.best:.3f} on the real ones of"
            f" {note.control.task}, beyond {note.control.limit:.3f}: it knows what it was not taught"
        )
    if note.fresh is not None and speaks_against(note.fresh.rank, note.fresh.proportion):
        found.append(
            "cells on fresh seeds have their Eureka-moment later or less often than submitted"
            f" (p = {note.fresh.rank:.2g} by rank, {note.fresh.proportion:.2g} by proportion; less than {LEVEL / 2} in"
            " either speaks against it)"
        )
    return tuple(found)


def spread(score: Score) -> float:
    """The standard deviation of ln T over seeds, pooled over tasks and learning rates, within `SPREAD`."""
    logs = [np.log([time for time in times if time < 1]) for times in submitted_times(score).values()]
    freedom = sum(len(its) - 1 for its in logs if len(its))
    least, unknown, most = SPREAD
    if freedom < LEAST_CELLS:
        return unknown
    squares = sum(float(((its - its.mean()) ** 2).sum()) for its in logs if len(its))
    return min(most, max(least, math.sqrt(squares / freedom)))


def _time_problems(cells: Sequence[RerunCell], spread: float) -> Iterator[str]:
    """Times on another stack that differ by more than two seeds would, in a cell or, all one way, over the cells."""
    delays: list[float] = []
    for cell in cells:
        theirs, ours = cell.eureka
        if cell.same_stack or not theirs or not ours:
            continue
        delays.append(math.log(ours / theirs))
        if abs(delays[-1]) > SIGMAS * math.sqrt(2) * spread:
            yield f"{cell.task} {cell.cell} has its Eureka-moment at {ours:,.0f} here, submitted is {theirs:,.0f}"
    if len(delays) > 1 and abs(np.mean(delays)) > SIGMAS * math.sqrt(2 / len(delays)) * spread:
        factor = math.exp(float(np.mean(delays)))
        yield f"over {len(delays)} cells the Eureka-moments come {factor:.2f} times as late here, all in all"


def control_limit(levels: Levels) -> float:
    """What an honest model does not go beyond in a control run: a quarter of the way from shortcut to ceiling."""
    return levels.threshold(CONTROL_FRACTION)


def stays_at_the_shortcut(run: ControlRun, levels: Levels) -> bool:
    """Whether a control run shows no more than shuffled answers can teach."""
    limit = control_limit(levels)
    return run.best <= limit if levels.measure == "accuracy" else run.best >= limit


def needed(score: Score) -> int:
    """How many cells of an entry have to be trained again so that a note counts: 10 %, and three at least."""
    return max(LEAST_CELLS, math.ceil(LEAST_SHARE * sum(len(run.cells) for run in score.runs)))


def counts(note: Reproduction, score: Score) -> bool:
    """Whether a note is of enough cells, on fresh seeds, with the power to find an entry that shows too much."""
    fresh = note.fresh
    return fresh is not None and len(fresh.cells) >= needed(score) and fresh.power >= LEAST_POWER


def tier_of(notes: Sequence[Reproduction], score: Score) -> Tier:
    """The tier of a sound entry: reproduced if a note counts, and none speaks against it."""
    if any(disagreements(note, score) for note in notes):
        return "re-scored"
    return "reproduced" if any(counts(note, score) for note in notes) else "re-scored"


def reproduction_problems(note: Reproduction, entry: Entry, score: Score) -> Iterator[str]:
    """Why a note cannot be of this entry, whose score is `score`."""
    if note.root != entry.root:
        yield f"a reproduction of {note.date} is of another root; its curves are not the entry's"
        return
    scored = {(run.spec.task.id, cell.cell.name): cell for run in score.runs for cell in run.cells}
    starts = {(run.spec.task.id, each.cell.name): start_of(each) for run in entry.runs for each in run.records}
    seen = set()
    for cell in note.cells:
        where = f"the reproduction of {cell.task}/{cell.cell} of {note.date}"
        if (cell.task, cell.cell) in seen:
            yield f"{where} occurs twice"
        seen.add((cell.task, cell.cell))
        submitted = scored.get((cell.task, cell.cell))
        if submitted is None or submitted.record_sha256 != cell.record_sha256:
            yield f"{where} is of no record of the entry"
        elif cell.start[0] != starts[cell.task, cell.cell] or not _same_numbers(cell, submitted.curve):
            yield f"{where} states other numbers than the entry's curve has"
    if (note.control.task, note.control.cell) not in scored:
        yield f"the control run of {note.date} is of no cell of the entry"
    elif note.control.limit != next(
        control_limit(run.spec.task.levels) for run in score.runs if run.spec.task.id == note.control.task
    ):
        yield f"the control run of {note.date} states another limit than the task has"
    if note.fresh is not None:
        yield from _fresh_problems(note.fresh, note.date, score)


def _fresh_problems(fresh: FreshTest, date: str, score: Score) -> Iterator[str]:
    strata = submitted_times(score)
    if any((cell.task, cell.rate_index) not in strata for cell in fresh.cells):
        yield f"the fresh cells of {date} are of tasks or learning rates that the entry lacks"
        return
    seeds = [cell.seed_index for cell in fresh.cells]
    if min(seeds) < FIRST_SEED or len(set(seeds)) < len(seeds):
        yield f"the fresh cells of {date} have seeds below {FIRST_SEED}, or one twice"
    again = fresh_test(score, fresh.cells)
    for name in ("rank", "proportion", "power"):
        if abs(getattr(again, name) - getattr(fresh, name)) > ROUNDING:
            yield f"the fresh cells of {date} state another {name} than they have"


def _same_numbers(cell: RerunCell, submitted: CurveScore) -> bool:
    event, final = cell.eureka[0], cell.final_accuracy[0]
    if (event is None) != (submitted.eureka is None) or abs(final - submitted.final_accuracy) > ROUNDING:
        return False
    same = event is None or submitted.eureka is None or abs(event - submitted.eureka) <= ROUNDING * max(1.0, event)
    return same and (not cell.bit_equal or (cell.eureka[1] == event and cell.final_accuracy[1] == final))
