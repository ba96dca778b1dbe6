"""Curves that were copied from another cell, word for word or with a count nudged here and there.

Both look at what a forger has to invent and training gives for free: noise. A copy of a stretch is found wherever in
the curve it lies, by hashes. A copy that was nudged is found by the correlation of the noise around the smoothed
curves, of counts and of log losses: between two cells of one task with other seeds it is at most 0.53 and 0.54 in the
350,000 pairs of reference cells that are long enough to judge, with a standard deviation of 0.10. Two models in the
same cell see the same batches and the same items, so their noise is alike if they are: at most 0.95 and 0.996 in 10,000
pairs, and 0.991 and 0.9999 for a `vit` whose temperature is 3.9 in place of 4, which rests beside it. So their losses
say nothing, and their counts only where hardly any differs. A forger who redraws the noise is not found here: that
takes training.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from multistep_bench.leaderboard.checks.subject import Subject
from multistep_bench.leaderboard.entry import Entry
from multistep_bench.runs.record import Record

WINDOW = 24  # evaluations in a row that two curves may not share
LIVELY = 8  # different values in a window, so that curves on a plateau may look alike
LOSS_UNIT = 1e-9
LARGEST = 2.0**60  # what a forger writes beyond it is found by other checks

# Noise is what is left of a curve beside a cubic through 7 evaluations (Savitzky and Golay 1964): a smooth fall of the
# loss, which models have in common, leaves nothing.
SMOOTHING = np.array([-2, 3, 6, 7, 6, 3, -2]) / 21
SCALED = 21  # evaluations over which its size is measured
CLIPPED = 3.0  # in units of that size, so that a jump is no more than noise
NOISY = 80  # evaluations with noise, fewer say nothing about a pair
SHIFTS = (-1, 0, 1)  # evaluations by which a copy may be moved
OTHER_SEEDS = 0.75, 0.75  # correlation of the counts' noise, and of the losses', from which on one is a copy
SAME_SEEDS = 0.995, math.inf  # losses, which are as alike between honest models, are not judged
BLOCK = 2048  # curves compared at a time

_WEIGHTS = np.random.default_rng(0).integers(1, 2**63, WINDOW, dtype=np.uint64) | np.uint64(1)


@dataclass(frozen=True, eq=False)
class Trace:
    """What a cell is recognised by.

    hashes: [windows] uint64, of every lively stretch of counts and of losses.
    noise:  [2, E − 6] float32, of counts and of log losses, each of length 1, or 0 where there is too little.
    """

    owner: str  # the entry
    task: str
    cell: str
    hashes: np.ndarray
    noise: np.ndarray

    @property
    def place(self) -> str:
        return f"{self.task}/{self.cell}"


def shares_no_curve(subject: Subject) -> Iterator[str]:
    """No two cells share a stretch of 24 evaluations or the noise of their curves; nor do cells of two entries, or of
    an entry and a reference."""
    for first, second, how in copies(subject.traces):
        yield f"{subject.traces[first].place} {how} {subject.traces[second].place}"


def traces_of(entry: Entry) -> Iterator[Trace]:
    """Of every cell of an entry."""
    for run in entry.runs:
        for record in run.records:
            yield Trace(entry.name, run.spec.task.id, record.cell.name, fingerprints(record), noise(record))


def copies(traces: Sequence[Trace]) -> Iterator[tuple[int, int, str]]:
    """Pairs of places of curves that are copies, sorted, each once, and what the first does to the second."""
    found = dict.fromkeys(_shared_windows(traces), "shares a curve with")
    for pair in _shared_noise(traces):
        found.setdefault(pair, "is a nudged copy of")
    yield from ((*pair, found[pair]) for pair in sorted(found))


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


def _shared_windows(traces: Sequence[Trace]) -> Iterator[tuple[int, int]]:
    if not traces:
        return
    hashes = np.concatenate([trace.hashes for trace in traces])
    owners = np.repeat(np.arange(len(traces)), [len(trace.hashes) for trace in traces])
    order = np.argsort(hashes, kind="stable")
    hashes, owners = hashes[order], owners[order]
    same = np.flatnonzero(hashes[1:] == hashes[:-1])
    yield from {(int(owners[index]), int(owners[index + 1])) for index in same}


def noise(record: Record) -> np.ndarray:
    """[2, E − 6] float32: what `Trace` holds."""
    counts = record.curve.correct.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        losses = np.log(record.curve.loss)
    return np.stack([_noise(counts), _noise(losses)]).astype(np.float32)


def _noise(values: np.ndarray) -> np.ndarray:
    length = max(0, len(values) - len(SMOOTHING) + 1)
    if length < max(NOISY, SCALED) or not np.isfinite(values).all():
        return np.zeros(length)
    half = len(SMOOTHING) // 2
    rest = values[half:-half] - np.convolve(values, SMOOTHING, "valid")
    size = np.sqrt(np.convolve(rest**2, np.full(SCALED, 1 / SCALED), "same"))
    some = size > 1e-9 * max(1.0, np.abs(values).max())
    rest = np.where(some, np.clip(rest / np.where(some, size, 1), -CLIPPED, CLIPPED), 0)
    return rest / np.linalg.norm(rest) if np.count_nonzero(rest) >= NOISY else np.zeros(length)


def _shared_noise(traces: Sequence[Trace]) -> Iterator[tuple[int, int]]:
    groups: dict[tuple[str, int], list[int]] = defaultdict(list)
    for place, trace in enumerate(traces):
        if trace.noise.any():
            groups[trace.task, trace.noise.shape[1]].append(place)
    for members in groups.values():
        curves = np.stack([traces[place].noise for place in members], axis=1)  # 2, members, E − 6
        cells: dict[str, int] = {}
        names = np.array([cells.setdefault(traces[place].cell, len(cells)) for place in members])
        for first, second in _alike(curves, names):
            yield min(members[first], members[second]), max(members[first], members[second])


def _alike(curves: np.ndarray, cells: np.ndarray) -> Iterator[tuple[int, int]]:
    """Pairs of curves whose noise correlates beyond the limits; curves: [2, n, length], cells: [n], by number."""
    count = curves.shape[1]
    for kind, shift in ((kind, shift) for kind in range(2) for shift in SHIFTS):
        ours = curves[kind, :, max(0, shift) : curves.shape[2] + min(0, shift)]
        theirs = curves[kind, :, max(0, -shift) : curves.shape[2] + min(0, -shift)]
        for start in range(0, count, BLOCK):
            for other in range(start, count, BLOCK):
                close = ours[start : start + BLOCK] @ theirs[other : other + BLOCK].T
                near = np.argwhere(close >= min(OTHER_SEEDS[kind], SAME_SEEDS[kind]))
                for row, column in near:
                    first, second = start + int(row), other + int(column)
                    limit = (SAME_SEEDS if cells[first] == cells[second] else OTHER_SEEDS)[kind]
                    if first != second and close[row, column] >= limit:
                        yield first, second


def copied_from_others(mine: Sequence[Trace], others: Iterable[Trace]) -> Iterator[str]:
    """Curves that an entry shares with others."""
    traces = [*mine, *others]
    for first, second, how in copies(traces):
        if first < len(mine) <= second:
            yield f"{traces[first].place} {how} {traces[second].owner}: {traces[second].place}"
