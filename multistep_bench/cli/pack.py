"""The command that packs runs: `pack`."""

from typing import Annotated

import typer

from multistep_bench.cli.app import JsonOption, RunFolders, app
from multistep_bench.reporting.terminal import print_json, say


@app.command()
def pack(
    runs: RunFolders,
    incomplete: Annotated[
        bool, typer.Option("--incomplete", help="Pack a run with failed or missing cells too; `run` still resumes it.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Pack runs that were left in pieces, or are of an older form, into one run.jsonl each."""
    from multistep_bench.errors import RunError
    from multistep_bench.runs.folder import RunFolder
    from multistep_bench.runs.store import RUN_FILE, read_spec

    found = []
    for folder in runs:
        if not folder.is_dir():
            raise RunError(f"{folder} is no folder; a packed file needs no packing")
        with RunFolder(folder, read_spec(folder)) as held:
            run = held.pack(incomplete=incomplete)
        lacking = [*(cell.name for cell in run.missing), *(record.cell.name for record in run.failed)]
        if lacking and not incomplete:
            raise RunError(
                f"{folder} lacks {len(lacking)} of {len(run.spec.cells())} cells ({', '.join(lacking[:5])}, ...);"
                " resume it with `run`, or add --incomplete"
            )
        found.append({"run": str(folder / RUN_FILE), "cells": len(run.records), "missing_or_failed": lacking})
    if as_json:
        print_json(found)
        return
    for each in found:
        lacking = ", ".join(each["missing_or_failed"])
        line = f"{each['run']}: {each['cells']} cells" + (f"; missing or failed: {lacking}" if lacking else "")
        say(line)
