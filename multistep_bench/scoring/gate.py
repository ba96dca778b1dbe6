"""Whether a task's plateau is one of attention: softmax against attention that is given, from their curves alone.

Time is counted as S does: a cell's time to its Eureka-moment, the whole budget where there is none, and the mean over
all cells as a share of the budget, 1 − S. The criteria were fixed before the first run was judged by them:

    no plateau:  every softmax cell jumps, on average within `NO_PLATEAU` of the budget.
    early:       every cell jumps, on average within `EARLY` of softmax's mean time; and the times differ from
                 softmax's by the log-rank test within learning rates, p < `SIGNIFICANT` after Holm's correction.
    attention:   softmax has a plateau, and the oracle and, where the family has one, fixed attention are early.
    not attention alone: softmax has a plateau, and the oracle or fixed attention does not jump everywhere, or later.
    undecided:   a cell is missing or failed; no cell of the oracle or softmax jumps; or what else is early is not
                 significantly so.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from multistep_bench.runs.store import Run
from multistep_bench.scoring.compare import compare
from multistep_bench.scoring.holm import holm
from multistep_bench.scoring.run import RunScore, score_run
from multistep_bench.scoring.statistics import Interval

GATE_SCHEMA = "msb.gate/1"
NO_PLATEAU = 0.1  # of the budget
EARLY = 0.25  # of softmax's mean time
SIGNIFICANT = 0.05

Role = Literal["oracle", "fixed", "softmax"]
Verdict = Literal["attention", "not attention alone", "no plateau", "undecided"]


@dataclass(frozen=True)
class GateRow:
    """One run of the gate. role: "oracle" is told where the answer stands, "fixed" has attention that is given.

    events of n cells jump; median: samples by which half have jumped, None where fewer do; mean_time: 1 − S, a share of
    the budget, failures counted at the budget, with its 95 % interval; p: of the log-rank test of the times against
    softmax, by learning rate, corrected by Holm; None for softmax.
    """

    role: Role
    model: str
    events: int
    n: int
    median: float | None
    mean_time: Interval
    p: float | None


@dataclass(frozen=True)
class Gate:
    """What the runs say about a task's plateau, see the head of this file. reason: one sentence with the numbers."""

    task: str
    protocol: str
    seeds: int
    learning_rates: tuple[float, ...]
    changes: dict[str, Any]
    rows: tuple[GateRow, ...]
    verdict: Verdict
    reason: str

    def sentence(self) -> str:
        """The verdict and its reason, as in "bottleneck: attention; …"."""
        names = {"no plateau": "no plateau", "undecided": "undecided"}
        return f"{names.get(self.verdict, f'bottleneck: {self.verdict}')}; {self.reason}."

    def to_dict(self) -> dict[str, Any]:
        """Plain data of schema "msb.gate/1"."""
        criteria = {"no_plateau": NO_PLATEAU, "early": EARLY, "significant": SIGNIFICANT}
        return {"schema": GATE_SCHEMA, "criteria": criteria, **asdict(self), "sentence": self.sentence()}


def judge(oracle: Run, softmax: Run, fixed: Run | None = None) -> Gate:
    """The gate of three runs, or two, that differ in their model alone; raises `RunError` where more differs."""
    given: dict[Role, Run] = {"oracle": oracle}
    if fixed is not None:
        given["fixed"] = fixed
    tests = {role: compare(run, softmax, same_recipe=True).grid.logrank for role, run in given.items()}
    corrected = dict(zip(tests, holm(list(tests.values())), strict=True))
    plain = score_run(softmax)
    scores: dict[Role, RunScore] = {**{role: score_run(run) for role, run in given.items()}, "softmax": plain}
    rows: dict[Role, GateRow] = {role: _row(role, score, corrected.get(role)) for role, score in scores.items()}
    verdict, reason = _unfinished(scores) or _judged(rows)
    spec = plain.spec
    return Gate(
        task=spec.task.id,
        protocol=spec.protocol_name,
        seeds=spec.protocol.seeds,
        learning_rates=tuple(spec.protocol.learning_rates),
        changes=dict(spec.changes),
        rows=tuple(rows.values()),
        verdict=verdict,
        reason=reason,
    )


def _row(role: Role, score: RunScore, p: float | None) -> GateRow:
    grid, speed = score.grid, score.grid.speed
    mean_time = Interval(1 - speed.estimate, 1 - speed.high, 1 - speed.low)
    return GateRow(role, score.spec.model.name, grid.events, grid.n, grid.median, mean_time, p)


def _unfinished(scores: dict[Role, RunScore]) -> tuple[Verdict, str] | None:
    for role, score in scores.items():
        lacking = [cell for cell in score.cells if cell.status in ("missing", "failed")]
        if lacking:
            return (
                "undecided",
                f"{len(lacking)} of {len(score.cells)} cells of the {role} run are missing or failed;"
                " the same command tries them again",
            )
    return None


def _judged(rows: dict[Role, GateRow]) -> tuple[Verdict, str]:
    softmax, oracle = rows["softmax"], rows["oracle"]
    if softmax.events == softmax.n and softmax.mean_time.estimate <= NO_PLATEAU:
        return "no plateau", f"{_told(softmax)}, and a plateau is more than {NO_PLATEAU:.2f}"
    if not softmax.events + oracle.events:
        return "undecided", f"no cell jumps, 0/{oracle.n} oracle and 0/{softmax.n} softmax; give a larger budget"
    roles: tuple[Role, ...] = ("oracle", "fixed")
    for role in roles:
        row = rows.get(role)
        if row is None:
            continue
        if row.events < row.n or row.mean_time.estimate > EARLY * softmax.mean_time.estimate:
            return "not attention alone", f"{_told(row)}, {_told(softmax)}, and early is within {EARLY:.2f} of softmax"
        if row.p is None or row.p >= SIGNIFICANT:
            return "undecided", f"{_told(row)}, {_told(softmax)}, and log-rank p = {row.p:.2g}; give more seeds"
    early = " and ".join(_told(rows[role]) for role in ("oracle", "fixed") if role in rows)
    largest = max(row.p for row in rows.values() if row.p is not None)
    return "attention", f"{early}, {_told(softmax)}, log-rank p ≤ {largest:.2g}"


def _told(row: GateRow) -> str:
    return f"{row.role} jumps in {row.events}/{row.n} cells at {row.mean_time.estimate:.2f} of the budget on average"
