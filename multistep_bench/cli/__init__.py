"""The command line: parses, calls the library, prints. Heavy imports wait until a command needs them."""

import os
import sys
from typing import Annotated

import typer

from multistep_bench.cli.app import app
from multistep_bench.errors import BenchError

# isort: off
# Each registers its commands, which the help lists in this order.
from multistep_bench.cli import train, results, pack, leaderboard, baselines, catalogue, measure  # noqa: F401

# isort: on

DEBUG = "MULTISTEP_BENCH_DEBUG"  # in the environment, so that worker processes inherit it


def main(arguments: list[str] | None = None) -> None:
    """Entry point: a `BenchError` becomes one sentence and exit code 2."""
    try:
        app(arguments)
    except BenchError as error:
        if DEBUG in os.environ:
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


@app.callback()
def _options(debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False) -> None:
    if debug:
        os.environ[DEBUG] = "1"
