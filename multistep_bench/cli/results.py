"""The commands that read runs: `score`, `compare`, `report` and `plot`."""

from pathlib import Path
from typing import Annotated

import typer

from multistep_bench.cli.app import JsonOption, RunFolders, app, print_scores
from multistep_bench.reporting.terminal import Terminal, print_json, say


@app.command("score")
def score_runs(runs: RunFolders, as_json: JsonOption = False) -> None:
    """Score runs from their raw curves."""
    from multistep_bench.scoring.score import score

    print_scores(score(runs), Terminal(), as_json)


@app.command()
def compare(run_a: Path, run_b: Path, as_json: JsonOption = False) -> None:
    """Compare two runs of the same task and protocol, with intervals and tests."""
    from multistep_bench.reporting.console import print_comparison
    from multistep_bench.scoring.compare import compare as compare_runs

    comparison = compare_runs(run_a, run_b)
    if as_json:
        print_json(comparison.to_dict())
    else:
        print_comparison(Terminal(), comparison)


@app.command()
def report(
    runs: RunFolders,
    out: Annotated[Path, typer.Option("--out", "-o", help="HTML file to write.")] = Path("report.html"),
) -> None:
    """Write one self-contained page about runs: scores, curves, survival, every cell, how to reproduce them."""
    from multistep_bench.reporting.report import write_report
    from multistep_bench.runs.store import read_run
    from multistep_bench.scoring.score import score

    read = [read_run(folder) for folder in runs]
    say(str(write_report(read, score(read), out)))


@app.command()
def plot(
    runs: RunFolders,
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write: .png, .svg or .pdf.")] = Path("curves.png"),
    kind: Annotated[
        str,
        typer.Option(
            help="curves, auxiliary, gradients, attention_share, survival, rates, robustness, dose or forest."
        ),
    ] = "curves",
    by: Annotated[str | None, typer.Option(help="Of dose: a model option, as attention_options.temperature.")] = None,
    reference: Annotated[
        str | None, typer.Option(help="Of forest: the model compared with [default: the plain one of each family]")
    ] = None,
) -> None:
    """Draw one figure of runs, as wide as a paper's column or page."""
    from multistep_bench.reporting.plots import write_plot
    from multistep_bench.runs.store import read_run
    from multistep_bench.scoring.score import score

    read = [read_run(folder) for folder in runs]
    say(str(write_plot(kind, read, score(read), out, by=by, reference=reference)))
