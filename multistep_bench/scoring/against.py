"""Many runs against a reference on each task: differences in p, S and A, with p-values corrected for their number."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from multistep_bench.errors import NotFound, RunError
from multistep_bench.scoring.comparable import check_comparable, comparable_key
from multistep_bench.scoring.compare import Comparison, compare_scores
from multistep_bench.scoring.holm import holm
from multistep_bench.scoring.names import labels_of_one_task, run_labels, task_label
from multistep_bench.scoring.run import RunScore
from multistep_bench.scoring.set_comparison import SetComparison
from multistep_bench.scoring.statistics import Interval

if TYPE_CHECKING:
    from pandas import DataFrame  # pyright: ignore[reportMissingImports]

COMPARISONS_SCHEMA = "msb.comparisons/1"
MEASURES = ("p", "S", "A")
SETS = ("tuned", "grid")


@dataclass(frozen=True)
class Effect:
    """A difference to the reference in one measure; p: of its test, corrected_p: by Holm over the runs of the task."""

    difference: Interval
    p: float
    corrected_p: float


@dataclass(frozen=True)
class Against:
    """A run against the reference of its task, which is B.

    effects: by "tuned" or "grid" and then "p", "S" or "A"; without p for a control task, without "tuned" where one of
             the two runs has one seed. Tests: Boschloo's of p, permutations of S and A.
    """

    label: str
    comparison: Comparison
    effects: dict[str, dict[str, Effect]]

    @property
    def best_set(self) -> str:
        """Tuned learning rates where there are any, else the grid."""
        return next(name for name in SETS if name in self.effects)


@dataclass(frozen=True)
class TaskComparisons:
    """The runs of one task, card and budget against one of them, in the order given; task as it is named in tables."""

    task: str
    reference: str
    against: tuple[Against, ...]


@dataclass(frozen=True, repr=False)
class Comparisons:
    """Runs against a reference, task by task.

    left_out: why runs or tasks were not compared, a sentence each.
    Each correction is over all runs of one task, apart for p, S and A and for tuned rates and the grid.
    """

    tasks: tuple[TaskComparisons, ...]
    left_out: tuple[str, ...] = ()

    def __repr__(self) -> str:
        from multistep_bench.desk.comparisons import comparisons_lines

        return "\n".join(comparisons_lines(self))

    def _repr_html_(self) -> str:
        from multistep_bench.desk.comparisons import comparisons_html

        return comparisons_html(self)

    def to_frame(self) -> "DataFrame":
        """A pandas frame, see `desk.comparisons.comparisons_rows`; raises `BenchError` without pandas."""
        from multistep_bench.desk.comparisons import comparisons_rows
        from multistep_bench.desk.frames import frame

        return frame(comparisons_rows(self))

    def to_csv(self) -> str:
        """CSV with a line of names."""
        from multistep_bench.desk.comparisons import comparisons_rows
        from multistep_bench.desk.tables import to_csv

        return to_csv(comparisons_rows(self))

    def to_markdown(self) -> str:
        """A Markdown table."""
        from multistep_bench.desk.comparisons import readable_comparisons
        from multistep_bench.desk.tables import markdown

        return markdown(readable_comparisons(self))

    def to_latex(self) -> str:
        """A LaTeX tabular for the package booktabs."""
        from multistep_bench.desk.comparisons import readable_comparisons
        from multistep_bench.desk.tables import latex

        return latex(readable_comparisons(self))

    def to_dict(self) -> dict[str, Any]:
        """Plain data of schema "msb.comparisons/1"; differences are run − reference."""
        tasks = [
            {
                "task": each.task,
                "reference": each.reference,
                "runs": [
                    {
                        "label": one.label,
                        "corrected": {
                            cells: {name: effect.corrected_p for name, effect in effects.items()}
                            for cells, effects in one.effects.items()
                        },
                        **one.comparison.to_dict(),
                    }
                    for one in each.against
                ],
            }
            for each in self.tasks
        ]
        return {"schema": COMPARISONS_SCHEMA, "tasks": tasks, "left_out": list(self.left_out)}


def compare_all(scores: Sequence[RunScore], reference: str | None = None) -> Comparisons:
    """Every run against the reference on its task, card and budget.

    reference: a label as `run_labels` gives it, or a model's name; by default the first run's, and on a task without
               one of that name the first run there.
    Raises `NotFound` where no run has the name, `RunError` where nothing can be compared.
    """
    labels = run_labels(scores)
    if reference is not None:
        known = dict.fromkeys([*(run.spec.model.name for run in scores), *labels])
        if reference not in known:
            raise NotFound("run to compare with", reference, known, f"one of {', '.join(known)}")
    groups: dict[str, list[int]] = {}
    for index, run in enumerate(scores):
        groups.setdefault(comparable_key(run.spec), []).append(index)
    made: list[TaskComparisons] = []
    left_out: list[str] = []
    for members in groups.values():
        runs = [scores[index] for index in members]
        first = _reference(runs, [labels[index] for index in members], reference or labels[0])
        place = _place(runs[0])
        if first is None and reference is not None:
            left_out.append(f"no run of '{reference}' on {place}, so nothing is compared there")
        elif len(runs) == 1:
            left_out.append(f"{labels[members[0]]} is the only run on {place}")
        else:
            made.append(_task(runs, first or 0))
    if not made:
        _refuse(scores, left_out)
    return Comparisons(tuple(made), tuple(left_out))


def _place(run: RunScore) -> str:
    return f"{task_label(run.spec)} (card {run.spec.task.sha256()[:8]}, budget {run.spec.protocol.budget:,})"


def _refuse(scores: Sequence[RunScore], left_out: Sequence[str]) -> None:
    """Raises why nothing could be compared."""
    if len(scores) == 1:
        raise RunError("one run cannot be compared with itself; give at least two runs of one task")
    if len(scores) == 2:
        check_comparable(scores[0].spec, scores[1].spec)
    raise RunError(f"no two runs can be compared: {'; '.join(left_out)}; give runs of one task, card and budget")


def _reference(runs: Sequence[RunScore], labels: Sequence[str], name: str) -> int | None:
    """The run of that label; else of that model, as its card says where one is; None where there is none."""
    if name in labels:
        return labels.index(name)
    of_model = [index for index, run in enumerate(runs) if run.spec.model.name == name]
    plain = [index for index in of_model if not any(key.startswith("model.") for key in runs[index].spec.changes)]
    return next(iter(plain or of_model), None)


def _task(runs: Sequence[RunScore], first: int) -> TaskComparisons:
    labels = labels_of_one_task(runs)
    others = [index for index in range(len(runs)) if index != first]
    compared = [compare_scores(runs[index], runs[first]) for index in others]
    effects = _effects(compared)
    against = [
        Against(labels[index], comparison, of_run)
        for index, comparison, of_run in zip(others, compared, effects, strict=True)
    ]
    return TaskComparisons(task_label(runs[first].spec), labels[first], tuple(against))


def _effects(compared: Sequence[Comparison]) -> list[dict[str, dict[str, Effect]]]:
    """The effects of each comparison, corrected over all of them."""
    made: list[dict[str, dict[str, Effect]]] = [{} for _ in compared]
    for cells in SETS:
        sets = [getattr(comparison, cells) for comparison in compared]
        for name in MEASURES:
            raw = {index: test for index, each in enumerate(sets) if each and (test := _test(each, name)) is not None}
            corrected = holm([p for _, p in raw.values()])
            for (index, (difference, p)), better in zip(raw.items(), corrected, strict=True):
                made[index].setdefault(cells, {})[name] = Effect(difference, p, better)
    return made


def _test(compared: SetComparison, name: str) -> tuple[Interval, float] | None:
    if name == "S":
        return compared.speed, compared.permutation
    if name == "A":
        return compared.final, compared.final_permutation
    if compared.probability is None or compared.boschloo is None:
        return None
    return compared.probability, compared.boschloo


def all_against(comparisons: Comparisons) -> Iterator[tuple[TaskComparisons, Against]]:
    """Every comparison with its task."""
    for task in comparisons.tasks:
        for each in task.against:
            yield task, each
