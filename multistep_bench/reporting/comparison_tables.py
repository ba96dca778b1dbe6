"""What `compare` prints of many runs against a reference: a table a task and set of cells."""

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from multistep_bench.desk.comparisons import PLACES, correction, p_value
from multistep_bench.printable import ONE_LINE, printable
from multistep_bench.reporting.terminal import print_wide, width_of
from multistep_bench.scoring.against import MEASURES, Against, Comparisons, Effect, TaskComparisons

TESTS = "p by Boschloo's test, S and A by permutations; brackets are 95 % intervals"


def print_comparisons(console: Console, comparisons: Comparisons) -> None:
    """Prints the tables of each task, how p-values were corrected, and what was left out.

    In a terminal a number stands over its interval and its p-values, and the names stand above where they do not fit
    beside; text that goes into a file or a pipe has a line a run, however long.
    """
    whole = not console.is_terminal
    for task in comparisons.tasks:
        for cells, place in PLACES.items():
            members = [each for each in task.against if cells in each.effects]
            if members and (cells == "tuned" or len(members) < len(task.against) or _rates(task) > 1):
                title = printable(f"against {task.reference} on {task.task}, {place}", ONE_LINE)
                console.print(Text(title, style="bold"), soft_wrap=whole)
                _print_set(console, members, cells)
        for each in task.against:
            for key, (ours, theirs) in each.comparison.recipe.items():
                line = printable(f"{each.label}: recipe differs, {key} {ours} against {theirs}", ONE_LINE)
                console.print(Text(line, style="yellow"), soft_wrap=whole)
    for line in comparisons.left_out:
        console.print(Text(printable(f"left out: {line}", ONE_LINE), style="yellow"), soft_wrap=whole)
    console.print(Text(f"Δ = run − reference; {TESTS}; {correction(comparisons)}.", style="dim"), soft_wrap=whole)


def _print_set(console: Console, members: Sequence[Against], cells: str) -> None:
    table = _table(members, cells, beside=True, lines=console.is_terminal)
    if not console.is_terminal or width_of(console, table) <= console.width:
        print_wide(console, table)
        return
    for each in members:
        console.print(Text(each.label, style="bold"))
        print_wide(console, _table([each], cells, beside=False, lines=True))


def _table(members: Sequence[Against], cells: str, *, beside: bool, lines: bool) -> Table:
    """The effects of some runs; beside: their names in a column, lines: a number over its interval and p-values."""
    measure = members[0].comparison.a.spec.task.levels.measure
    names = {"p": "Δp", "S": "ΔS", "A": f"Δ final\n{measure}" if lines else f"Δ final {measure}"}
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False)
    if beside:
        table.add_column("model", no_wrap=True)
    for name in MEASURES:
        table.add_column(names[name], justify="right", no_wrap=True, min_width=14)
    for each in members:
        effects = [_effect(each.effects[cells].get(name), "\n" if lines else "  ") for name in MEASURES]
        table.add_row(*([Text(each.label)] if beside else []), *effects)
    return table


def _rates(task: TaskComparisons) -> int:
    """The longest grid of learning rates; with one, tuned and grid are the same."""
    specs = [run.spec for each in task.against for run in (each.comparison.a, each.comparison.b)]
    return max(len(spec.protocol.learning_rates) for spec in specs)


def _effect(effect: Effect | None, between: str) -> Text:
    """The difference, its interval, and its p-value raw and corrected."""
    if effect is None:
        return Text("–")
    low, high = effect.difference.low, effect.difference.high
    text = Text(f"{effect.difference.estimate:+.3f}").append(f"{between}[{low:+.2f}, {high:+.2f}]", style="dim")
    text.append(f"{between}p {p_value(effect.p)}")
    return text.append(f"{between}Holm {p_value(effect.corrected_p)}", style="bold")
