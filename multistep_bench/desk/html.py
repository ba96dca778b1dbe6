"""What a notebook shows of a run, a score and a comparison: small tables that need no style sheet and no script."""

import base64
from collections.abc import Sequence
from html import escape

from multistep_bench.desk.rows import comparison_rows
from multistep_bench.desk.summary import comparison_lines, run_lines, score_lines
from multistep_bench.desk.tables import readable
from multistep_bench.reporting.console import comparison_table
from multistep_bench.runs.store import Run
from multistep_bench.scoring.compare import Comparison
from multistep_bench.scoring.score import Score, score


def run_html(run: Run) -> str:
    """A run: what it is, its score, and its curves as a picture inside the page."""
    from multistep_bench.reporting import figures
    from multistep_bench.reporting.curve_plots import plot_curves

    scored = score([run])
    with figures.collected() as drawn:
        plot_curves([run], scored, "curves.png")
    with figures.style():
        data = base64.b64encode(figures.png(drawn[0])).decode()
    head, *rest = run_lines(run)
    image = f'<img alt="{escape(head)}" style="max-width: 100%" src="data:image/png;base64,{data}">'
    return f"<div>{_head(head)}{''.join(map(_line, rest))}{table_html(readable(scored))}{image}</div>"


def score_html(score: Score) -> str:
    """A score: a row a run."""
    return f"<div>{_head(score_lines(score)[0])}{table_html(readable(score))}</div>"


def comparison_html(comparison: Comparison) -> str:
    """A comparison: both models side by side over the grid and at tuned learning rates, and the sentence to quote."""
    head, *rest = comparison_lines(comparison)
    columns = [row["cells"] for row in comparison_rows(comparison)]
    rows = [[label.strip(), *values] for label, *values in comparison_table(comparison)]
    return f"<div>{_head(head)}{table_html([['', *columns], *rows])}{''.join(map(_line, rest))}</div>"


def _head(text: str) -> str:
    return f"<div><strong>{escape(text)}</strong></div>"


def _line(text: str) -> str:
    return f"<div>{escape(text)}</div>"


def table_html(lines: Sequence[Sequence[str]]) -> str:
    header, *body = lines
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    rows = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in line)}</tr>" for line in body)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
