"""The command of the reference results: `baselines build`."""

from pathlib import Path
from typing import Annotated

import typer

from multistep_bench.cli.app import JsonOption, app
from multistep_bench.reporting.terminal import print_json, say

baselines_app = typer.Typer(help="The reference results in baselines/.", no_args_is_help=True)
app.add_typer(baselines_app, name="baselines")

STALE = 1


@baselines_app.command("build")
def build_tables(
    folder: Annotated[
        Path | None, typer.Option("--folder", help="With README.md and results/ [default: that of the suite]")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit code 1 where a table is not what the runs give.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Score every reference run and write the tables of baselines/README.md."""
    from multistep_bench.cards import card_folder
    from multistep_bench.reporting.reference_tables import PAGE, update_page

    folder = folder or card_folder("baselines")
    current = update_page(folder, check=check)
    if as_json:
        print_json({"page": str(folder / PAGE), "current": current})
    elif check and not current:
        say(f"{folder / PAGE} is stale; `mstep-bench baselines build` brings its tables up to date")
    else:
        say(str(folder / PAGE))
    raise typer.Exit(STALE if check and not current else 0)
