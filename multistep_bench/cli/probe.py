"""The commands that look inside the models of a run: `probe` and `attention`."""

from pathlib import Path
from typing import Annotated

import typer

from multistep_bench.cli.app import RootOption, RunPlaces, TrustOption, app
from multistep_bench.errors import BenchError
from multistep_bench.printable import LINES
from multistep_bench.reporting.terminal import Terminal, print_json, release_stdout, reserve_stdout, say

RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run with --keep-checkpoints.")]
Moments = Annotated[str, typer.Option("--at", help="before, after, plateau, final or training samples, by commas.")]
Rate = Annotated[
    str | None,
    typer.Option("--lr", help="A learning rate of the run, or all [default: that with the most Eureka-moments]"),
]


@app.command()
def probe(
    context: typer.Context,
    run: RunFolder,
    at: Moments = "before,after,final",
    of: Annotated[str, typer.Option(help="What is read: names of steps, all steps, label; by commas.")] = "steps,label",
    representation: Annotated[str, typer.Option(help="residual, q, k, v, heads; by commas.")] = "residual,heads",
    place: Annotated[
        str, typer.Option(help="reading, regions of the layout, tokens, mean; by commas, or all.")
    ] = "reading",
    by_head: Annotated[bool, typer.Option("--by-head", help="Each head by itself.")] = False,
    bits: Annotated[bool, typer.Option("--bits/--no-bits", help="Code lengths, which take most of the time.")] = True,
    items: Annotated[int, typer.Option(min=64, help="Items that probes are fitted to.")] = 2000,
    lr: Rate = None,
    form: Annotated[str, typer.Option("--format", help="table, json or csv.")] = "table",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Figure to write: .png, .svg or .pdf.")] = None,
    data_root: RootOption = None,
    trusted: TrustOption = None,
) -> None:
    """Say what a linear probe reads in each layer, before and after the Eureka-moment; keep it for `report`."""
    if form not in ("table", "json", "csv"):
        raise BenchError(f"--format {form} is none of table, json, csv")
    if form == "json":
        reserve_stdout()
        context.call_on_close(release_stdout)
    from multistep_bench.diagnostics.readout import Question, probe_run
    from multistep_bench.reporting.figures import plot_format
    from multistep_bench.reporting.probe_table import plot_probes, print_probes, probes_csv
    from multistep_bench.runs.inside import save_probes
    from multistep_bench.runs.store import read_run

    if out is not None:
        plot_format(out)
    question = Question(
        at=names(at),
        of=names(of),
        representations=names(representation),
        places=names(place),
        by_head=by_head,
        items=items,
        bits=bits,
    )
    read = read_run(run)
    rows = probe_run(read, question, rate_of(lr), data_root)
    save_probes(read.path, [row.to_dict() for row in rows])
    if form == "json":
        print_json([row.to_dict() for row in rows])
    elif form == "csv":
        say(probes_csv(rows).rstrip("\n"), keep=LINES)
    else:
        print_probes(Terminal(), rows)
    if out is not None:
        say(str(plot_probes(rows, out)), error=form != "table")


def rate_of(text: str | None) -> float | str | None:
    """What `--lr` asks for."""
    try:
        return None if text is None else float(text)
    except ValueError:
        return text


def names(text: str) -> list[str]:
    """The parts of a list with commas, each once."""
    return list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


@app.command()
def attention(
    run: RunFolder,
    out: Annotated[Path, typer.Option("--out", "-o", help="Figure to write: .png, .svg or .pdf.")] = Path(
        "attention.png"
    ),
    at: Moments = "before,after",
    samples: Annotated[int, typer.Option("--samples", "-n", min=1, max=32, help="Held-out samples to show.")] = 4,
    layer: Annotated[list[int] | None, typer.Option(help="Layers, from 1 [default: all]")] = None,
    head: Annotated[list[int] | None, typer.Option(help="Heads, from 1 [default: all]")] = None,
    lr: Rate = None,
    seed: Annotated[int | None, typer.Option(help="A seed's index [default: the first that has these moments]")] = None,
    data_root: RootOption = None,
    trusted: TrustOption = None,
) -> None:
    """Draw where each head looks, before and after the Eureka-moment side by side; keep it for `report`."""
    from multistep_bench.diagnostics.maps import kept_maps, maps_of_run
    from multistep_bench.reporting.attention_plots import plot_attention
    from multistep_bench.reporting.figures import plot_format
    from multistep_bench.runs.inside import save_maps
    from multistep_bench.runs.store import read_run

    plot_format(out)
    read = read_run(run)
    maps, batch, task, title = maps_of_run(read, names(at), samples, rate_of(lr), seed, data_root)
    path = plot_attention(maps, batch, task, out, layers=layer, heads=head)
    save_maps(read.path, kept_maps(maps, batch, task, title))
    say(str(path))


@app.command()
def inside(
    context: typer.Context,
    paths: RunPlaces,
    at: Annotated[
        str | None, typer.Option(help="Phases of attention and moments of probes to show, by commas [default: all]")
    ] = None,
    form: Annotated[str, typer.Option("--format", help="table, markdown or json.")] = "table",
) -> None:
    """Sum up diagnostics and probes of runs: at the start, on the plateau and at the Eureka-moment."""
    if form not in ("table", "markdown", "json"):
        raise BenchError(f"--format {form} is none of table, markdown, json")
    if form == "json":
        reserve_stdout()
        context.call_on_close(release_stdout)
    from multistep_bench.reporting.inside_table import inside_tables, markdown, print_tables
    from multistep_bench.runs.search import find_runs
    from multistep_bench.runs.store import read_run
    from multistep_bench.scoring.inside import inside_of
    from multistep_bench.scoring.score import score

    read = [read_run(path) for path in find_runs(paths)]
    result = score(read)
    found = [inside_of(run, scored) for run, scored in zip(read, result.runs, strict=True)]
    if form == "json":
        named = zip(read, found, strict=True)
        print_json([{"run": str(run.path), "model": run.spec.model.name, **each.to_dict()} for run, each in named])
        return
    tables = inside_tables(read, result.runs, found, None if at is None else names(at))
    if form == "markdown":
        say(markdown(tables).rstrip("\n"), keep=LINES)
    else:
        print_tables(Terminal(), tables)
