"""Cells on fresh seeds against the submitted ones: does the model do what the entry says on seeds it never saw?

Submitted and fresh cells are compared within strata of one task and one learning rate, one-sided, for an entry gains
only by showing too much. Two tests share the level: the Wilcoxon–Mann–Whitney test of the times to the Eureka-moment,
with failures at the budget, strata weighted as by van Elteren (Statistica Neerlandica 14, 1960); and the exact
stratified test of the share of cells that have one (Mantel–Haenszel, hypergeometric in each stratum).
"""

import math
import random
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.stats import hypergeom, norm, rankdata

from multistep_bench.leaderboard.notes import FreshCell, FreshTest
from multistep_bench.runs.spec import Cell
from multistep_bench.scoring.score import Score

LEVEL = 0.01  # of both tests together: the share of honest entries that a note speaks against
DELAY = 4.0  # of the Eureka-moments of the entry that `power` is about
PERMUTATIONS = 20_000
DRAWS = 500  # simulated notes that `power` is computed from
FIRST_SEED = 10**6  # fresh seed indices lie beyond those of every protocol
LAST_SEED = 2**31
MOST = 30  # fresh cells that `sufficient` thinks of

Stratum = tuple[str, int]  # task, rate index
Times = Mapping[Stratum, Sequence[float]]  # to the Eureka-moment as a share of the budget, 1 without one


def draw_cells(score: Score, count: int) -> dict[str, list[Cell]]:
    """`count` cells by task, spread evenly over tasks and rates, on seeds that nobody can foresee."""
    source = random.SystemRandom()
    strata = sorted(submitted_times(score))
    source.shuffle(strata)
    drawn: dict[str, list[Cell]] = {}
    for (task, rate), cells in _spread(strata, count).items():
        drawn.setdefault(task, []).extend(Cell(rate, source.randrange(FIRST_SEED, LAST_SEED)) for _ in range(cells))
    return drawn


def sufficient(score: Score, at_least: int, least_power: float) -> int | None:
    """The number of fresh cells, a multiple of three, whose tests have that power; None where `MOST` have not."""
    theirs = submitted_times(score)
    strata = sorted(theirs)
    numbers = range(3 * math.ceil(at_least / 3), MOST + 1, 3)
    return next((count for count in numbers if power(theirs, _spread(strata, count)) >= least_power), None)


def _spread(strata: Sequence[Stratum], count: int) -> dict[Stratum, int]:
    """How many of `count` cells each stratum gets, the first ones one more."""
    each, more = divmod(count, len(strata))
    return {stratum: each + (place < more) for place, stratum in enumerate(strata) if each or place < more}


def submitted_times(score: Score) -> dict[Stratum, list[float]]:
    """The times of the entry's cells."""
    times: dict[Stratum, list[float]] = {}
    for run in score.runs:
        for cell in run.cells:
            stratum = run.spec.task.id, cell.cell.rate_index
            times.setdefault(stratum, []).append(_share(cell.curve.eureka, run.spec.protocol.budget))
    return times


def fresh_test(score: Score, cells: Sequence[FreshCell]) -> FreshTest:
    """The tests of fresh cells of an entry with that score, whose strata they are all of."""
    budgets = {run.spec.task.id: run.spec.protocol.budget for run in score.runs}
    theirs = submitted_times(score)
    ours: dict[Stratum, list[float]] = {}
    for cell in cells:
        ours.setdefault((cell.task, cell.rate_index), []).append(_share(cell.eureka, budgets[cell.task]))
    counts = {stratum: len(times) for stratum, times in ours.items()}
    return FreshTest(
        cells=tuple(cells),
        rank=rank_test(theirs, ours),
        proportion=proportion_test(theirs, ours),
        power=power(theirs, counts),
    )


def speaks_against(rank: float, proportion: float) -> bool:
    """Whether fresh cells do worse than chance allows."""
    return min(rank, proportion) < LEVEL / 2


def rank_test(theirs: Times, ours: Times) -> float:
    """One-sided p-value that ours are no later than theirs, from `PERMUTATIONS` of the cells within each stratum."""
    rng = np.random.default_rng(0)
    shown, drawn = 0.0, np.zeros(PERMUTATIONS)
    for stratum, fresh in ours.items():
        values = np.array([*theirs[stratum], *fresh])
        total, count = len(values), len(fresh)
        ranks = rankdata(values) / (total + 1)
        shown += ranks[-count:].sum()
        chosen = rng.random((PERMUTATIONS, total)).argsort(axis=1)[:, :count]  # permutations, count
        drawn += ranks[chosen].sum(axis=1)
    return float((1 + np.count_nonzero(drawn >= shown - 1e-9)) / (1 + PERMUTATIONS))


def rank_approximation(theirs: Times, ours: Times) -> float:
    """What `rank_test` gives, by the normal approximation with ties: for `power`, which asks many times."""
    excess, variance = 0.0, 0.0
    for stratum, fresh in ours.items():
        values = np.array([*theirs[stratum], *fresh])
        total, count = len(values), len(fresh)
        ranks = rankdata(values) / (total + 1)
        excess += ranks[-count:].sum() - count / 2
        variance += count * (total - count) / (total - 1) * ranks.var()
    return float(norm.sf(excess / math.sqrt(variance))) if variance > 0 else 1.0


def proportion_test(theirs: Times, ours: Times) -> float:
    """One-sided p-value that ours have an event no less often than theirs, exact given the events of each stratum."""
    chances = np.ones(1)  # of 0, 1, … events among the fresh cells so far
    seen = 0
    for stratum, fresh in ours.items():
        values = [*theirs[stratum], *fresh]
        events = sum(value < 1 for value in values)
        seen += sum(value < 1 for value in fresh)
        its = hypergeom.pmf(np.arange(len(fresh) + 1), len(values), events, len(fresh))
        chances = np.convolve(chances, its)
    return float(min(1.0, chances[: seen + 1].sum()))


def power(theirs: Times, counts: Mapping[Stratum, int]) -> float:
    """How often the tests speak against cells drawn from the submitted ones with times `DELAY` times as long.

    counts: fresh cells a stratum. Computed from `DRAWS` draws, always the same ones.
    """
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(DRAWS):
        late = {
            stratum: np.minimum(1.0, DELAY * rng.choice(theirs[stratum], count)).tolist()
            for stratum, count in sorted(counts.items())
        }
        found += speaks_against(rank_approximation(theirs, late), proportion_test(theirs, late))
    return found / DRAWS


def _share(eureka: float | None, budget: int) -> float:
    return 1.0 if eureka is None else min(eureka / budget, 1.0)
