"""The command that trains, `run`, and its estimate of what a run costs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from multistep_bench import cards
from multistep_bench.cli.app import (
    AddressOption,
    DeviceOption,
    GpusOption,
    JsonOption,
    LauncherOption,
    RootOption,
    TrustOption,
    WorkersOption,
    app,
    changes_from,
    print_scores,
)
from multistep_bench.cli.sweep import print_prices, sweeps_from, train_sweep
from multistep_bench.errors import BenchError
from multistep_bench.reporting.terminal import Terminal, print_json

if TYPE_CHECKING:
    from multistep_bench.reporting.logs import Logs
    from multistep_bench.runs.spec import RunSpec
    from multistep_bench.runs.store import Run
    from multistep_bench.training.sweep import Sweep

INTERRUPTED = 130


@app.command()
def run(
    model: Annotated[
        list[str] | None,
        typer.Option(help="A model's name or card, timm/NAME, or package.module:build; several make a sweep."),
    ] = None,
    task: Annotated[
        list[str] | None,
        typer.Option(help=f"A task's id, or the path of a card; several too [default: {cards.DEFAULT_TASK}]"),
    ] = None,
    protocol: Annotated[
        str | None, typer.Option(help=f"One of the task's protocols [default: {cards.DEFAULT_PROTOCOL}]")
    ] = None,
    suite: Annotated[
        str | None, typer.Option(help="A suite of the leaderboard instead of tasks and a protocol.")
    ] = None,
    variant: Annotated[
        list[str] | None,
        typer.Option(help="NAME:KEY=VALUE, a named change of every model; NAME again adds a change, NAME: has none."),
    ] = None,
    sweep: Annotated[Path | None, typer.Option(help="A TOML file of sweeps instead of models and tasks.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Run folder [default: runs/TASK/MODEL/PROTOCOL-HASH]; of a sweep the root, for TASK/MODEL/PROTOCOL"
        ),
    ] = None,
    lr: Annotated[str | None, typer.Option(help="Learning rates instead of the protocol's: 1e-3,3e-3")] = None,
    seeds: Annotated[int | None, typer.Option(help="Seeds per learning rate instead of the protocol's.")] = None,
    budget: Annotated[int | None, typer.Option(help="Training samples per cell instead of the protocol's.")] = None,
    precision: Annotated[str | None, typer.Option(help="float32, or bfloat16 for mixed precision.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="task., model., protocol. or recipe.KEY=VALUE.")
    ] = None,
    launcher: LauncherOption = "local",
    address: AddressOption = None,
    gpus: GpusOption = 1.0,
    device: DeviceOption = "auto",
    workers: WorkersOption = None,
    stack: Annotated[
        int | None, typer.Option(help="Cells trained as one program [default: 1 on a CPU, what fits on a GPU]")
    ] = None,
    checkpoint_every: Annotated[float, typer.Option(help="Seconds of work that a killed run may lose.", min=0)] = 30.0,
    cell_timeout: Annotated[
        float | None,
        typer.Option(help="Seconds without an evaluation after which a cell is given up as failed [default: never]"),
    ] = None,
    keep_checkpoints: Annotated[
        int, typer.Option(help="Weights of each cell to keep at N moments, and around the Eureka-moment.", min=0)
    ] = 0,
    diagnostics: Annotated[
        str | None,
        typer.Option(help="Record beside the curves: gradients,attention,logits[,every=N evaluations]."),
    ] = None,
    log: Annotated[
        list[str] | None, typer.Option(help="tensorboard, or package.module:make of an observer; several are told.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what the run would cost, and write nothing.")
    ] = False,
    data_root: RootOption = None,
    trusted: TrustOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train a model on a task, or each of several on each, resuming what was interrupted, and score it."""
    changes = changes_from(settings or [], learning_rates=lr, seeds=seeds, budget=budget, precision=precision)
    sweeps = sweeps_from(task, model, protocol, suite, sweep, variant, changes)
    first = sweeps[0]
    alone = sweep is None and len(sweeps) == len(first.tasks) == len(first.models) == 1 and not first.variants
    from multistep_bench.reporting.logs import Logs

    logs = Logs(log or [])
    if dry_run:
        from multistep_bench.training.launchers import check_numbers

        check_numbers(cell_timeout=cell_timeout)
        if stack is not None:
            raise BenchError(f"--stack {stack}: a dry run times cells one at a time; leave out --stack or --dry-run")
        if launcher != "local":
            raise BenchError(
                f"--launcher {launcher}: a dry run times a cell on this machine; leave out --launcher, and give"
                " the cores of the cluster as --workers"
            )
        if alone:
            from multistep_bench.training.plan import plan

            (task_name,), (model_name,) = first.tasks, first.models
            spec = plan(task_name, model_name, first.protocol, first.changes, data_root)
            _print_estimate(spec, device, workers, diagnostics, data_root, as_json)
        else:
            print_prices(sweeps, out, data_root, as_json, device=device, workers=workers, diagnostics=diagnostics)
        return
    place = {
        "launcher": launcher,
        "address": address,
        "gpus": gpus,
        "device": device,
        "workers": workers,
        "stack": stack,
        "checkpoint_seconds": checkpoint_every,
        "cell_timeout": cell_timeout,
        "diagnostics": diagnostics,
        "keep_checkpoints": keep_checkpoints,
    }
    console = Terminal(stderr=as_json)
    try:
        if alone:
            _train(first, out, data_root, console, as_json, logs, **place)
        else:
            train_sweep(sweeps, out, data_root, console, as_json, logs, **place)
        logs.check()
    except KeyboardInterrupt:
        console.print("interrupted; finished cells are kept, and the same command resumes")
        raise typer.Exit(INTERRUPTED) from None


def _train(
    asked: "Sweep",
    out: Path | None,
    data_root: Path | None,
    console: Terminal,
    as_json: bool,
    logs: "Logs",
    **place: Any,
) -> None:
    from multistep_bench.reporting.console import make_observer
    from multistep_bench.training.launch import run as train

    (task,), (model,) = asked.tasks, asked.models
    options = {
        "changes": asked.changes,
        "data_root": data_root,
        "observer": logs.beside(make_observer(console)),
        **place,
    }
    done = train(task, model, asked.protocol, out, on_failure="keep", **options)
    _print_run(done, console, as_json)


def _print_estimate(
    spec: "RunSpec", device: str, workers: int | None, diagnostics: str | None, data_root: Path | None, as_json: bool
) -> None:
    from multistep_bench.reporting.describe import describe_estimate, print_description
    from multistep_bench.training.estimate import estimate

    costs = estimate(spec, data_root, device=device, workers=workers, diagnostics=diagnostics)
    if as_json:
        print_json(costs.to_dict())
    else:
        print_description(Terminal(), describe_estimate(costs))


def _print_run(done: "Run", console: Terminal, as_json: bool) -> None:
    """The score, then the picture: drawing may fail, and the score must not be lost with it."""
    from multistep_bench.reporting.curve_plots import plot_curves
    from multistep_bench.runs.folder import where_tracebacks_are
    from multistep_bench.scoring.score import score

    result = score([done])
    picture = done.path / "curves.png"
    if as_json:
        print_json({"run": str(done.path), "plot": str(picture), "score": result.to_dict()})
    else:
        print_scores(result, console, as_json)
    plot_curves([done], result, picture)
    if not as_json:
        console.print(f"curves: {picture}", soft_wrap=True)
    failed, missing = done.failed, len(done.missing)
    if failed or missing:
        reasons = sorted({record.reason or "" for record in failed})
        raise BenchError(
            f"{len(failed) + missing} of {len(done.spec.cells())} cells did not finish"
            + (f" ({'; '.join(reasons[:3])}{where_tracebacks_are([done.path])})" if reasons else "")
            + "; the same command tries them again"
        )
