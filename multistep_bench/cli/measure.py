"""The command that measures the suite itself: `bench`."""

import inspect
import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from multistep_bench.cli.app import JsonOption, app
from multistep_bench.errors import BenchError
from multistep_bench.reporting.terminal import Terminal, print_json


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
        content = {name: inspect.getdoc(measure) or "" for name, measure in benchmarks.BENCHMARKS.items()}
        if as_json:
            print_json(content)
        else:
            _print_names({name: text.partition("\n")[0] for name, text in content.items()})
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


def _print_names(lines: dict[str, str]) -> None:
    table = Table.grid(padding=(0, 2, 0, 0))
    for name, line in lines.items():
        table.add_row(name, line)
    console = Terminal()
    console.print(table)
    console.print(
        "each comparison is repeated for --seconds, at least three times; `mstep-bench bench all` takes minutes",
        style="dim",
    )
