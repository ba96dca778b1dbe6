"""The commands that read runs: `score`, `compare`, `report` and `plot`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from multistep_bench.cli.app import JsonOption, RunPlaces, app, print_scores
from multistep_bench.errors import BenchError, NotFound
from multistep_bench.printable import LINES
from multistep_bench.reporting.terminal import Terminal, print_json, say

FORMATS = ("table", "csv", "markdown", "latex", "json")


@app.command("score")
def score_runs(
    paths: RunPlaces,
    form: Annotated[str, typer.Option("--format", help="table, csv, markdown, latex or json.")] = "table",
    by: Annotated[
        Literal["run", "rate", "cell"], typer.Option(help="Of csv, what a line is: run, rate or cell.")
    ] = "run",
    verbose: Annotated[bool, typer.Option("--verbose", help="Of several runs: every learning rate, and a legend.")] = (
        False
    ),
    as_json: JsonOption = False,
) -> None:
    """Score runs from their raw curves; of several, one table with a row a run."""
    from multistep_bench.runs.search import find_runs
    from multistep_bench.scoring.score import score

    form = _checked_format("json" if as_json else form)
    if by != "run" and form != "csv":
        raise BenchError(f"--by {by}: only --format csv has other lines than runs; add it or leave --by out")
    result = score(find_runs(paths))
    if form == "table" and len(result.runs) > 1 and not verbose:
        from multistep_bench.reporting.score_table import print_score_table

        print_score_table(Terminal(), result)
    elif form in ("table", "json"):
        print_scores(result, Terminal(), form == "json")
    else:
        texts = {"csv": lambda: result.to_csv(by), "markdown": result.to_markdown, "latex": result.to_latex}
        say(texts[form]().rstrip("\n"), keep=LINES)


@app.command()
def compare(
    paths: RunPlaces,
    reference: Annotated[
        str | None,
        typer.Option(help="Model, label or run that all others are compared with [default: the first of several]"),
    ] = None,
    form: Annotated[str, typer.Option("--format", help="table, csv, markdown, latex or json.")] = "table",
    as_json: JsonOption = False,
) -> None:
    """Compare two runs in detail, A − B, or many with a reference: differences, intervals, tests, Holm's correction."""
    from multistep_bench.desk.compare import compare as compare_runs
    from multistep_bench.runs.search import find_runs

    form = _checked_format("json" if as_json else form)
    found = find_runs(paths)
    if len(found) == 2 and reference is None and form in ("table", "json"):
        _print_two(found, as_json=form == "json")
        return
    comparisons = compare_runs(found, reference=reference)
    if form == "json":
        print_json(comparisons.to_dict())
    elif form == "table":
        from multistep_bench.reporting.comparison_tables import print_comparisons

        print_comparisons(Terminal(), comparisons)
    else:
        texts = {"csv": comparisons.to_csv, "markdown": comparisons.to_markdown, "latex": comparisons.to_latex}
        say(texts[form]().rstrip("\n"), keep=LINES)


def _print_two(found: list[Path], *, as_json: bool) -> None:
    from multistep_bench.reporting.console import print_comparison
    from multistep_bench.scoring.compare import compare as compare_two

    comparison = compare_two(*found)
    if as_json:
        print_json(comparison.to_dict())
    else:
        print_comparison(Terminal(), comparison)


def _checked_format(form: str) -> str:
    if form not in FORMATS:
        raise NotFound("format", form, FORMATS, f"one of {', '.join(FORMATS)}")
    return form


@app.command()
def report(
    runs: RunPlaces,
    out: Annotated[Path, typer.Option("--out", "-o", help="HTML file to write.")] = Path("report.html"),
    reference: Annotated[
        str | None, typer.Option(help="Model or label that all others are compared with [default: the first]")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file that is no report.")] = False,
) -> None:
    """Write one self-contained page about runs: scores, curves, survival, every cell, how to reproduce them."""
    from multistep_bench.reporting.report import write_report
    from multistep_bench.runs.search import find_runs
    from multistep_bench.runs.store import read_run
    from multistep_bench.scoring.score import score

    read = [read_run(path) for path in find_runs(runs)]
    say(str(write_report(read, score(read), out, reference=reference, force=force)))


@app.command()
def plot(
    runs: RunPlaces,
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write: .png, .svg or .pdf.")] = Path("curves.png"),
    kind: Annotated[
        str,
        typer.Option(
            help="compare, curves, auxiliary, gradients, attention_share, gradient_regions, probes, attention,"
            " survival, rates, robustness, dose or forest."
        ),
    ] = "curves",
    by: Annotated[str | None, typer.Option(help="Of dose: a model option, as attention_options.temperature.")] = None,
    reference: Annotated[
        str | None, typer.Option(help="Of forest: the model compared with [default: the plain one of each family]")
    ] = None,
    width: Annotated[
        str | None, typer.Option(help="Inches, or single or double: a paper's column or page [default: what fits]")
    ] = None,
    font_size: Annotated[float | None, typer.Option(help="Of titles and labels, in points [default: 8]")] = None,
) -> None:
    """Draw one figure of runs, as wide as a paper's column or page."""
    from multistep_bench.reporting.plots import write_plot
    from multistep_bench.runs.search import find_runs
    from multistep_bench.runs.store import read_run
    from multistep_bench.scoring.score import score

    read = [read_run(path) for path in find_runs(runs)]
    say(str(write_plot(kind, read, score(read), out, width=width, font_size=font_size, by=by, reference=reference)))
