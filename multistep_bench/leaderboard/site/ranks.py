"""How much of a rank is chance: which entries the uncertainty of their scores tells apart."""

from collections.abc import Sequence

import numpy as np

from multistep_bench.scoring.statistics import Interval

EXPLAINED = (
    "Behind a rank stands the span of ranks that chance leaves: one entry counts as above another where the"
    " 95 % interval of the difference of their Q, made from their two intervals (Zou and Donner 2008), lies above 0;"
    " pair by pair, not corrected for their number."
    " Entries whose spans overlap may well change places with other seeds."
)


def rank_spans(scores: Sequence[Interval]) -> list[tuple[int, int]]:
    """(best, worst) rank of each score: 1 + those that count as above it, and the number of scores less those below.

    scores: of entries on the same tasks, with their 95 % intervals. One counts as above another where the lower end of
    the difference, d − √((a − a_low)² + (b_high − b)²), exceeds 0 (Zou and Donner 2008, square-and-add as Newcombe's).
    """
    estimate, low, high = np.array([(each.estimate, each.low, each.high) for each in scores]).T
    down, up = (estimate - low) ** 2, (high - estimate) ** 2
    difference = estimate[:, None] - estimate[None, :]
    above = difference - np.sqrt(down[:, None] + up[None, :]) > 0  # [n, n] row above column
    return [
        (1 + int(better), len(scores) - int(worse)) for better, worse in zip(above.sum(0), above.sum(1), strict=True)
    ]
