"""The command that looks on while other processes train: `watch`."""

from pathlib import Path
from typing import Annotated

import typer

from multistep_bench.cli.app import app
from multistep_bench.reporting.terminal import Terminal


@app.command()
def watch(
    folder: Annotated[Path, typer.Argument(help="A run folder, or one with runs below it.")] = Path("runs"),
    once: Annotated[bool, typer.Option("--once", help="Print how things stand, and end.")] = False,
) -> None:
    """Watch runs that another terminal or machine trains, from their files: the live table, and time left."""
    from multistep_bench.reporting.watch import watch as look_on

    look_on(folder, Terminal(), once=once)
