"""What `compare` prints of many runs against a reference: a table a task, as wide as the terminal."""

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from multistep_bench.desk.comparisons import PLACES, correction, p_value
from multistep_bench.printable import ONE_LINE, printable
from multistep_bench.scoring.against import MEASURES, Comparisons, Effect, TaskComparisons


def print_comparisons(console: Console, comparisons: Comparisons) -> None:
    """Prints a table a task, how p-values were corrected, and what was left out.

    In a terminal each number stands over its interval and its p-values; in a file or a pipe a line holds a run.
    """
    for task in comparisons.tasks:
        title = f"against {task.reference} on {task.task}"
        console.print(Text(printable(title, ONE_LINE), style="bold"))
        console.print(_table(task))
        for each in task.against:
            for key, (ours, theirs) in each.comparison.recipe.items():
                line = f"{each.label}: recipe differs, {key} {ours} against {theirs}"
                console.print(Text(printable(line, ONE_LINE), style="yellow"))
        if any(each.comparison.recipe for each in task.against):
            console.print()
    for line in comparisons.left_out:
        console.print(Text(printable(f"left out: {line}", ONE_LINE), style="yellow"))
    tests = "p by Boschloo's test, S and A by permutations; brackets are 95 % intervals"
    console.print(Text(f"Δ = run − reference; {tests}; {correction(comparisons)}.", style="dim"))


def _table(task: TaskComparisons) -> Table:
    measure = task.against[0].comparison.a.spec.task.levels.measure
    names = {"p": "Δp", "S": "ΔS", "A": f"Δ final {measure}"}
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False)
    table.add_column("model", overflow="fold", min_width=8)
    for name in MEASURES:
        table.add_column(names[name], justify="right", no_wrap=True)
    for cells, place in PLACES.items():
        members = [each for each in task.against if cells in each.effects]
        if members and (cells == "tuned" or len(members) < len(task.against) or _rates(task) > 1):
            table.add_row(Text(place, style="dim"))
            for each in members:
                table.add_row(Text(each.label), *(_effect(each.effects[cells].get(name)) for name in MEASURES))
            table.add_section()
    return table


def _rates(task: TaskComparisons) -> int:
    """The longest grid of learning rates; with one, tuned and grid are the same."""
    specs = [run.spec for each in task.against for run in (each.comparison.a, each.comparison.b)]
    return max(len(spec.protocol.learning_rates) for spec in specs)


def _effect(effect: Effect | None) -> Text:
    """The difference over its interval and its p-values."""
    if effect is None:
        return Text("–")
    low, high = effect.difference.low, effect.difference.high
    text = Text(f"{effect.difference.estimate:+.3f}").append(f"\n[{low:+.2f}, {high:+.2f}]", style="dim")
    return text.append(f"\np {p_value(effect.p)}").append(f"\nHolm {p_value(effect.corrected_p)}", style="bold")
