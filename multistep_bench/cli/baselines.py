"""The commands of the reference results: `baselines train`, `baselines build` and `baselines replay`."""

from pathlib import Path
from typing import Annotated

import typer

from multistep_bench.cli.app import (
    AddressOption,
    DeviceOption,
    GpusOption,
    JsonOption,
    LauncherOption,
    RootOption,
    WorkersOption,
    app,
)
from multistep_bench.reporting.terminal import Terminal, print_json, say

baselines_app = typer.Typer(help="The reference results in baselines/.", no_args_is_help=True)
app.add_typer(baselines_app, name="baselines")

FolderOption = Annotated[
    Path | None, typer.Option("--folder", help="With README.md and results/ [default: that of the suite]")
]
OnlyOption = Annotated[str, typer.Option("--only", help="Runs whose TASK/PROTOCOL/MODEL contains this text.")]
STALE = 1


@baselines_app.command("train")
def train_missing(
    only: OnlyOption = "",
    out: Annotated[Path, typer.Option(help="Where runs lie until they are whole.")] = Path("runs/baselines"),
    folder: FolderOption = None,
    launcher: LauncherOption = "local",
    address: AddressOption = None,
    gpus: GpusOption = 1.0,
    device: DeviceOption = "auto",
    workers: WorkersOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would take here, and write nothing.")] = False,
    data_root: RootOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train the reference runs of results/sweep.toml that are missing, add the whole ones, and write the tables."""
    from multistep_bench.cards import card_folder
    from multistep_bench.cli.sweep import print_prices, train_sweep
    from multistep_bench.reporting.labels import counted
    from multistep_bench.reporting.logs import Logs
    from multistep_bench.reporting.reference_tables import update_page
    from multistep_bench.training.reference_sweep import collect, missing_references, whole_runs

    folder = folder or card_folder("baselines")
    missing = missing_references(folder, only)
    whole = whole_runs(missing, out)  # what an interrupted call left
    if whole:
        added = "would be added" if dry_run else "added"
        say(f"{counted(len(whole), 'whole run')} in {out}, {added} to {folder / 'results'}", error=as_json)
    sweeps = tuple(sweep for name, sweep in missing.items() if name not in whole)
    if not missing:
        say(f"no reference run{f' with {only} in its name' if only else ''} is missing in {folder / 'results'}")
    if dry_run:
        if sweeps:
            print_prices(sweeps, out, data_root, as_json, device=device, workers=workers)
        return
    try:
        if sweeps:
            place = {"launcher": launcher, "address": address, "gpus": gpus, "device": device, "workers": workers}
            train_sweep(sweeps, out, data_root, Terminal(stderr=as_json), as_json, Logs([]), **place)
    finally:  # where cells broke or Ctrl-C came, the other runs are added all the same
        collect(folder, out, only)
    update_page(folder)


@baselines_app.command("build")
def build_tables(
    folder: FolderOption = None,
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


@baselines_app.command("replay")
def replay_runs(
    evaluations: Annotated[int, typer.Option(min=2, help="How many evaluations of one cell to make again.")] = 5,
    only: OnlyOption = "",
    restate: Annotated[
        bool, typer.Option("--restate", help="Write the present code's hash into runs that come out bit-equal.")
    ] = False,
    data_root: RootOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train the first evaluations of one cell of each reference run again: does the present code still make them?"""
    from multistep_bench.reporting.references import older_code, reference_name, reference_runs, write_older_code
    from multistep_bench.runs.store import read_run, write_packed
    from multistep_bench.training.replay import present_code, replay, restated

    found: dict[str, str | None] = {}
    for path in reference_runs():
        name = reference_name(path)
        if only not in name:
            continue
        run = read_run(path)
        found[name] = difference = replay(run, evaluations, data_root)
        if restate and difference is None:
            write_packed(path, restated(run, present_code(run.spec, data_root)))
        if not as_json:
            say(f"{name}: {difference or 'bit-equal'}")
    if restate:
        write_older_code((older_code() - found.keys()) | {name for name, difference in found.items() if difference})
    if as_json:
        print_json(found)
    raise typer.Exit(STALE if any(found.values()) else 0)
