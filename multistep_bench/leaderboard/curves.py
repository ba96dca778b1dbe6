"""What must hold of every record: it is of its cell, on the protocol's grid, and no model could contradict it."""

import math
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from multistep_bench import registry
from multistep_bench.cards import list_tasks, load_task
from multistep_bench.leaderboard.roughness import smoothness_problem
from multistep_bench.runs.record import Metrics, Record, TaskReference
from multistep_bench.runs.spec import RunSpec

ITEMS_LIMIT = 10**9
LEAST_SCORED = 0.5  # of the items that a protocol draws; in some sequences nothing is scored
SECONDS_LIMIT = 10**8
LOSS_LIMIT = 10**6
LOSS_ROUNDING = 1e-3  # relative; losses are summed in single precision


def expected_header(spec: RunSpec) -> dict[str, Any]:
    """What the header of every record of a run repeats."""
    return {
        "spec_sha256": spec.sha256(),
        "task": TaskReference(id=spec.task.id, sha256=spec.task.sha256(), protocol=spec.protocol_name),
        "protocol": spec.protocol,
        "model": spec.model,
    }


def record_problems(record: Record, spec: RunSpec, expected: Mapping[str, Any]) -> Iterator[str]:
    """Every problem of one record of a run; expected: as `expected_header` gives it."""
    yield from _header_problems(record, spec, expected)
    yield from _grid_problems(record, spec)
    values = [*_value_problems(record), *_auxiliary_problems(record)]
    yield from values
    if record.outcome.status == "completed" and not values:
        smooth = smoothness_problem(record)
        if smooth:
            yield smooth


def _header_problems(record: Record, spec: RunSpec, expected: Mapping[str, Any]) -> Iterator[str]:
    header, cell = record.header, record.cell
    for name, wanted in expected.items():
        if getattr(header, name) != wanted:
            yield f"its header's {name} is not that of spec.json"
    if header.cell.learning_rate != spec.learning_rate(cell):
        yield f"its learning rate {header.cell.learning_rate} is not the grid's {spec.learning_rate(cell)}"
    if header.cell.seed != cell.seed(spec.task.id, "init"):
        yield "its seed is not the hash of its cell"
    if not LEAST_SCORED * spec.protocol.evaluation_items <= header.evaluation.items <= ITEMS_LIMIT:
        yield f"it counts {header.evaluation.items} items, the protocol draws {spec.protocol.evaluation_items}"
    if not all(isinstance(value, str | int) for value in header.hardware.values()):
        yield "its hardware holds more than text and whole numbers"


def _grid_problems(record: Record, spec: RunSpec) -> Iterator[str]:
    protocol, outcome, evaluations = spec.protocol, record.outcome, record.evaluations
    if [each.samples for each in evaluations] != [index * protocol.interval for index in range(len(evaluations))]:
        yield f"its evaluations are not one every {protocol.interval} samples from 0 on"
    if len(evaluations) > protocol.evaluations + 1:
        yield f"{len(evaluations)} evaluations, more than {protocol.evaluations + 1}"
    if outcome.status == "failed":
        return
    if not evaluations or evaluations[0].correct is None or evaluations[0].loss is None:
        yield "its evaluation before training is missing"
        return
    whole = len(evaluations) == protocol.evaluations + 1
    if outcome.status == "completed" and not whole:
        yield f"it says completed after {len(evaluations)} of {protocol.evaluations + 1} evaluations"
    if outcome.status == "completed" and outcome.reason is not None:
        yield "it says completed and gives a reason"
    if outcome.samples != evaluations[-1].samples or outcome.seconds != evaluations[-1].seconds:
        yield "its outcome's samples or seconds are not those of its last evaluation"


def _value_problems(record: Record) -> Iterator[str]:
    items, evaluations = record.header.evaluation.items, record.evaluations
    if any(each.correct is not None and each.correct > items for each in evaluations):
        yield f"it counts more than {items} right answers of {items}"
    if any((each.correct is None) != (each.loss is None) for each in evaluations):
        yield "an evaluation has a count without a loss, or a loss without a count"
    if evaluations and evaluations[0].train_loss is not None:
        yield "it has a training loss before training"
    lost = [
        index for index, each in enumerate(evaluations) if each.loss is None or (each.train_loss is None and index > 0)
    ]
    diverged = record.outcome.status == "diverged"
    if diverged and lost != [len(evaluations) - 1]:
        yield "it says diverged, and it is not its last evaluation, and no other, that is not finite"
    if not diverged and lost:
        yield f"evaluation {lost[0]} is missing or not finite, and the record does not say diverged"
    losses = [loss for each in evaluations for loss in (each.loss, each.train_loss) if loss is not None]
    if any(not 0 <= loss <= LOSS_LIMIT for loss in losses):
        yield f"a loss is negative or above {LOSS_LIMIT}"
    if answers_are_targets(record.header.task.id) and any(_below_the_least_loss(each, items) for each in evaluations):
        yield "a loss is smaller than its wrong answers allow, ln 2 for each"
    seconds = [each.seconds for each in evaluations]
    if seconds != sorted(seconds) or any(each > SECONDS_LIMIT for each in (*seconds, record.outcome.seconds)):
        yield "its seconds fall, or are beyond any training"
    if record.outcome.status == "completed" and len(seconds) > 1 and not seconds[-1] > seconds[0]:
        yield "its training took no time"


def _auxiliary_problems(record: Record) -> Iterator[str]:
    sets = record.header.auxiliary
    for each in record.evaluations:
        if set(each.auxiliary) != set(sets):
            yield f"the evaluation after {each.samples} samples has other auxiliary readings than its header names"
            return
        for name, reading in each.auxiliary.items():
            if (reading.correct is None) != (reading.loss is None) or (reading.correct or 0) > sets[name].items:
                yield f"the auxiliary reading {name[:40]!r} after {each.samples} samples is no count of its items"
                return


def _below_the_least_loss(reading: Metrics, items: int) -> bool:
    """A wrong answer has probability ½ at most for the right class, and so costs ln 2 nats at least."""
    if reading.correct is None or reading.loss is None:
        return False
    return reading.loss < (1 - reading.correct / items) * math.log(2) * (1 - LOSS_ROUNDING)


@lru_cache(maxsize=256)
def answers_are_targets(task_id: str) -> bool:
    """Whether a right answer of a shipped task is one whose likeliest class is the target."""
    if task_id not in list_tasks():
        return False
    from multistep_bench.generators.base import TaskGenerator

    factory = registry.generators.get(load_task(task_id).generator)
    return isinstance(factory, type) and issubclass(factory, TaskGenerator) and factory.correct is TaskGenerator.correct
