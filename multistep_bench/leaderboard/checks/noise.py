"""Curves that no training made: too smooth to be counts, or copied from another cell.

Both look at what a forger has to invent and training gives for free: noise. The evaluation items of a cell are the
same throughout, so the step from one count to the next is smaller than binomial: on 263 cells of linear models,
residual networks and transformers, trained on 11 tasks, the roughness below was never under 0.034. A smooth curve that
is rounded to whole counts has about 0.0015.
"""

from collections.abc import Iterable, Iterator

import numpy as np

from multistep_bench.leaderboard.checks.subject import Subject
from multistep_bench.runs.record import Record

LEAST_ROUGHNESS = 0.005
JUDGED_EVALUATIONS = 30  # fewer say nothing about noise
MOVING = 1e-3  # relative step of the loss below which a model stands still, as at the end of a cosine schedule
UNDECIDED = 0.05, 0.95  # accuracies between which items can still tip
WINDOW = 24  # evaluations in a row that two curves may not share
LIVELY = 8  # different values in a window, so that curves on a plateau may look alike
LOSS_UNIT = 1e-9
LARGEST = 2.0**60  # what a forger writes beyond it is found by other checks

_WEIGHTS = np.random.default_rng(0).integers(1, 2**63, WINDOW, dtype=np.uint64) | np.uint64(1)


def is_as_rough_as_counts(subject: Subject) -> Iterator[str]:
    """Counts are no smoother than training gives, and no two cells share a stretch of 24 evaluations."""
    for run in subject.entry.runs:
        for record in run.records:
            if record.status == "completed" and (problem := smoothness_problem(record)):
                yield f"{run.spec.task.id}: {record.cell.name}: {problem}"
    yield from (f"{first} and {second} share a curve" for first, second in shared_curves(fingerprints_of(subject)))


def fingerprints_of(subject: Subject) -> Iterator[tuple[str, np.ndarray]]:
    """Name and fingerprints of every cell of an entry."""
    for run in subject.entry.runs:
        for record in run.records:
            yield f"{run.spec.task.id}/{record.cell.name}", fingerprints(record)


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


def fingerprints(record: Record) -> np.ndarray:
    """[windows] uint64: a hash of every lively stretch of counts, and of losses, wherever in the curve it lies."""
    losses = np.nan_to_num(record.curve.loss / LOSS_UNIT, nan=-1.0)
    return np.unique(np.concatenate([_window_hashes(record.curve.correct), _window_hashes(losses)]))


def _window_hashes(values: np.ndarray) -> np.ndarray:
    if len(values) < WINDOW:
        return np.empty(0, np.uint64)
    whole = np.clip(np.round(values), -LARGEST, LARGEST).astype(np.int64)
    windows = np.lib.stride_tricks.sliding_window_view(whole, WINDOW)  # windows, WINDOW
    ordered = np.sort(windows, axis=1)
    different = 1 + np.count_nonzero(np.diff(ordered, axis=1), axis=1)
    return windows[different >= LIVELY].astype(np.uint64) @ _WEIGHTS  # modulo 2⁶⁴


def shared_curves(curves: Iterable[tuple[str, np.ndarray]]) -> Iterator[tuple[str, str]]:
    """Pairs of names whose curves have a stretch in common; each pair once. Names are of cells, curves fingerprints."""
    names: list[str] = []
    parts: list[np.ndarray] = []
    for name, hashes in curves:
        names.append(name)
        parts.append(hashes)
    if not parts:
        return
    hashes = np.concatenate(parts)
    owners = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    order = np.argsort(hashes, kind="stable")
    hashes, owners = hashes[order], owners[order]
    same = np.flatnonzero(hashes[1:] == hashes[:-1])
    pairs = {(int(owners[index]), int(owners[index + 1])) for index in same}
    yield from ((names[first], names[second]) for first, second in sorted(pairs))
