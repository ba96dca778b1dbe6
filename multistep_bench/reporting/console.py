"""What the command line prints: the progress of a run, score tables, comparisons."""

from collections.abc import Iterator

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from multistep_bench.printable import ONE_LINE, printable
from multistep_bench.reporting.labels import measured, number, rate_label, run_labels, short_count, task_label
from multistep_bench.reporting.live import LiveTable, PlainLines
from multistep_bench.reporting.terminal import print_whole
from multistep_bench.scoring.cell_set import CellSetScore
from multistep_bench.scoring.compare import Comparison
from multistep_bench.scoring.names import overall_labels
from multistep_bench.scoring.run import RunScore
from multistep_bench.scoring.score import OverallScore, Score
from multistep_bench.scoring.set_comparison import SetComparison
from multistep_bench.scoring.statistics import Interval

PROBLEMS_SHOWN = 8
COLUMNS = (
    "Eureka-\nmoments",
    "probability\np",
    "speed\nS",
    "final\n{measured}",
    "given\nEureka",
    "median\ntime",
)
MEANINGS = {
    "Eureka-moment": "{measured} at the threshold, confirmed by the next evaluations",
    "p": "share of cells with a Eureka-moment within the budget",
    "S": "mean over cells of 1 − time/budget, 0 without a Eureka-moment",
    "final {measured}": "mean of the last five evaluations",
    "given Eureka": "final {measured} of the cells with a Eureka-moment",
    "median time": "samples by which half of the cells had their Eureka-moment",
    "grid": "all cells: every seed at every learning rate",
    "tuned": "each seed at the learning rate that is best on the other seeds",
    "low–high": "95 % interval",
    "Q": "mean over tasks and cells of ln(budget/time)/ln 64, at most 1",
}


def make_observer(console: Console) -> LiveTable | PlainLines:
    """A live table where the console can redraw itself, plain lines otherwise."""
    return LiveTable(console) if console.is_terminal and not console.is_dumb_terminal else PlainLines(console)


def print_score(console: Console, score: Score) -> None:
    """Prints what the columns mean, a table a run, and last Q of each model, just above the prompt."""
    meanings = Table.grid(padding=(0, 2, 0, 0))
    shown = measured(run.spec for run in score.runs)
    for name, meaning in MEANINGS.items():
        meanings.add_row(name.format(measured=shown), meaning.format(measured=shown), style="dim")
    console.print(meanings)
    for run, label in zip(score.runs, run_labels(score.runs), strict=True):
        console.print()
        print_whole(console, _title(run, label))
        console.print(_table(run))
        for line in _remarks(run):
            print_whole(console, line)
    console.print()
    for line in overall_lines(score):
        print_whole(console, line)


def _title(run: RunScore, label: str) -> Text:
    protocol = run.spec.protocol
    title = Text(f"{label} on {task_label(run.spec)}", style="bold")
    rates = len(protocol.learning_rates)
    cells = f"{protocol.seeds} seed{'s' * (protocol.seeds > 1)} × {rates} learning rate{'s' * (rates > 1)}"
    return title.append(f"\n{cells}, {protocol.budget:,} training samples each", style="not bold")


def _table(run: RunScore) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False)
    table.add_column("learning\nrate", justify="right", style="bold", no_wrap=True)
    for name in COLUMNS:
        table.add_column(name.format(measured=measured([run.spec])), justify="right", no_wrap=True)
    for rate, scores in zip(run.spec.protocol.learning_rates, run.by_rate, strict=True):
        table.add_row(rate_label(rate), *_row(scores))
    table.add_section()
    table.add_row("grid", *_row(run.grid))
    if run.tuned is not None:
        table.add_row("tuned", *_row(run.tuned))
    return table


def _row(scores: CellSetScore) -> list[Text]:
    return [
        Text(f"{scores.events}/{scores.n}"),
        _interval(scores.probability),
        _interval(scores.speed),
        _interval(scores.final_accuracy),
        Text(number(scores.final_accuracy_given_eureka)),
        Text("–" if scores.median is None else short_count(scores.median)),
    ]


def _interval(interval: Interval | None) -> Text:
    """The estimate over its interval."""
    if interval is None:
        return Text("–")
    return Text(number(interval.estimate)).append(f"\n{interval.low:.2f}–{interval.high:.2f}", style="dim")


def _remarks(run: RunScore) -> Iterator[Text]:
    """The levels, then what a reader should know before quoting a number."""
    levels, scoring = run.spec.task.levels, run.spec.task.scoring
    known = {"chance": levels.chance, "shortcut": levels.shortcut}
    known |= {"threshold": levels.threshold(scoring.threshold_fraction), "ceiling": levels.ceiling}
    yield Text("levels: " + ", ".join(f"{name} {number(level)}" for name, level in known.items()))
    for name, value in run.auxiliary.items():
        yield Text(f"{printable(name, ONE_LINE)}: final {measured([run.spec])} {number(value)}, not scored")
    if run.best_rate_at_edge and len(run.by_rate) > 1 and run.grid.events:
        best = rate_label(run.spec.protocol.learning_rates[run.best_rate])
        yield Text(
            f"the best learning rate, {best}, is at the edge of the learning-rate grid; a better one may lie outside",
            "yellow",
        )
    problems = list(run.problems.items())
    if problems:
        yield Text(
            f"{len(problems)} of {len(run.cells)} cells are missing or broken and count as having no Eureka-moment:",
            style="red",
        )
    for name, reason in problems[:PROBLEMS_SHOWN]:
        yield Text(f"  {name} {printable(reason, ONE_LINE)}", style="red")
    if len(problems) > PROBLEMS_SHOWN:
        yield Text(f"  and {len(problems) - PROBLEMS_SHOWN} more", style="red")


def overall_lines(score: Score, tasks: int = 1) -> Iterator[Text]:
    """Q of each model that has one, over at least so many tasks."""
    for entry, label in zip(score.overall, overall_labels(score), strict=True):
        if entry.grid is not None and len(entry.tasks) >= tasks:
            yield _overall(entry, label)


def _overall(entry: OverallScore, label: str) -> Text:
    """Q of a model, by its label, in one line."""
    tuned = "" if entry.tuned is None else f", tuned {_in_brackets(entry.tuned)}"
    count = len(entry.tasks)
    missing = f"; missing and counted 0: {', '.join(entry.missing_tasks)}" if entry.missing_tasks else ""
    assert entry.grid is not None
    text = f"Q over {count} task{'s' * (count > 1)}: grid {_in_brackets(entry.grid)}{tuned}{missing}"
    return Text(printable(f"{label} {entry.protocol}: ", ONE_LINE), style="bold").append(text, style="not bold")


def _in_brackets(interval: Interval) -> str:
    return f"{number(interval.estimate)} [{number(interval.low)}, {number(interval.high)}]"


def print_comparison(console: Console, comparison: Comparison) -> None:
    """Prints both models side by side, the tests, and a sentence to quote."""
    name_a, name_b = comparison.labels
    title = f"{name_a} (A) against {name_b} (B) on {task_label(comparison.a.spec)}"
    print_whole(console, Text(printable(title, ONE_LINE), style="bold"))
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False)
    table.add_column("")
    for name in ("grid", "tuned") if comparison.tuned else ("grid",):
        table.add_column(name, justify="right")
    for line in comparison_table(comparison):
        table.add_row(*line)
    console.print(table)
    console.print(Text("Brackets are 95 % intervals, of p by Newcombe's method.\n", style="dim"))
    for key, (ours, theirs) in comparison.recipe.items():
        print_whole(
            console, Text(printable(f"recipe differs: {key} {ours} against {theirs}", ONE_LINE), style="yellow")
        )
    print_whole(console, Text(printable(comparison.sentence(), ONE_LINE)))


def comparison_table(comparison: Comparison) -> list[tuple[str, ...]]:
    """A line a quantity: its name, its value over the grid and, where there are any, at tuned learning rates."""
    sets = [comparison.grid, *([comparison.tuned] if comparison.tuned else [])]
    shown = measured([comparison.a.spec])
    names = [name.format(measured=shown) for name in _COMPARED]
    return list(zip(names, *map(_compared, sets), strict=True))


_COMPARED = (
    "Eureka-moments of A",
    "Eureka-moments of B",
    "p of A − p of B",
    "  Boschloo's exact test",
    "S of A",
    "S of B",
    "S of A − S of B",
    "  permutation test",
    "  log-rank test",
    "P(cell of A is faster)",
    "final {measured} of A",
    "final {measured} of B",
    "final {measured} of A − of B",
    "  permutation test",
)


def _compared(scores: SetComparison) -> list[str]:
    return [
        f"{scores.events_a}/{scores.n_a}",
        f"{scores.events_b}/{scores.n_b}",
        _difference(scores.probability),
        _p_value(scores.boschloo),
        number(scores.speed_a),
        number(scores.speed_b),
        _difference(scores.speed),
        _p_value(scores.permutation),
        _p_value(scores.logrank),
        number(scores.improvement),
        number(scores.final_a),
        number(scores.final_b),
        _difference(scores.final),
        _p_value(scores.final_permutation),
    ]


def _difference(interval: Interval | None) -> str:
    return "–" if interval is None else f"{interval.estimate:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"


def _p_value(p: float | None) -> str:
    return "–" if p is None else "p < 0.0001" if p < 1e-4 else f"p = {p:.2g}"
