"""The command that measures the suite itself: `bench`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from multistep_bench.cli.app import JsonOption, app
from multistep_bench.errors import BenchError
from multistep_bench.reporting.terminal import Terminal, print_json, print_whole

if TYPE_CHECKING:
    from collections.abc import Mapping

    from multistep_bench.bench import Benchmark


@app.command()
def bench(
    what: Annotated[
        str | None, typer.Argument(help="The name of one, or all [default: list them, and measure nothing]")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0, help="How long each comparison is repeated.")] = 2.0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="JSON file to write.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure the suite itself on this machine, beside plain references in the same run."""
    from multistep_bench import bench as benchmarks
    from multistep_bench.atomic import atomic_file

    if out is not None and not out.parent.is_dir():  # said now, not after minutes of measuring
        raise BenchError(f"-o {out}: there is no folder {out.parent}; make it or name another file")
    if what is None:
        if as_json:
            known = benchmarks.BENCHMARKS.items()
            print_json({name: {"about": each.about, "about_seconds": each.about_seconds} for name, each in known})
        else:
            _print_names(benchmarks.BENCHMARKS)
        return
    console = Terminal()
    results = {}
    for name in benchmarks.BENCHMARKS if what == "all" else [what]:
        result = benchmarks.bench(name, seconds, device)
        results[name] = result.to_dict()
        if not as_json:
            benchmarks.print_result(console, result)
        if out is not None:
            with atomic_file(out) as file:
                file.write(json.dumps(results, indent=1, allow_nan=False).encode())
    if as_json:
        print_json(results)


def _print_names(known: "Mapping[str, Benchmark]") -> None:
    """Each benchmark with how long it takes, and all together."""
    table = Table.grid(padding=(0, 2, 0, 0))
    for name, each in known.items():
        table.add_row(name, Text(_about(each.about_seconds), style="dim"), each.about.partition("\n")[0])
    console = Terminal()
    print_whole(console, table)
    whole = _about(sum(each.about_seconds for each in known.values()))
    line = f"of processor time; `mstep-bench bench all` takes {whole}; a comparison is repeated for --seconds"
    print_whole(console, Text(line, style="dim"))


def _about(seconds: float) -> str:
    """20 → "about 20 s", 200 → "about 3 min"."""
    return f"about {seconds} s" if seconds < 120 else f"about {seconds / 60:.0f} min"
