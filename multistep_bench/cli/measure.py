"""The command that measures the suite itself: `bench`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from multistep_bench.cli.app import JsonOption, app
from multistep_bench.errors import BenchError
from multistep_bench.reporting.terminal import Terminal, print_json


@app.command()
def bench(
    what: Annotated[
        str, typer.Argument(help="data, attention, quick, cells, paper, scaling, scores, gym, all")
    ] = "all",
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
