"""Two cell sets of one task: differences in p, S and A with intervals and tests."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from multistep_bench.protocol import Protocol
from multistep_bench.scoring.cell_set import CellScore, CellSetScore, binomial_error, speeds
from multistep_bench.scoring.permutation import permutation_p
from multistep_bench.scoring.run import RunScore
from multistep_bench.scoring.statistics import (
    Interval,
    Strata,
    boschloo,
    difference_interval,
    logrank,
    mean_interval,
    newcombe,
    probability_of_improvement,
    square_and_add,
)

ByRate = Sequence[Sequence[CellScore]]


@dataclass(frozen=True)
class SetComparison:
    """Model A against model B on the same task: each over its grid, or each at its tuned learning rates.

    events_a of n_a, events_b of n_b: cells with a Eureka-moment.
    probability:       p_A − p_B with Newcombe's interval.
    boschloo:          p-value of Boschloo's exact test that p_A = p_B. Over a grid the learning rates are
                       pooled, which makes both cautious. All three None for a control task.
    speed:             ΔS = S_A − S_B with an interval within learning rates.
    permutation:       p-value of ΔS, models permuted within learning rates.
    logrank:           p-value of the log-rank test of the times to the Eureka-moment, by learning rate.
    improvement:       probability that a run of A is faster than one of B, ties half.
    final_a, final_b:  mean final accuracy A over the cells, or mean final loss.
    final:             ΔA = A_A − A_B with an interval within learning rates, made as that of ΔS is; of a loss the
                       better model has the lower one.
    final_permutation: p-value of ΔA, models permuted within learning rates.

    Where the grids differ there is no "within learning rates": the tests take all cells of a grid together.
    """

    n_a: int
    n_b: int
    events_a: int
    events_b: int
    probability: Interval | None
    boschloo: float | None
    speed_a: float
    speed_b: float
    speed: Interval
    permutation: float
    logrank: float
    improvement: float
    final_a: float
    final_b: float
    final: Interval
    final_permutation: float


def compare_grids(a: RunScore, b: RunScore) -> SetComparison:
    """All cells of both runs, within learning rates where both have the same."""
    same = a.spec.protocol.learning_rates == b.spec.protocol.learning_rates
    return _compare_sets(a.cells_by_rate, b.cells_by_rate, a, b, (a.grid, b.grid), within_rates=same)


def compare_tuned(a: RunScore, b: RunScore) -> SetComparison | None:
    """Each run at the learning rates chosen on its other seeds; None where one has one seed."""
    if a.tuned is None or b.tuned is None:
        return None
    return _compare_sets([a.tuned_cells], [b.tuned_cells], a, b, (a.tuned, b.tuned), within_rates=True)


def _compare_sets(
    cells_a: ByRate,
    cells_b: ByRate,
    a: RunScore,
    b: RunScore,
    scores: tuple[CellSetScore, CellSetScore],
    *,
    within_rates: bool,
) -> SetComparison:
    """Compares two cell sets; cells_a, cells_b: their cells by learning rate."""
    ours, theirs = scores
    budget = a.spec.protocol.budget
    speed_a, speed_b = _speeds(cells_a, budget), _speeds(cells_b, budget)
    final_a, final_b = _finals(cells_a), _finals(cells_b)
    table = ours.events, ours.n, theirs.events, theirs.n
    control = ours.probability is None
    step = (_step(a.spec.protocol) + _step(b.spec.protocol)) / 2
    tested = (lambda strata: strata) if within_rates else _pooled
    return SetComparison(
        n_a=ours.n,
        n_b=theirs.n,
        events_a=ours.events,
        events_b=theirs.events,
        probability=None if control else newcombe(*table),
        boschloo=None if control else boschloo(*table),
        speed_a=ours.speed.estimate,
        speed_b=theirs.speed.estimate,
        # The speeds of a model without an event do not vary, yet its S is not known to be 0: see `event_interval`.
        speed=difference_interval(speed_a, speed_b, step)
        if ours.events and theirs.events
        else square_and_add(ours.speed, theirs.speed),
        permutation=permutation_p(tested(speed_a), tested(speed_b)),
        logrank=logrank(tested(_censored(cells_a, budget)), tested(_censored(cells_b, budget))),
        improvement=probability_of_improvement(tested(speed_a), tested(speed_b)),
        final_a=ours.final_accuracy.estimate,
        final_b=theirs.final_accuracy.estimate,
        final=_final_difference(final_a, final_b, _items(a), _items(b)),
        final_permutation=permutation_p(tested(final_a), tested(final_b)),
    )


def _final_difference(a: Strata, b: Strata, items_a: int | None, items_b: int | None) -> Interval:
    """ΔA; where no cell varies, it is known as well as Wilson's intervals bound one evaluation of either model."""
    highest = max(1.0, *(float(values.max()) for values in (*a, *b)))
    (below_a, above_a), (below_b, above_b) = binomial_error(a, items_a), binomial_error(b, items_b)
    weights = [1 / len(a)] * len(a) + [-1 / len(b)] * len(b)
    resolution = below_a + above_b, above_a + below_b
    return mean_interval([*a, *b], weights, bounds=(-highest, highest), resolution=resolution)


def _items(run: RunScore) -> int | None:
    return run.spec.protocol.evaluation_items if run.spec.task.levels.measure == "accuracy" else None


def _step(protocol: Protocol) -> float:
    return 1 / protocol.evaluations


def _pooled(strata: Strata) -> list[np.ndarray]:
    return [np.concatenate(strata)]


def _speeds(cells: ByRate, budget: int) -> list[np.ndarray]:
    return [speeds((cell.curve.eureka for cell in stratum), budget) for stratum in cells]


def _finals(cells: ByRate) -> list[np.ndarray]:
    return [np.array([cell.curve.final_accuracy for cell in stratum]) for stratum in cells]


def _censored(cells: ByRate, budget: int) -> list[np.ndarray]:
    times = [[cell.curve.eureka for cell in stratum] for stratum in cells]
    return [np.array([budget if time is None else time for time in stratum]) for stratum in times]
