"""Whether a model knows a task before it is trained, which no untrained one does."""

import math

from multistep_bench.runs.events import Evaluation
from multistep_bench.runs.spec import RunSpec

ERRORS = 6.0  # standard errors
# Untrained networks tell classes apart and give each an answer at random, so their answers are not independent: 256
# items of two_step_digits-v1 came up to 5.3 binomial errors above chance (958 reference cells), 3.4 at this number.
INDEPENDENT = 100  # answers of an untrained model that count as independent, at most


def knows_too_much(spec: RunSpec, first: Evaluation, items: int) -> str | None:
    """Why the evaluation before training cannot be that of an untrained model, or None where it can.

    items: scored targets of the evaluation. The standard error of an accuracy at chance c is √(c(1 − c)/n), with n the
    samples of an evaluation, at most `INDEPENDENT`; that of a loss is c/√n over all samples, from a deviation as large
    as chance itself, which losses of an untrained model do not have.
    """
    chance = spec.task.levels.chance
    number = min(items, spec.protocol.evaluation_items)
    if first.loss is None or first.correct is None:
        return None
    if spec.task.levels.measure == "accuracy":
        value, error = first.correct / items, math.sqrt(chance * (1 - chance) / min(number, INDEPENDENT))
        gain = value - chance
    else:
        value, error = first.loss, chance / math.sqrt(number)
        gain = chance - value
    if gain <= ERRORS * error:
        return None
    return (
        f"before training its {spec.task.levels.measure} is {value:.4g}, more than {ERRORS:.0f} standard errors better"
        f" than chance, {chance:.4g}: pretrained weights are not allowed; start from random ones"
    )
