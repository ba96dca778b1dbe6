"""What is made in the board's README, between markers: the page's rows as tables, and what is checked of an entry."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from multistep_bench.atomic import write_atomically
from multistep_bench.errors import BenchError
from multistep_bench.leaderboard.checks import described
from multistep_bench.leaderboard.site.board import SEED_MARKS, Row, Table
from multistep_bench.leaderboard.site.ranks import EXPLAINED
from multistep_bench.reporting.labels import short_count
from multistep_bench.scoring.statistics import Interval

BEGIN, END = "<!-- board: made by `mstep-bench leaderboard build` -->", "<!-- end of board -->"
CHECKS_BEGIN, CHECKS_END = "<!-- checks: made by `mstep-bench leaderboard build` -->", "<!-- end of checks -->"
COLUMNS = ("", "entry", "Q", "Q tuned", "track", "tier", "parameters", "seeds")
TASK_COLUMNS = ("p tuned", "S tuned", "A tuned")


def replace_table(readme: Path, tables: Sequence[Table], note: str | None = None) -> None:
    """Writes the tables, and what is checked of an entry, into a README that has the markers of both.

    note: a sentence before the tables. Raises `BenchError` for a README that lacks a marker.
    """
    try:
        text = readme.read_text(encoding="utf-8")
    except OSError as error:
        raise BenchError(f"{readme} cannot be read: {error.strerror}; a board has a README.md") from None
    tables_text = f"{note}\n\n{markdown(tables)}" if note else markdown(tables)
    made = _between(text, (BEGIN, END), tables_text, readme)
    made = _between(made, (CHECKS_BEGIN, CHECKS_END), "\n".join(described()) + "\n", readme)
    if made != text:
        write_atomically(readme, made)


def _between(text: str, markers: tuple[str, str], content: str, readme: Path) -> str:
    """The text with other content between two of its lines."""
    first, last = markers
    begin, found, rest = text.partition(first)
    _, also_found, end = rest.partition(last)
    if not found or not also_found:
        raise BenchError(f"{readme} lacks the line '{first}' or, after it, '{last}'; what is made goes between them")
    return f"{begin}{first}\n\n{content}\n{last}{end}"


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
    if any(row.span[0] != row.span[1] for row in table.rows):
        yield ""
        yield EXPLAINED
    yield ""


def _plain(mark: str) -> str:
    """A mark that Markdown takes as it is."""
    return mark.replace("*", "\\*")


def _cells(row: Row) -> list[str]:
    name = f"`{row.entry.name}`{f' ({row.entry.badge})' if row.entry.badge else ''}"
    seeds = f"{row.seeds}{_plain(row.seeds_mark)}"
    intervals = _interval(row.overall.grid), _interval(row.overall.tuned)
    span = f" ({row.span[0]}–{row.span[1]})" if row.span[0] != row.span[1] else ""
    return [f"{row.rank_label}{span}", name, *intervals, row.entry.track, row.tier, short_count(row.parameters), seeds]


def _task_cells(row: Row, task: str) -> list[str]:
    best = row.standings[task].best
    return [_interval(best.probability), _interval(best.speed), _interval(best.final_accuracy)]


def _interval(interval: Interval | None) -> str:
    return "–" if interval is None else f"{interval.estimate:.3f} [{interval.low:.2f}, {interval.high:.2f}]"


def board_of(readme: str) -> str:
    """The tables as a README holds them."""
    found = re.search(re.escape(BEGIN) + r"\n\n(.*)\n" + re.escape(END), readme, re.DOTALL)
    return found[1] if found else ""
