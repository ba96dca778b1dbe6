"""The score of several runs as one table: a row a run, as wide as the terminal, and no number ever cut."""

from collections.abc import Iterator, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from multistep_bench.desk.summary import score_lines
from multistep_bench.desk.tables import readable
from multistep_bench.reporting.console import overall_lines
from multistep_bench.reporting.labels import run_labels, task_label
from multistep_bench.reporting.terminal import print_wide, width_of
from multistep_bench.scoring.score import Score

NOTE = "over all cells, brackets are 95 % intervals; --verbose shows every learning rate and explains the columns"


def print_score_table(console: Console, score: Score) -> None:
    """Prints how many runs and cells, a row a run, which runs have broken cells, and Q of models with several tasks.

    Where the rows do not fit into a terminal, the names stand above the numbers. Text that goes into a file or a pipe
    has a line a run, however long.
    """
    whole = not console.is_terminal
    lines = readable(score)
    names = 1 + (len({task_label(run.spec) for run in score.runs}) > 1)
    broken = any(run.problems for run in score.runs)
    console.print(Text(score_lines(score)[0], style="bold red" if broken else "bold"), soft_wrap=whole)
    table = _rows(lines, names)
    if whole or width_of(console, table) <= console.width:
        print_wide(console, table)
    else:
        for text, row in _stacked(lines, names):
            console.print(text)
            print_wide(console, row)
    for line in (Text(NOTE, style="dim"), *_remarks(score), *overall_lines(score, tasks=2)):
        console.print(line, soft_wrap=whole)


def _rows(lines: Sequence[Sequence[str]], names: int) -> Table:
    header, *body = lines
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False)
    for index, name in enumerate(header):
        table.add_column(name, justify="left" if index < names else "right", no_wrap=True)
    for line in body:
        table.add_row(*map(Text, line))
    return table


def _stacked(lines: Sequence[Sequence[str]], names: int) -> Iterator[tuple[Text, Table]]:
    """What stands above, and a row of numbers, each above its interval; first the headings."""
    cells = [[cell.replace(" [", "\n[").replace("final ", "final\n") for cell in line[names:]] for line in lines]
    widths = [max(len(part) for cell in column for part in cell.split("\n")) for column in zip(*cells, strict=True)]
    for index, (line, row) in enumerate(zip(lines, cells, strict=True)):
        grid = Table.grid(padding=(0, 2, 0, 0))
        for width in widths:
            grid.add_column(justify="right", width=width, no_wrap=True)
        grid.add_row(*map(Text, row))
        yield Text(" · ".join(line[:names]), style="bold" if index else "dim"), grid


def _remarks(score: Score) -> Iterator[Text]:
    for run, label in zip(score.runs, run_labels(score.runs), strict=True):
        if run.problems:
            count = f"{len(run.problems)} of {len(run.cells)}"
            yield Text(
                f"{label} on {task_label(run.spec)}: {count} cells are missing or broken and count as having no"
                " Eureka-moment",
                style="red",
            )
