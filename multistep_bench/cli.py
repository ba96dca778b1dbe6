"""The command line: parses, calls the library, prints. Heavy imports wait until a command needs them."""

import json
import os
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from multistep_bench import cards, registry
from multistep_bench.errors import BenchError, CardError, NotFound

if TYPE_CHECKING:
    from multistep_bench.scoring.score import Score
    from multistep_bench.training.record import Run

INTERRUPTED = 130

app = typer.Typer(
    name="mstep-bench",
    help="Benchmarks how fast, how well and how likely a torch model learns multi-step tasks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(help="The data files that tasks read.", no_args_is_help=True)
app.add_typer(data_app, name="data")

TaskOption = Annotated[str, typer.Option("--task", help="A task's id, or the path of a card.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else on standard output.")]
RootOption = Annotated[
    Path | None, typer.Option("--data-root", help="Folder of data files [default: $MULTISTEP_BENCH_DATA, then a cache]")
]
RunFolders = Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders, as `run` printed them.")]


def main(arguments: list[str] | None = None) -> None:
    """Entry point: a `BenchError` becomes one sentence and exit code 2."""
    sys.path.insert(0, os.getcwd())  # so that --model mine:build finds mine.py where the user stands
    try:
        app(arguments)
    except BenchError as error:
        if _debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


_debug = False


@app.callback()
def _options(debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False) -> None:
    global _debug
    _debug = debug
    if debug:
        os.environ["MULTISTEP_BENCH_DEBUG"] = "1"  # inherited by worker processes


@app.command()
def run(
    model: Annotated[
        str, typer.Option(help="A model's name or card, timm/NAME, or package.module:build.", show_default=False)
    ],
    task: TaskOption = cards.DEFAULT_TASK,
    protocol: Annotated[str, typer.Option(help="One of the task's protocols.")] = cards.DEFAULT_PROTOCOL,
    out: Annotated[Path | None, typer.Option(help="Run folder [default: runs/TASK/MODEL/PROTOCOL-HASH]")] = None,
    lr: Annotated[str | None, typer.Option(help="Learning rates instead of the protocol's: 1e-3,3e-3")] = None,
    seeds: Annotated[int | None, typer.Option(help="Seeds per learning rate instead of the protocol's.")] = None,
    budget: Annotated[int | None, typer.Option(help="Training samples per cell instead of the protocol's.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="task.KEY=VALUE, model.KEY=VALUE or protocol.KEY=VALUE.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    workers: Annotated[int | None, typer.Option(help="Processes on a CPU [default: one a core]")] = None,
    stack: Annotated[
        int | None, typer.Option(help="Cells trained as one program [default: 1 on a CPU, what fits on a GPU]")
    ] = None,
    checkpoint_every: Annotated[float, typer.Option(help="Seconds of work that a killed run may lose.", min=0)] = 30.0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what the run would cost, and write nothing.")
    ] = False,
    data_root: RootOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train a model on a task, resuming what is there, and score it."""
    changes = _changes(settings or [], lr, seeds, budget)
    if dry_run:
        _print_estimate(task, model, protocol, changes, device, workers, data_root, as_json)
        return
    from multistep_bench.reporting.console import make_observer
    from multistep_bench.training.launch import run as train

    console = Console(stderr=as_json)
    observer = make_observer(console)
    try:
        done = train(
            task,
            model,
            protocol,
            out,
            changes=changes,
            device=device,
            data_root=data_root,
            workers=workers,
            stack=stack,
            checkpoint_seconds=checkpoint_every,
            observer=observer,
        )
    except KeyboardInterrupt:
        console.print("interrupted; finished cells are kept, the same command goes on from here")
        raise typer.Exit(INTERRUPTED) from None
    _print_run(done, console, as_json)


@app.command("list")
def list_names(
    what: Annotated[str, typer.Argument(help="tasks, models, attention, generators, sources or all.")] = "all",
    as_json: JsonOption = False,
) -> None:
    """List tasks, models, attention rules, generators and data sources."""
    names = {
        "tasks": cards.list_tasks(),
        "models": cards.list_models(),
        "attention": registry.attention_rules.names(),
        "generators": registry.generators.names(),
        "sources": registry.sources.names(),
    }
    if what != "all" and what not in names:
        raise BenchError(f"list '{what}': give one of {', '.join(names)}, all")
    registries = (registry.models, registry.attention_rules, registry.generators, registry.sources)
    broken = {name: reason for each in registries for name, reason in each.broken_plugins().items()}
    shown = names if what == "all" else {what: names[what]}
    if as_json:
        _print_json({**shown, "broken": broken})
        return
    console = Console()
    titles = {name: cards.load_task(name).title for name in shown.get("tasks", [])}
    titles |= {name: cards.load_baseline(name).title for name in cards.list_baselines() if "models" in shown}
    for kind, members in shown.items():
        table = Table(title=kind, title_justify="left", title_style="bold", box=None, show_header=False, padding=(0, 2))
        for name in members:
            table.add_row(name, titles.get(name, ""))
        console.print(table)
    if "models" in shown:
        console.print("  --model also takes timm/NAME, package.module:build and the path of a card", style="dim")
    for name, reason in broken.items():
        console.print(f"broken plug-in {name}: {reason}", style="red", markup=False)


@app.command()
def describe(
    name: Annotated[str, typer.Argument(help="A task or a model.")],
    task: Annotated[str, typer.Option("--task", help="The task a model is built for.")] = cards.DEFAULT_TASK,
    data_root: RootOption = None,
    as_json: JsonOption = False,
) -> None:
    """Describe a task (its rule, levels and protocols) or a model (its size and cost on a task)."""
    from multistep_bench.reporting.describe import describe_model, describe_task, print_description

    content = describe_task(cards.load_task(name)) if _is_task(name) else describe_model(name, task, data_root)
    if as_json:
        _print_json(content)
    else:
        print_description(Console(), content)


@app.command()
def preview(
    task: Annotated[str, typer.Argument(help="A task's id, or the path of a card.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="PNG to write [default: TASK.png]")] = None,
    n: Annotated[int, typer.Option("--samples", "-n", min=1, max=64, help="Samples to draw.")] = 12,
    seed: Annotated[int, typer.Option(help="Seed of the samples.")] = 0,
    settings: Annotated[list[str] | None, typer.Option("--set", help="task.KEY=VALUE")] = None,
    data_root: RootOption = None,
    as_json: JsonOption = False,
) -> None:
    """Draw samples of a task with targets and steps under each."""
    from multistep_bench.generators.task import make_task
    from multistep_bench.reporting.preview import preview as draw

    changes = {}
    for key, value in _changes(settings or []).items():
        if not key.startswith("task."):
            raise CardError(f"--set {key}: a preview takes only keys that start with task.")
        changes[key.removeprefix("task.")] = value
    card = cards.load_task(task)
    path = out or Path(f"{card.id}.png")
    draw(make_task(card, data_root, **changes), path, n=n, seed=seed)
    if as_json:
        _print_json({"task": card.id, "path": str(path), "n": n, "seed": seed})
    else:
        print(path)


@app.command()
def check(
    card: Annotated[str, typer.Argument(help="A task's id, or the path of a card.")],
    data_root: RootOption = None,
    as_json: JsonOption = False,
) -> None:
    """Validate a task card, recompute its levels and the hash of its batches, and time its generator."""
    from multistep_bench.generators.check import check_card

    result = check_card(cards.load_task(card), data_root)
    if as_json:
        _print_json(result.to_dict())
    else:
        for entry in result.lines():
            print(entry)
    raise typer.Exit(0 if result.ok else 1)


@app.command("score")
def score_runs(runs: RunFolders, as_json: JsonOption = False) -> None:
    """Score runs from their raw curves."""
    from multistep_bench.scoring.score import score

    _print_score(score(runs), Console(), as_json)


@app.command()
def compare(run_a: Path, run_b: Path, as_json: JsonOption = False) -> None:
    """Compare two runs of the same task and protocol, with intervals and tests."""
    from multistep_bench.reporting.console import print_comparison
    from multistep_bench.scoring.compare import compare as compare_runs

    comparison = compare_runs(run_a, run_b)
    if as_json:
        _print_json(comparison.to_dict())
    else:
        print_comparison(Console(), comparison)


@app.command()
def report(
    runs: RunFolders,
    out: Annotated[Path, typer.Option("--out", "-o", help="HTML file to write.")] = Path("report.html"),
) -> None:
    """Write one self-contained page on runs: scores, curves, survival, every cell, how to reproduce."""
    from multistep_bench.reporting.report import write_report
    from multistep_bench.scoring.score import score
    from multistep_bench.training.record import read_run

    read = [read_run(folder) for folder in runs]
    print(write_report(read, score(read), out))


@app.command()
def plot(
    runs: RunFolders,
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write: .png, .svg or .pdf.")] = Path("curves.png"),
    kind: Annotated[str, typer.Option(help="curves, survival, rates or robustness.")] = "curves",
) -> None:
    """Draw one figure of runs, as wide as a paper's column or page."""
    from multistep_bench.reporting import plots
    from multistep_bench.scoring.score import score
    from multistep_bench.training.record import read_run

    read = [read_run(folder) for folder in runs]
    scored = score(read)
    draw = {
        "curves": lambda: plots.plot_curves(read, scored, out),
        "survival": lambda: plots.plot_survival(scored, out),
        "rates": lambda: plots.plot_by_rate(scored, out),
        "robustness": lambda: plots.plot_robustness(scored, out),
    }
    if kind not in draw:
        raise NotFound("kind of plot", kind, draw, f"one of {', '.join(draw)}")
    print(draw[kind]())


@app.command()
def bench(
    what: Annotated[str, typer.Argument(help="data, attention, quick, cells, paper, scaling or all.")] = "all",
    seconds: Annotated[float, typer.Option(min=0, help="How long each comparison is repeated.")] = 2.0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="JSON file to write.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure the suite itself on this machine, beside plain references in the same run."""
    from multistep_bench import bench as benchmarks
    from multistep_bench.training.folder import atomic_file

    console = Console()
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
        _print_json(results)


@data_app.command("check")
def data_check(data_root: RootOption = None, as_json: JsonOption = False) -> None:
    """Look for every data set, verify what is found and say where it is."""
    from multistep_bench.sources.check import check_data

    found = check_data(data_root)
    if as_json:
        _print_json([vars(entry) for entry in found])
        return
    table = Table(box=None)
    for column in ("source", "status", "where", "message"):
        table.add_column(column)
    for entry in found:
        table.add_row(entry.source, entry.status, str(entry.where or ""), entry.message)
    Console().print(table)


def _print_estimate(
    task: str,
    model: str,
    protocol: str,
    changes: dict[str, Any],
    device: str,
    workers: int | None,
    data_root: Path | None,
    as_json: bool,
) -> None:
    from multistep_bench.reporting.describe import print_description
    from multistep_bench.training.estimate import estimate
    from multistep_bench.training.plan import plan

    costs = estimate(plan(task, model, protocol, changes, data_root), data_root, device=device, workers=workers)
    if as_json:
        _print_json(costs.to_dict())
    else:
        print_description(Console(), costs.for_a_person())


def _print_run(done: "Run", console: Console, as_json: bool) -> None:
    from multistep_bench.reporting.plots import plot_curves
    from multistep_bench.scoring.score import score

    result = score([done])
    picture = done.path / "curves.png"
    plot_curves([done], result, picture)
    if as_json:
        _print_json({"run": str(done.path), "plot": str(picture), "score": result.to_dict()})
    else:
        _print_score(result, console, as_json)
        console.print(f"curves: {picture}", markup=False, soft_wrap=True)
    failed = [record for record in done.records if record.outcome.status == "failed"]
    missing = len(done.spec.cells()) - len(done.records)
    if failed or missing:
        reasons = sorted({record.outcome.reason or "" for record in failed})
        raise BenchError(
            f"{len(failed) + missing} of {len(done.spec.cells())} cells did not finish"
            + (f" ({'; '.join(reasons[:3])})" if reasons else "")
            + "; the same command tries them again"
        )


def _print_score(result: "Score", console: Console, as_json: bool) -> None:
    if as_json:
        _print_json(result.to_dict())
    else:
        from multistep_bench.reporting.console import print_score

        print_score(console, result)


def _print_json(content: Any) -> None:
    print(json.dumps(content, indent=1, allow_nan=False))


def _is_task(name: str) -> bool:
    """Whether `describe` was asked about a task; a card tells by its keys."""
    if cards.is_card_path(name):
        return not {"generator", "base"}.isdisjoint(cards.read_toml(Path(name)))
    if name in cards.list_models() or name.startswith("timm/") or ":" in name:
        return False
    if name in cards.list_tasks():
        return True
    raise NotFound("task or model", name, [*cards.list_tasks(), *cards.list_models()], "mstep-bench list")


def _changes(
    settings: list[str], lr: str | None = None, seeds: int | None = None, budget: int | None = None
) -> dict[str, Any]:
    """--set KEY=VALUE pairs and the short options as changes; a value is read as TOML, else as text."""
    changes: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key:
            raise BenchError(f"--set {setting}: write KEY=VALUE, as in task.same_probability=0.9")
        try:
            changes[key] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            changes[key] = text
    if lr is not None:
        changes["protocol.learning_rates"] = _rates(lr)
    if seeds is not None:
        changes["protocol.seeds"] = seeds
    if budget is not None:
        changes["protocol.budget"] = budget
    return changes


def _rates(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise BenchError(f"--lr {text}: give numbers separated by commas, as in 1e-3,3e-3") from None
