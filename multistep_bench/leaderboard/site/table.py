"""The table in the board's README: the same rows as the page's, between two markers, in Markdown."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from multistep_bench.atomic import write_atomically
from multistep_bench.errors import BenchError
from multistep_bench.leaderboard.site.board import SEED_MARKS, Row, Table
from multistep_bench.reporting.labels import short_count
from multistep_bench.scoring.statistics import Interval

BEGIN, END = "<!-- board: made by `mstep-bench leaderboard build` -->", "<!-- end of board -->"
COLUMNS = ("", "entry", "Q", "Q tuned", "track", "tier", "parameters", "seeds")
TASK_COLUMNS = ("p tuned", "S tuned", "A tuned")


def replace_table(readme: Path, tables: Sequence[Table]) -> None:
    """Writes the tables into a README that has the two markers; raises `BenchError` for one that has not."""
    try:
        text = readme.read_text(encoding="utf-8")
    except OSError as error:
        raise BenchError(f"{readme} cannot be read: {error.strerror}; a board has a README.md") from None
    begin, found, rest = text.partition(BEGIN)
    _, also_found, end = rest.partition(END)
    if not found or not also_found:
        raise BenchError(f"{readme} lacks the line '{BEGIN}' or, after it, '{END}'; the table goes between them")
    made = f"{begin}{BEGIN}\n\n{markdown(tables)}\n{END}{end}"
    if made != text:
        write_atomically(readme, made)


def markdown(tables: Sequence[Table]) -> str:
    """Every suite's table; names of entries are plain ASCII, all else is numbers."""
    return "\n".join(line for table in tables for line in _lines(table))


def _lines(table: Table) -> Iterator[str]:
    suite = table.suite
    tasks = suite.tasks if len(suite.tasks) == 1 else ()
    yield f"### {suite.title}, protocol `{suite.protocol}`"
    yield ""
    yield f"{suite.summary} Tasks: {', '.join(f'`{task}`' for task in suite.tasks)}."
    yield ""
    columns = [*COLUMNS, *(TASK_COLUMNS if tasks else ("tasks",))]
    yield f"| {' | '.join(columns)} |"
    yield f"|{'---|' * len(columns)}"
    for row in table.rows:
        cells = [*_cells(row), *(_task_cells(row, tasks[0]) if tasks else [f"{len(row.standings)}/{len(suite.tasks)}"])]
        yield f"| {' | '.join(cells)} |"
    for mark in sorted({row.seeds_mark for row in table.rows} - {""}):
        yield ""
        yield f"{_plain(mark)} {SEED_MARKS[mark]}."
    yield ""


def _plain(mark: str) -> str:
    """A mark that Markdown takes as it is."""
    return mark.replace("*", "\\*")


def _cells(row: Row) -> list[str]:
    name = f"`{row.entry.name}`{f' ({row.entry.badge})' if row.entry.badge else ''}"
    seeds = f"{row.seeds}{_plain(row.seeds_mark)}"
    intervals = _interval(row.overall.grid), _interval(row.overall.tuned)
    return [str(row.rank), name, *intervals, row.entry.track, row.tier, short_count(row.parameters), seeds]


def _task_cells(row: Row, task: str) -> list[str]:
    best = row.standings[task].best
    return [_interval(best.probability), _interval(best.speed), _interval(best.final_accuracy)]


def _interval(interval: Interval | None) -> str:
    return "–" if interval is None else f"{interval.estimate:.3f} [{interval.low:.2f}, {interval.high:.2f}]"


def board_of(readme: str) -> str:
    """The tables as a README holds them."""
    found = re.search(re.escape(BEGIN) + r"\n\n(.*)\n" + re.escape(END), readme, re.DOTALL)
    return found[1] if found else ""
