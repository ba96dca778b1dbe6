"""The board as numbers: which entries stand in which suite, ranked by Q, and what each row shows."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np
from markupsafe import Markup

from multistep_bench.leaderboard.entry import Entry, Tier, Track
from multistep_bench.leaderboard.notes import Reproduction
from multistep_bench.leaderboard.reproductions import disagreements
from multistep_bench.leaderboard.site import drawing
from multistep_bench.leaderboard.site.ranks import rank_spans
from multistep_bench.leaderboard.suites import Suite, size_class
from multistep_bench.leaderboard.verify import Verdict
from multistep_bench.reporting.labels import rate_label, seeds_needed
from multistep_bench.reporting.report import setups
from multistep_bench.runs.spec import RunSpec
from multistep_bench.runs.store import Run
from multistep_bench.scoring.cell_set import CellSetScore
from multistep_bench.scoring.run import RunScore
from multistep_bench.scoring.score import OverallScore, overall_score
from multistep_bench.scoring.statistics import ENTRY_SEEDS, RANK_SEEDS, Interval

SEED_MARKS = {
    "*": f"few seeds a learning rate; {seeds_needed(0)}",
    "†": f"few seeds a learning rate; {seeds_needed(ENTRY_SEEDS)}",
}
NOTHING = Interval(0.0, 0.0, 0.0)  # Q where no task counts
PASSES = 3  # of a training sample: forward, and backward at twice its cost


@dataclass(frozen=True)
class Standing:
    """An entry on one task: its score, and what is shown of its curves, which themselves are let go.

    samples, flops, seconds: median cost to the Eureka-moment of the cells at tuned learning rates, or of all where
    nothing is tuned; None where fewer than half have one. flops: three forward passes a sample.
    charts: by learning rate. setups: which versions on which hardware trained how many cells.
    """

    spec: RunSpec
    score: RunScore
    samples: float | None
    flops: float | None
    seconds: float | None
    sparkline: Markup
    charts: tuple[Markup, ...]
    setups: tuple[dict[str, Any], ...]

    @property
    def best(self) -> CellSetScore:
        """At tuned learning rates, or over the grid where there is one seed."""
        return self.score.tuned or self.score.grid


@dataclass(frozen=True)
class Candidate:
    """What was found of an entry, and how it stands on each of its tasks: on none if it is not sound."""

    verdict: Verdict
    standings: tuple[Standing, ...]

    def refused(self, *problems: str) -> "Candidate":
        """The same with further problems of its entry, if any."""
        return replace(self, verdict=self.verdict.refused(*problems))


@dataclass(frozen=True)
class Row:
    """An entry in a suite. rank: 1 is the best of its track; ranks: the best and the worst under other thresholds λ.

    span:  the best and the worst rank that the uncertainty of Q leaves it, see `ranks.rank_spans`.
    place: in the table, where the fixed track stands before the open one.
    notes: of re-runs, each with what speaks against the entry.
    """

    entry: Entry
    tier: Tier
    overall: OverallScore
    standings: dict[str, Standing]
    parameters: int
    seeds: int
    notes: tuple[tuple[Reproduction, tuple[str, ...]], ...] = ()
    rank: int = 0
    ranks: tuple[int, int] = (0, 0)
    span: tuple[int, int] = (0, 0)
    place: int = 0

    @property
    def size(self) -> str:
        return size_class(self.parameters)

    @property
    def seeds_mark(self) -> str:
        """What stands behind the number of seeds where it is small: a key of `SEED_MARKS`, or nothing."""
        if self.seeds < ENTRY_SEEDS:
            return "*"
        return "†" if self.seeds < RANK_SEEDS else ""

    @property
    def rank_label(self) -> str:
        """Its rank, with the track where that is not the fixed one."""
        return str(self.rank) if self.entry.track == "fixed" else f"{self.entry.track} {self.rank}"

    @property
    def q(self) -> float:
        return self.overall.grid.estimate if self.overall.grid else 0.0


@dataclass(frozen=True)
class Table:
    """A suite with its rows: those of the fixed track, best first, then those of the open one."""

    suite: Suite
    rows: tuple[Row, ...]


def candidate(verdict: Verdict) -> Candidate:
    """What the board needs of an entry; a thousand of them fit into memory, their evaluations would not."""
    if verdict.entry is None:
        return Candidate(verdict, ())
    without_curves = replace(verdict, entry=replace(verdict.entry, runs=()))
    if verdict.score is None:
        return Candidate(without_curves, ())
    pairs = zip(verdict.entry.runs, verdict.score.runs, strict=True)
    return Candidate(without_curves, tuple(_standing(run, score) for run, score in pairs))


def tables(suites: Sequence[Suite], candidates: Sequence[Candidate]) -> list[Table]:
    """The table of each suite from sound entries; an entry stands in every suite that it has a run for."""
    return [Table(suite, _ranked([row for each in candidates if (row := _row(each, suite))])) for suite in suites]


def _row(candidate: Candidate, suite: Suite) -> Row | None:
    verdict = candidate.verdict
    standings = {
        standing.spec.task.id: standing
        for standing in candidate.standings
        if standing.spec.protocol_name == suite.protocol and standing.spec.task.id in suite.tasks
    }
    if not verdict.sound or verdict.entry is None or verdict.score is None or not standings:
        return None
    return Row(
        entry=verdict.entry,
        tier=verdict.tier,
        overall=overall_score([standing.score for standing in standings.values()], suite.tasks),
        standings=standings,
        parameters=max(standing.spec.model.parameters for standing in standings.values()),
        seeds=min(standing.spec.protocol.seeds for standing in standings.values()),
        notes=tuple((note, disagreements(note, verdict.score)) for note in verdict.entry.reproductions),
    )


def _standing(run: Run, score: RunScore) -> Standing:
    cells = score.tuned_cells if score.tuned else score.cells
    samples = (score.tuned or score.grid).median
    each = run.spec.model.flops_per_sample
    rates = map(rate_label, run.spec.protocol.learning_rates)
    return Standing(
        spec=run.spec,
        score=score,
        samples=samples,
        flops=None if samples is None or each is None else PASSES * each * samples,
        seconds=_median([cell.eureka_seconds for cell in cells]),
        sparkline=drawing.sparkline(run, cells),
        charts=tuple(
            drawing.chart(run, its, f"Curves of {run.spec.task.id}, learning rate {rate}")
            for rate, its in zip(rates, score.cells_by_rate, strict=True)
        ),
        setups=tuple(setups(run)),
    )


def _median(values: Sequence[float | None]) -> float | None:
    """The first value by which half have had the event, as the median of a Kaplan–Meier curve; None if fewer have."""
    ordered = sorted(value for value in values if value is not None)
    needed = (len(values) + 1) // 2
    return ordered[needed - 1] if len(ordered) >= needed else None


def _ranked(rows: Sequence[Row]) -> tuple[Row, ...]:
    """The rows of each track, ranked apart: an open recipe, such as one good learning rate, outranks no fixed one."""
    ranked = [
        row for track in get_args(Track) for row in _ranked_alike([row for row in rows if row.entry.track == track])
    ]
    return tuple(replace(row, place=place) for place, row in enumerate(ranked, start=1))


def _ranked_alike(rows: Sequence[Row]) -> list[Row]:
    """Rows of one track by Q over the grid, then at tuned rates; equal ones by name."""

    def order(row: Row) -> tuple[float, float, str]:
        tuned = row.overall.tuned.estimate if row.overall.tuned else 0.0
        return -row.q, -tuned, row.entry.name

    if not rows:
        return []
    ranks = _ranks([row.q for row in rows])
    others = np.array([ranks, *(map(_ranks, zip(*(row.overall.robustness for row in rows), strict=True)))])
    spans = rank_spans([row.overall.grid or NOTHING for row in rows])
    ranked = [
        replace(row, rank=rank, ranks=(int(its.min()), int(its.max())), span=span)
        for row, rank, its, span in zip(rows, ranks, others.T, spans, strict=True)
    ]
    return sorted(ranked, key=order)


def _ranks(scores: Sequence[float]) -> list[int]:
    """1 for the highest; equal scores share a rank."""
    ordered = sorted(scores, reverse=True)
    return [1 + ordered.index(score) for score in scores]
