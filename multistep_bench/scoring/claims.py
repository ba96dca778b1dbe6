"""Claims about models, each with the rule that decides it, and what the stored runs say.

A claim declares what is said, of which model against which, on which tasks under which protocols, and by which rule it
is decided, so that no verdict is given by hand. The rules, on differences from the reference over all cells:

    faster:        holds where ΔS > 0, does not hold where ΔS < 0; both only if its 95 % interval excludes 0 and its
                   permutation test, corrected by Holm over all comparisons of the table, has p < `SIGNIFICANT`.
    likelier:      the same of Δp and Boschloo's test.
    more accurate: the same of ΔA, of tasks that measure an accuracy.
    no difference: holds where the interval lies within ±`margin`; does not hold where ΔS differs from 0 as above and
                   the interval reaches beyond the margin.
    no plateau:    of the model alone: holds where every cell jumps and the interval of its mean time, failures counted
                   at the budget, ends within `NO_PLATEAU` of the budget; does not hold where a cell does not jump or
                   that interval begins beyond.

Whatever is neither is undecided, and a claim without runs, or without one of two, is not tested. A run with missing
or failed cells does not count as one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from multistep_bench.cards import read_toml
from multistep_bench.errors import BenchError
from multistep_bench.runs.store import Run
from multistep_bench.scoring.compare import compare
from multistep_bench.scoring.gate import NO_PLATEAU
from multistep_bench.scoring.holm import holm
from multistep_bench.scoring.run import RunScore, score_run
from multistep_bench.scoring.set_comparison import SetComparison
from multistep_bench.scoring.statistics import Interval
from multistep_bench.strict import Strict, validated

SIGNIFICANT = 0.05

Rule = Literal["faster", "likelier", "more accurate", "no difference", "no plateau"]
Verdict = Literal["holds", "does not hold", "undecided", "not tested"]
Name = tuple[str, str, str]  # task, protocol, model
Tested = tuple[Interval, float]  # an effect and its p-value


class Claim(Strict):
    """One claim. reference: a model, for the rules that compare; margin: of ΔS, for "no difference"."""

    text: str
    tasks: list[str] = Field(min_length=1)
    protocols: list[str] = Field(min_length=1)
    model: str
    reference: str | None = None
    rule: Rule
    margin: float | None = Field(default=None, gt=0, lt=1)

    @model_validator(mode="after")
    def _complete(self) -> "Claim":
        if (self.reference is None) != (self.rule == "no plateau"):
            raise ValueError(f"rule '{self.rule}' of '{self.text}' needs a reference, and 'no plateau' takes none")
        if (self.margin is None) != (self.rule != "no difference"):
            raise ValueError(f"margin of '{self.text}' belongs to the rule 'no difference', which needs one")
        return self


class Claims(Strict):
    """The file of claims."""

    claims: list[Claim] = Field(min_length=1)


@dataclass(frozen=True)
class Finding:
    """What the runs say of a claim on one task under one protocol.

    effect: the difference that the rule is about, or the mean time as a share of the budget under "no plateau".
    p:      corrected, where two are compared.
    n, n_reference: cells. All None or 0 where the claim is not tested.
    """

    claim: Claim
    task: str
    protocol: str
    verdict: Verdict
    n: int = 0
    n_reference: int = 0
    effect: Interval | None = None
    p: float | None = None


def read_claims(path: Path) -> list[Claim]:
    """The claims of a TOML file; raises `CardError` with every problem."""
    return validated(Claims, read_toml(path), str(path)).claims


def names(claims: Sequence[Claim]) -> set[Name]:
    """Task, protocol and model of every run that the claims are about."""
    return {
        (task, protocol, model)
        for claim in claims
        for task in claim.tasks
        for protocol in claim.protocols
        for model in (claim.model, claim.reference)
        if model
    }


def findings(claims: Sequence[Claim], runs: Mapping[Name, Run]) -> list[Finding]:
    """A finding for each claim, task and protocol, in that order; runs: of the models as they ship."""
    places = [(claim, task, protocol) for claim in claims for task in claim.tasks for protocol in claim.protocols]
    wanted = names(claims)
    scores = {name: score for name in wanted & runs.keys() if _complete(score := score_run(runs[name]))}
    compared: dict[int, Tested] = {}
    sizes: dict[int, tuple[int, int]] = {}
    for index, (claim, task, protocol) in enumerate(places):
        pair = [(task, protocol, model) for model in (claim.model, claim.reference) if model]
        if len(pair) == 2 and all(name in scores for name in pair):
            a, b = (runs[name] for name in pair)
            grid = compare(a, b, same_recipe=True).grid
            compared[index], sizes[index] = _tested(claim, grid, a), (grid.n_a, grid.n_b)
    corrected = dict(zip(compared, holm([p for _, p in compared.values()]), strict=True))
    made: list[Finding] = []
    for index, (claim, task, protocol) in enumerate(places):
        score = scores.get((task, protocol, claim.model))
        if claim.rule == "no plateau" and score is not None:
            speed, n = score.grid.speed, score.grid.n
            time = Interval(1 - speed.estimate, 1 - speed.high, 1 - speed.low)
            made.append(Finding(claim, task, protocol, _at_once(score.grid.events, n, time), n, 0, time))
        elif index in compared:
            effect, p = compared[index][0], corrected[index]
            made.append(Finding(claim, task, protocol, decide(claim, effect, p), *sizes[index], effect, p))
        else:
            made.append(Finding(claim, task, protocol, "not tested"))
    return made


def _tested(claim: Claim, grid: SetComparison, run: Run) -> Tested:
    """The difference that a claim is about, and the p-value of its test."""
    levels = run.spec.task.levels
    if claim.rule == "likelier" and grid.probability is not None and grid.boschloo is not None:
        return grid.probability, grid.boschloo
    if claim.rule == "more accurate" and levels.measure == "accuracy":
        return grid.final, grid.final_permutation
    if claim.rule in ("faster", "no difference"):
        return grid.speed, grid.permutation
    measured = "has no Eureka-moments" if claim.rule == "likelier" else f"measures a {levels.measure}"
    raise BenchError(f"'{claim.text}' cannot be decided on {run.spec.task.id}, which {measured}; take another rule")


def decide(claim: Claim, effect: Interval, p: float) -> Verdict:
    """The verdict on a claim that compares, from the effect and its corrected p; see the head of this file."""
    differs = p < SIGNIFICANT and not effect.low <= 0 <= effect.high
    if claim.rule != "no difference":
        return ("holds" if effect.estimate > 0 else "does not hold") if differs else "undecided"
    assert claim.margin is not None
    if -claim.margin <= effect.low and effect.high <= claim.margin:
        return "holds"
    return "does not hold" if differs else "undecided"


def _at_once(events: int, n: int, time: Interval) -> Verdict:
    if events < n or time.low > NO_PLATEAU:
        return "does not hold"
    return "holds" if time.high <= NO_PLATEAU else "undecided"


def _complete(score: RunScore) -> bool:
    return all(cell.status not in ("missing", "failed") for cell in score.cells)
