"""What must hold of every record: it is whole, on the protocol's schedule, and no model could contradict it."""

import math
from collections.abc import Callable, Iterator
from functools import lru_cache

import numpy as np

from multistep_bench.cards import list_tasks, load_task
from multistep_bench.generators import BUILTIN, RIGHT_BY_CLASS
from multistep_bench.leaderboard.checks.subject import Subject
from multistep_bench.runs.record import MISSING, Record
from multistep_bench.runs.spec import RunSpec

LEAST_SCORED = 0.5  # of the items that a protocol draws; in some sequences nothing is scored
ITEMS_LIMIT = 10**9
SECONDS_LIMIT = 10**8
LOSS_LIMIT = 10**5  # nats, on average over the items
LOSS_ROUNDING = 1e-3  # relative; losses are summed in single precision

RecordCheck = Callable[[Record, RunSpec], Iterator[str]]


def has_every_cell(subject: Subject) -> Iterator[str]:
    """Every cell that the protocol asks for is there."""
    for run in subject.entry.runs:
        yield from (f"{run.spec.task.id}: {cell.name} is missing" for cell in run.missing)


def follows_the_schedule(subject: Subject) -> Iterator[str]:
    """Every cell was evaluated before training and then on the protocol's schedule: up to the budget if it completed,
    up to its last finite loss if it diverged."""
    return _each(subject, _schedule_problems)


def counts_and_losses_are_possible(subject: Subject) -> Iterator[str]:
    """Counts are whole and within their items; losses are finite where the outcome says so, not negative, and no
    smaller than the wrong answers allow."""
    return _each(subject, _value_problems)


def takes_time(subject: Subject) -> Iterator[str]:
    """Wall-clock times rise."""
    return _each(subject, _time_problems)


def auxiliary_curves_are_possible(subject: Subject) -> Iterator[str]:
    """Auxiliary curves have a count where they have a loss."""
    return _each(subject, _auxiliary_problems)


def _each(subject: Subject, check: RecordCheck) -> Iterator[str]:
    for run in subject.entry.runs:
        for record in run.records:
            for problem in check(record, run.spec):
                yield f"{run.spec.task.id}: {record.cell.name}: {problem}"


def _schedule_problems(record: Record, spec: RunSpec) -> Iterator[str]:
    whole = spec.protocol.evaluations + 1
    if len(record) > whole:
        yield f"{len(record)} evaluations, more than {whole}"
    if record.status == "failed":
        return
    if not len(record) or record.curve.correct[0] == MISSING or np.isnan(record.curve.loss[0]):
        yield "its evaluation before training is missing"
        return
    if record.status == "completed" and len(record) != whole:
        yield f"it says completed after {len(record)} of {whole} evaluations"
    if record.status == "completed" and record.reason is not None:
        yield "it says completed and gives a reason"


def _value_problems(record: Record, spec: RunSpec) -> Iterator[str]:
    items, correct, loss = record.curve.set.items, record.curve.correct, record.curve.loss
    if not LEAST_SCORED * spec.protocol.evaluation_items <= items <= ITEMS_LIMIT:
        yield f"it counts {items} items, the protocol draws {spec.protocol.evaluation_items}"
    if ((correct == MISSING) != np.isnan(loss)).any():
        yield "an evaluation has a count without a loss, or a loss without a count"
    if len(record) and not np.isnan(record.train_loss[0]):
        yield "it has a training loss before training"
    lost = np.isnan(loss)
    lost[1:] |= np.isnan(record.train_loss[1:])
    places = np.flatnonzero(lost).tolist()
    diverged = record.status == "diverged"
    if diverged and places != [len(record) - 1]:
        yield "it says diverged, and it is not its last evaluation, and no other, that is not finite"
    if not diverged and places:
        yield f"evaluation {places[0]} is missing or not finite, and the record does not say diverged"
    losses = np.concatenate([loss, record.train_loss])
    losses = losses[~np.isnan(losses)]
    limit = math.inf if diverged else LOSS_LIMIT
    if ((losses < 0) | (losses > limit)).any():
        yield f"a loss is negative or above {LOSS_LIMIT}"
    if len(record) > 1 and not np.nan_to_num(record.train_loss[1:]).any() and record.status == "completed":
        yield "its training losses are all 0"
    if answers_are_targets(spec.task.id):
        # A wrong answer has probability ½ at most for the right class, and so costs ln 2 nats at least.
        least = (1 - correct / items) * math.log(2) * (1 - LOSS_ROUNDING)
        if (loss[correct != MISSING] < least[correct != MISSING]).any():
            yield "a loss is smaller than its wrong answers allow, ln 2 for each"


def _time_problems(record: Record, spec: RunSpec) -> Iterator[str]:
    seconds = record.seconds
    if (np.diff(seconds) < 0).any() or (seconds > SECONDS_LIMIT).any():
        yield "its seconds fall, or are beyond any training"
    if record.status == "completed" and len(seconds) > 1 and not seconds[-1] > seconds[0]:
        yield "its training took no time"


def _auxiliary_problems(record: Record, spec: RunSpec) -> Iterator[str]:
    for name, curve in record.auxiliary.items():
        if ((curve.correct == MISSING) != np.isnan(curve.loss)).any():
            yield f"its auxiliary curve {name[:40]!r} has a count without a loss, or a loss without a count"


@lru_cache(maxsize=256)
def answers_are_targets(task_id: str) -> bool:
    """Whether a right answer of a shipped task is one whose likeliest class is the target."""
    if task_id not in list_tasks():
        return False
    generator = load_task(task_id).generator
    return generator in BUILTIN and generator not in RIGHT_BY_CLASS
