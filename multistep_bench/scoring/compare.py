"""Two models on one task: how much faster and how much likelier, with intervals and tests."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from multistep_bench.errors import RunError
from multistep_bench.protocol import Protocol
from multistep_bench.runs.store import Run
from multistep_bench.scoring import statistics
from multistep_bench.scoring.cell_set import CellScore, CellSetScore, speeds
from multistep_bench.scoring.run import RunScore, score_run
from multistep_bench.scoring.score import SCORER_VERSION, plain
from multistep_bench.scoring.statistics import (
    Interval,
    boschloo,
    difference_interval,
    logrank,
    newcombe,
    permutation_p,
    probability_of_improvement,
)

if TYPE_CHECKING:
    from pandas import DataFrame  # pyright: ignore[reportMissingImports]

COMPARISON_SCHEMA = "msb.comparison/1"


@dataclass(frozen=True)
class SetComparison:
    """Model A against model B on the same set of cells.

    events_a of n_a, events_b of n_b: cells with a Eureka-moment.
    probability:       p_A − p_B with Newcombe's interval.
    boschloo:          p-value of Boschloo's exact test that p_A = p_B. Over a grid the learning rates are
                       pooled, which makes both cautious. All three None for a control task.
    speed:             ΔS = S_A − S_B with an interval within learning rates.
    permutation:       p-value of ΔS, models permuted within learning rates.
    logrank:           p-value of the log-rank test of the times to the Eureka-moment, by learning rate.
    improvement:       probability that a run of A is faster than one of B, ties half.
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


@dataclass(frozen=True, repr=False)
class Comparison:
    """Model A against model B on one task under one protocol.

    grid:  over all cells. tuned: per seed the cell at the learning rate chosen on the other seeds, for
           each model on its own; None with one seed.
    """

    a: RunScore
    b: RunScore
    grid: SetComparison
    tuned: SetComparison | None

    def __repr__(self) -> str:
        from multistep_bench.desk.summary import comparison_lines

        return "\n".join(comparison_lines(self))

    def _repr_html_(self) -> str:
        from multistep_bench.desk.html import comparison_html

        return comparison_html(self)

    def to_frame(self) -> "DataFrame":
        """A pandas frame, see `desk.rows.comparison_rows`; raises `BenchError` where pandas is not installed."""
        from multistep_bench.desk.frames import frame
        from multistep_bench.desk.rows import comparison_rows

        return frame(comparison_rows(self))

    def sentence(self) -> str:
        """The comparison in words that can be quoted: n, differences with 95 % intervals, and tests."""
        spec = self.a.spec
        name_a, name_b = self.labels
        seeds, rates = spec.protocol.seeds, len(spec.protocol.learning_rates)
        where = f"n = {_count(seeds, 'seed')} × {_count(rates, 'learning rate')} on {spec.task.id} {spec.protocol_name}"
        speed = (
            f"its convergence speed is {self.grid.speed_a:.2f} against {self.grid.speed_b:.2f}"
            f" (ΔS = {_signed(self.grid.speed)}, permutation {_p(self.grid.permutation)},"
            f" log-rank {_p(self.grid.logrank)}, probability of improvement {self.grid.improvement:.2f})"
        )
        sets = [(self.grid, " over the whole grid")] if rates > 1 else [(self.grid, "")]
        if rates > 1 and self.tuned is not None:
            sets.insert(0, (self.tuned, " at tuned learning rates"))
        events = " and ".join(filter(None, (_events(compared, name_b, place) for compared, place in sets)))
        opening = f"{name_a} reaches its Eureka-moment {events}; " if events else f"{name_a} against {name_b}: "
        missing = len(self.a.missing), len(self.b.missing)
        note = f"; missing cells count as failures, {missing[0]} against {missing[1]}" if any(missing) else ""
        return f"{opening}{speed}; {where}{note}."

    @property
    def labels(self) -> tuple[str, str]:
        """The names of the two models, with what was changed in them where the names are equal."""
        specs = self.a.spec, self.b.spec
        names = tuple(spec.model.name for spec in specs)
        if names[0] != names[1]:
            return names[0], names[1]
        changed = [
            ", ".join(f"{key}={value}" for key, value in spec.changes.items() if key.startswith("model."))
            for spec in specs
        ]
        return f"{names[0]} ({changed[0] or 'run A'})", f"{names[1]} ({changed[1] or 'run B'})"

    def to_dict(self) -> dict[str, Any]:
        """Plain data of schema "msb.comparison/1"; differences are A − B, intervals [estimate, low, high]."""
        spec = self.a.spec
        return {
            "schema": COMPARISON_SCHEMA,
            "scorer": SCORER_VERSION,
            "intervals": statistics.SETTINGS,
            "task": {"id": spec.task.id, "sha256": spec.task.sha256()},
            "protocol": {"name": spec.protocol_name, **plain(spec.protocol)},
            "a": _side(self.a),
            "b": _side(self.b),
            "grid": plain(self.grid),
            "tuned": plain(self.tuned),
            "sentence": self.sentence(),
        }


def compare(run_a: str | Path | Run, run_b: str | Path | Run) -> Comparison:
    """Compares two runs that differ in their model alone.

    Raises `RunError` saying what else differs: the task, its card, or any key of the protocol.
    """
    a, b = score_run(run_a), score_run(run_b)
    differences = list(_differences(a, b))
    if differences:
        raise RunError(
            f"the two runs cannot be compared: {'; '.join(differences)};"
            " train both models on the same task under the same protocol"
        )
    protocol = a.spec.protocol
    return Comparison(
        a=a,
        b=b,
        grid=_compare_sets(a.cells_by_rate, b.cells_by_rate, a.grid, b.grid, protocol),
        tuned=_compare_sets([a.tuned_cells], [b.tuned_cells], a.tuned, b.tuned, protocol)
        if a.tuned and b.tuned
        else None,
    )


def _differences(a: RunScore, b: RunScore) -> Iterator[str]:
    ours, theirs = a.spec, b.spec
    if ours.task.id != theirs.task.id:
        yield f"task {ours.task.id} against {theirs.task.id}"
    elif ours.task.sha256() != theirs.task.sha256():
        yield f"cards of {ours.task.id} with hash {ours.task.sha256()[:12]} against {theirs.task.sha256()[:12]}"
    if ours.protocol_name != theirs.protocol_name:
        yield f"protocol {ours.protocol_name} against {theirs.protocol_name}"
    for key, value in ours.protocol:
        other = getattr(theirs.protocol, key)
        if value != other:
            yield f"{key} {value} against {other}"
    for key in sorted({*ours.changes, *theirs.changes}):
        if key.startswith("task.") and ours.changes.get(key) != theirs.changes.get(key):
            yield f"{key} {ours.changes.get(key, 'unchanged')} against {theirs.changes.get(key, 'unchanged')}"


def _compare_sets(
    cells_a: Sequence[Sequence[CellScore]],
    cells_b: Sequence[Sequence[CellScore]],
    a: CellSetScore,
    b: CellSetScore,
    protocol: Protocol,
) -> SetComparison:
    """Compares two cell sets; cells_a, cells_b: their cells by learning rate."""
    budget, step = protocol.budget, 1 / protocol.evaluations
    times_a, times_b = _times(cells_a), _times(cells_b)
    speed_a = [speeds(stratum, budget) for stratum in times_a]
    speed_b = [speeds(stratum, budget) for stratum in times_b]
    table = a.events, a.n, b.events, b.n
    control = a.probability is None
    return SetComparison(
        n_a=a.n,
        n_b=b.n,
        events_a=a.events,
        events_b=b.events,
        probability=None if control else newcombe(*table),
        boschloo=None if control else boschloo(*table),
        speed_a=a.speed.estimate,
        speed_b=b.speed.estimate,
        # Without any event the speeds do not vary, and ΔS is bounded as p_A − p_B is.
        speed=difference_interval(speed_a, speed_b, step) if a.events + b.events else newcombe(*table),
        permutation=permutation_p(speed_a, speed_b),
        logrank=logrank(_censored(times_a, budget), _censored(times_b, budget)),
        improvement=probability_of_improvement(speed_a, speed_b),
    )


def _times(cells: Sequence[Sequence[CellScore]]) -> list[list[float | None]]:
    return [[cell.curve.eureka for cell in stratum] for stratum in cells]


def _censored(times: Sequence[Sequence[float | None]], budget: int) -> list[np.ndarray]:
    return [np.array([budget if time is None else time for time in stratum]) for stratum in times]


def _side(run: RunScore) -> dict[str, Any]:
    return {
        "model": run.spec.model.name,
        "changes": run.spec.changes,
        "identity": run.spec.identity(),
        "expected": len(run.cells),
        "missing": list(run.missing),
    }


def _events(compared: SetComparison, name_b: str, place: str) -> str | None:
    if compared.probability is None or compared.boschloo is None:
        return None
    return (
        f"in {compared.events_a}/{compared.n_a} runs against {compared.events_b}/{compared.n_b} of {name_b}{place}"
        f" (difference {_signed(compared.probability)}, Boschloo {_p(compared.boschloo)})"
    )


def _signed(interval: Interval) -> str:
    return f"{interval.estimate:+.2f} [{interval.low:+.2f}, {interval.high:+.2f}]"


def _p(value: float) -> str:
    return "p < 0.0001" if value < 1e-4 else f"p = {value:.2g}"


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
