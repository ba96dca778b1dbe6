"""Rows as text for other programs and for papers: CSV, Markdown and LaTeX."""

import csv
import io
import re
from collections.abc import Sequence

from multistep_bench.desk.rows import Row, score_rows
from multistep_bench.printable import ONE_LINE, printable
from multistep_bench.reporting.labels import measured, number, short_count, task_label
from multistep_bench.scoring.score import Score

WORDS = ("task", "reference", "cells")  # columns that stand left, as the first does; numbers stand right
SHOWN = ("p", "S", "A", "Q")  # the measures of a table to read; a table for programs has every column
_LATEX = {each: f"\\{each}" for each in "#$%&_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "–": "--",
    "−": "$-$",
    "Δ": r"$\Delta$",
    "λ": r"$\lambda$",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "…": r"\ldots{}",
    "<": "$<$",  # in LaTeX's default encoding these three are other letters
    ">": "$>$",
    "|": "$|$",
}

_NEGATIVE = re.compile(r"(?<![\w-])-(?=\d)")  # LaTeX sets a hyphen there


def to_csv(rows: Sequence[Row]) -> str:
    """Every column, numbers in full, a line a row after the line of names; what is not known is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: _field(value) for key, value in row.items()})
    return text.getvalue()


def to_markdown(score: Score) -> str:
    """The table to read, in Markdown."""
    return markdown(readable(score))


def markdown(table: Sequence[Sequence[str]]) -> str:
    """Lines of cells, the first of them the headings, as a table in Markdown."""
    header, *body = table
    rule = [" --- " if left else " ---: " for left in _left(header)]
    cells = [[f" {_pipe(cell)} " for cell in line] for line in (header, *body)]
    return "".join(f"|{'|'.join(line)}|\n" for line in (cells[0], rule, *cells[1:]))


def _left(header: Sequence[str]) -> list[bool]:
    return [index == 0 or name in WORDS for index, name in enumerate(header)]


def to_latex(score: Score) -> str:
    """The table to read, as a LaTeX tabular in the style of booktabs."""
    return latex(readable(score))


def latex(table: Sequence[Sequence[str]]) -> str:
    """A line of headings and lines of cells, as a LaTeX tabular in the style of booktabs."""
    header, *lines = table
    body = [" & ".join(map(_escape, line)) + r" \\" for line in lines]
    head = " & ".join(map(_escape, header)) + r" \\"
    columns = "".join("l" if left else "r" for left in _left(header))
    parts = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", head, r"\midrule", *body, r"\bottomrule"]
    return "\n".join([*parts, r"\end{tabular}"]) + "\n"


def readable(score: Score) -> list[list[str]]:
    """The runs of a score as a reader wants them, a line each, after a line of headings.

    Model, what it was trained on where that differs, cells with a Eureka-moment, each measure with its interval, and
    broken cells where there are any.
    """
    rows = score_rows(score)
    tasks = [task_label(run.spec) for run in score.runs]
    several = len(set(tasks)) > 1
    broken = [key for key in ("missing", "failed") if any(row[key] for row in rows)]
    names = {"A": f"final {measured(run.spec for run in score.runs)}"}
    lines = [["model", *["task"] * several, "Eureka", *(names.get(key, key) for key in SHOWN), "median", *broken]]
    for row, task in zip(rows, tasks, strict=True):
        lines.append(
            [
                row["model"],
                *[task] * several,
                f"{row['events']}/{row['cells']}",
                *(_measure(row, key) for key in SHOWN),
                "–" if row["median"] is None else short_count(row["median"]),
                *(str(row[key]) for key in broken),
            ]
        )
    return lines


def _measure(row: Row, key: str) -> str:
    if row[key] is None:
        return "–"
    return f"{number(row[key])} [{row[f'{key}_low']:.2f}, {row[f'{key}_high']:.2f}]"


def _field(value: object) -> object:
    """A text that begins like a formula would be one to a spreadsheet; names come from strangers' runs."""
    if isinstance(value, str):
        value = printable(value, ONE_LINE)
        return f"'{value}" if value[:1] in tuple("=+-@") else value
    return value


def _pipe(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", r"\|").replace("<", "&lt;")


def _escape(text: str) -> str:
    text = _NEGATIVE.sub("−", text)
    escaped = "".join(_LATEX.get(letter, letter) for letter in text)
    return f"{{}}{escaped}" if escaped[:1] in ("[", "*") else escaped  # after \\ they would be its argument
