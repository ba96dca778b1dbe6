"""What a run, a score and a comparison say of themselves at a prompt: the first line says what, and how complete."""

from multistep_bench.desk.rows import broken_cells
from multistep_bench.printable import ONE_LINE, printable
from multistep_bench.reporting.labels import changes_label, counted, number, run_labels, short_count, task_label
from multistep_bench.runs.spec import RunSpec
from multistep_bench.runs.store import Run
from multistep_bench.scoring.cell_set import CellSetScore
from multistep_bench.scoring.compare import Comparison
from multistep_bench.scoring.run import RunScore
from multistep_bench.scoring.score import Score
from multistep_bench.scoring.statistics import Interval


def run_lines(run: Run) -> list[str]:
    """Model, task and cells; then where the run lies."""
    statuses = [record.status for record in run.records]
    counts = {"missing": len(run.missing)} | {name: statuses.count(name) for name in ("failed", "diverged")}
    broken = {name: count for name, count in counts.items() if count}
    head = f"Run of {_name(run.spec)} on {task_label(run.spec)}: {_cells(len(run.spec.cells()), broken)}"
    return [head, f"in {printable(str(run.path), ONE_LINE)}"]


def score_lines(score: Score) -> list[str]:
    """How many runs and cells; then a line a run with its measures over the grid."""
    total: dict[str, int] = {}
    for run in score.runs:
        for name, count in broken_cells(run).items():
            total[name] = total.get(name, 0) + count
    head = f"Score of {counted(len(score.runs), 'run')}: {_cells(sum(len(run.cells) for run in score.runs), total)}"
    labels = run_labels(score.runs)
    lines = [
        f"{label} on {task_label(run.spec)}: {_measures(run.grid)}{_broken(broken_cells(run))}"
        for run, label in zip(score.runs, labels, strict=True)
    ]
    return [head, *lines]


def comparison_lines(comparison: Comparison) -> list[str]:
    """Who is compared on what, and the cells of each side; then the sentence to quote."""
    a, b = comparison.a, comparison.b
    name_a, name_b = (printable(label, ONE_LINE) for label in comparison.labels)
    head = f"Comparison of A, {name_a}, and B, {name_b}, on {task_label(a.spec)}: {_side('A', a)}; {_side('B', b)}"
    return [head, printable(comparison.sentence(), ONE_LINE)]


def _side(name: str, run: RunScore) -> str:
    return f"{name} {_cells(len(run.cells), broken_cells(run))}"


def _name(spec: RunSpec) -> str:
    changes = changes_label(spec)
    return printable(spec.model.name, ONE_LINE) + (f" ({changes})" if changes else "")


def _cells(count: int, broken: dict[str, int]) -> str:
    return counted(count, "cell") + _broken(broken)


def _broken(broken: dict[str, int]) -> str:
    return f" ({', '.join(f'{count} {name}' for name, count in broken.items())})" if broken else ""


def _measures(scores: CellSetScore) -> str:
    parts = [
        f"Eureka {scores.events}/{scores.n}",
        f"p {_interval(scores.probability)}",
        f"S {_interval(scores.speed)}",
        f"A {_interval(scores.final_accuracy)}",
    ]
    if scores.median is not None:
        parts.append(f"median {short_count(scores.median)}")
    return ", ".join(parts)


def _interval(interval: Interval | None) -> str:
    return "–" if interval is None else f"{number(interval.estimate)} [{interval.low:.2f}, {interval.high:.2f}]"
