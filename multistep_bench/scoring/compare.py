"""Two models on one task: how much faster and how much likelier, with intervals and tests."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multistep_bench.runs.spec import RunSpec
from multistep_bench.runs.store import Run
from multistep_bench.scoring import statistics
from multistep_bench.scoring.comparable import check_comparable, recipe_differences
from multistep_bench.scoring.names import labels_of_one_task
from multistep_bench.scoring.run import RunScore, score_run
from multistep_bench.scoring.score import SCORER_VERSION, plain
from multistep_bench.scoring.set_comparison import SetComparison, compare_grids, compare_tuned
from multistep_bench.scoring.statistics import Interval

if TYPE_CHECKING:
    from pandas import DataFrame  # pyright: ignore[reportMissingImports]

COMPARISON_SCHEMA = "msb.comparison/1"


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
        rates = max(len(run.spec.protocol.learning_rates) for run in (self.a, self.b))
        sizes = dict.fromkeys(_size(run.spec) for run in (self.a, self.b))
        where = f"n = {' against '.join(sizes)} on {spec.task.id} {spec.protocol_name}"
        speed = (
            f"its convergence speed is {self.grid.speed_a:.2f} against {self.grid.speed_b:.2f}"
            f" (ΔS = {_signed(self.grid.speed)}, permutation {_p(self.grid.permutation)},"
            f" log-rank {_p(self.grid.logrank)}, probability of improvement {self.grid.improvement:.2f}),"
            f" its final {spec.task.levels.measure} {self.grid.final_a:.2f} against {self.grid.final_b:.2f}"
            f" (Δ = {_signed(self.grid.final)}, permutation {_p(self.grid.final_permutation)})"
        )
        sets = [(self.grid, " over the whole grid")] if rates > 1 else [(self.grid, "")]
        if rates > 1 and self.tuned is not None:
            sets.insert(0, (self.tuned, " at tuned learning rates"))
        events = " and ".join(filter(None, (_events(compared, name_b, place) for compared, place in sets)))
        opening = f"{name_a} reaches its Eureka-moment {events}; " if events else f"{name_a} against {name_b}: "
        missing = len(self.a.missing), len(self.b.missing)
        note = f"; missing cells count as failures, {missing[0]} against {missing[1]}" if any(missing) else ""
        recipe = f"; the recipe differs: {', '.join(self.recipe)}" if self.recipe else ""
        return f"{opening}{speed}; {where}{recipe}{note}."

    @property
    def labels(self) -> tuple[str, str]:
        """The names of the two models, with what was changed in them where the names are equal."""
        name_a, name_b = labels_of_one_task([self.a, self.b])
        return name_a, name_b

    @property
    def recipe(self) -> dict[str, tuple[object, object]]:
        """What differs in training besides the model, by key: the value of A and of B."""
        return recipe_differences(self.a.spec, self.b.spec)

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
            "recipe": {key: plain(list(values)) for key, values in self.recipe.items()},
            "grid": plain(self.grid),
            "tuned": plain(self.tuned),
            "sentence": self.sentence(),
        }


def compare(run_a: str | Path | Run, run_b: str | Path | Run, *, same_recipe: bool = False) -> Comparison:
    """Compares two runs on the same task, card and budget.

    Other differences in the protocol are allowed and said. same_recipe: they are refused, so that the runs differ in
    their model alone.
    Raises `RunError` saying what else differs: the task, its card, the budget, or any key of the protocol.
    """
    return compare_scores(score_run(run_a), score_run(run_b), same_recipe=same_recipe)


def compare_scores(a: RunScore, b: RunScore, *, same_recipe: bool = False) -> Comparison:
    """`compare` of runs that are scored already."""
    check_comparable(a.spec, b.spec, same_recipe=same_recipe)
    return Comparison(a=a, b=b, grid=compare_grids(a, b), tuned=compare_tuned(a, b))


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


def _size(spec: RunSpec) -> str:
    protocol = spec.protocol
    return f"{_count(protocol.seeds, 'seed')} × {_count(len(protocol.learning_rates), 'learning rate')}"


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
