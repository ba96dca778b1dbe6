"""Curves that no training made: too smooth to be counts.

A forger has to invent what training gives for free: noise. The evaluation items of a cell are the
same throughout, so the step from one count to the next is smaller than binomial: on 263 cells of linear models,
residual networks and transformers, trained on 11 tasks, the roughness below was never under 0.034. A smooth curve that
is rounded to whole counts has about 0.0015.
"""

from collections.abc import Iterator

import numpy as np

from multistep_bench.leaderboard.checks.subject import Subject
from multistep_bench.runs.record import Record

LEAST_ROUGHNESS = 0.005
JUDGED_EVALUATIONS = 30  # fewer say nothing about noise
MOVING = 1e-3  # relative step of the loss below which a model stands still, as at the end of a cosine schedule
UNDECIDED = 0.05, 0.95  # accuracies between which items can still tip


def is_as_rough_as_counts(subject: Subject) -> Iterator[str]:
    """Counts are no smoother than training gives."""
    for run in subject.entry.runs:
        for record in run.records:
            if record.status == "completed" and (problem := smoothness_problem(record)):
                yield f"{run.spec.task.id}: {record.cell.name}: {problem}"


def smoothness_problem(record: Record) -> str | None:
    """Says why the counts of a whole record are too smooth, None where they are not.

    Roughness is the mean square of the second difference over 6·N·p(1−p), its value for independent items; only
    evaluations count where the loss moves and the accuracy p is neither near 0 nor near 1.
    """
    items, losses = record.curve.set.items, record.curve.loss
    counts = record.curve.correct.astype(np.float64)
    bends = counts[2:] - 2 * counts[1:-1] + counts[:-2]
    accuracy = counts[1:-1] / items
    moving = np.abs(losses[2:] - losses[1:-1]) > MOVING * losses[1:-1]
    judged = moving & (accuracy > UNDECIDED[0]) & (accuracy < UNDECIDED[1])
    if judged.sum() < JUDGED_EVALUATIONS:
        return None
    expected = 6 * items * (accuracy * (1 - accuracy))[judged].mean()
    roughness = (bends[judged] ** 2).mean() / expected
    if roughness >= LEAST_ROUGHNESS:
        return None
    return f"its counts are too smooth for {items} items: roughness {roughness:.4f}, less than {LEAST_ROUGHNESS}"
