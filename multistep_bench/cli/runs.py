"""The command that says what runs there are: `runs`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from multistep_bench.cli.app import JsonOption, app
from multistep_bench.reporting.terminal import Terminal, print_json, print_whole

if TYPE_CHECKING:
    from rich.table import Table

    from multistep_bench.desk.listing import Entry


@app.command("runs")
def list_runs(
    folder: Annotated[Path, typer.Argument(help="Folder to search, with everything below it.")] = Path("runs"),
    as_json: JsonOption = False,
) -> None:
    """List runs: task, model, changes, protocol, cells done, p, and when they were last written to."""
    from multistep_bench.desk.listing import list_folder

    entries = list_folder(folder)
    if as_json:
        print_json(entries)
        return
    print_whole(Terminal(), _table(entries))


def _table(entries: list["Entry"]) -> "Table":
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from multistep_bench.printable import ONE_LINE, printable
    from multistep_bench.reporting.labels import number

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False)
    for name in ("run", "task", "model"):
        table.add_column(name, overflow="fold")
    for name in ("cells", "p", "when"):
        table.add_column(name, justify="right", no_wrap=True)
    for entry in entries:
        when = entry["changed"].replace("T", " ")[:16]
        if "problem" in entry:
            values = [entry["path"], "", entry["problem"], "", "", when]
        else:
            changes = f" ({entry['changes']})" if entry["changes"] else ""
            failed = f", {entry['failed']} failed" if entry["failed"] else ""
            cells = f"{entry['done']}/{entry['cells']}{failed}"
            named = [entry["path"], f"{entry['task']} {entry['protocol']}", f"{entry['model']}{changes}"]
            values = [*named, cells, number(entry["p"]), when]
        table.add_row(*(Text(printable(value, ONE_LINE)) for value in values))
    return table
