"""The commands that list and show tasks, models, samples and data."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from multistep_bench import cards, registry
from multistep_bench.cli.app import JsonOption, RootOption, TrustOption, app, changes_from
from multistep_bench.errors import BenchError, CardError, NotFound
from multistep_bench.protocol import OPTIMIZERS
from multistep_bench.reporting.terminal import Terminal, print_json, print_whole, say

data_app = typer.Typer(help="The data files that tasks read.", no_args_is_help=True)
app.add_typer(data_app, name="data")


@app.command("list")
def list_names(
    what: Annotated[
        str, typer.Argument(help="tasks, models, optimizers, attention, generators, sources or all.")
    ] = "all",
    every: Annotated[bool, typer.Option("--all", help="Also every name of timm and Hugging Face.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List tasks, models, optimisers, attention rules, generators and data sources."""
    names = {
        "tasks": cards.list_tasks(),
        "models": cards.list_models(),
        "optimizers": list(OPTIMIZERS),
        "attention": registry.attention_rules.names(),
        "generators": registry.generators.names(),
        "sources": registry.sources.names(),
    }
    if what != "all" and what not in names:
        raise BenchError(f"list '{what}': give one of {', '.join(names)}, all")
    registries = (registry.models, registry.attention_rules, registry.generators, registry.sources)
    broken = {name: reason for each in registries for name, reason in each.broken_plugins().items()}
    shown = names if what == "all" else {what: names[what]}
    if every:
        _add_libraries(shown)
    if as_json:
        print_json({**shown, "broken": broken})
        return
    console = Terminal()
    titles = {name: cards.load_task(name).title for name in shown.get("tasks", [])}
    titles |= {name: cards.load_baseline(name).title for name in cards.list_baselines() if "models" in shown}
    for kind, members in shown.items():
        table = Table(title=kind, title_justify="left", title_style="bold", box=None, show_header=False, padding=(0, 2))
        for name in members:
            table.add_row(name, titles.get(name, ""))
        print_whole(console, table)
    if "models" in shown:
        console.print(
            "  --model also takes timm/NAME, hf/NAME, package.module:build and the path of a card", style="dim"
        )
    if "optimizers" in shown and not every:
        console.print("  protocol.optimizer also takes timm/NAME; list optimizers --all names them", style="dim")
    for name, reason in broken.items():
        console.print(f"broken plug-in {name}: {reason}", style="red")


def _add_libraries(names: dict[str, list[str]]) -> None:
    """Adds what the installed libraries offer to the models and optimisers that are listed; imports them."""
    if "models" in names:
        from multistep_bench.models.libraries import library_names

        names["models"] += library_names()
    if "optimizers" in names:
        from multistep_bench.training.optimizers import optimizer_names

        names["optimizers"] = optimizer_names()


@app.command()
def describe(
    name: Annotated[str, typer.Argument(help="A task, a model, an attention rule, a generator or a data source.")],
    task: Annotated[
        str | None, typer.Option("--task", help="The task a model is built for, for its size and cost.")
    ] = None,
    protocol: Annotated[
        str | None, typer.Option("--protocol", help="Only this protocol of a task, its learning rate plotted.")
    ] = None,
    data_root: RootOption = None,
    trusted: TrustOption = None,
    as_json: JsonOption = False,
) -> None:
    """Describe a task (rule, levels, protocols), a model (options; with --task size and cost), or a part of them."""
    from multistep_bench.reporting import describe as of

    kind, part = _kind(name)
    for option, value, whose in (("--protocol", protocol, "task"), ("--task", task, "model")):
        if value is not None and kind != whose:
            raise BenchError(f"{option} {value}: '{name}' is no {whose} (but of kind {kind}); leave it out")
    if part is not None:
        content = of.describe_part(part, name)
    elif kind == "model":
        content = of.describe_card(name) if task is None else of.describe_model(name, task, data_root)
    elif protocol is not None:
        content = of.describe_protocol(cards.load_task(name), protocol)
    else:
        content = of.describe_task(cards.load_task(name))
    if as_json:
        print_json(content)
    else:
        of.print_description(Terminal(), content)


@app.command()
def preview(
    task: Annotated[str, typer.Argument(help="A task's id, or the path of a card.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File to write: .png, .svg or .pdf [default: TASK.png]")
    ] = None,
    n: Annotated[int, typer.Option("--samples", "-n", min=1, max=64, help="Samples to draw.")] = 12,
    seed: Annotated[int, typer.Option(help="Seed of the samples.")] = 0,
    settings: Annotated[list[str] | None, typer.Option("--set", help="task.KEY=VALUE")] = None,
    data_root: RootOption = None,
    trusted: TrustOption = None,
    as_json: JsonOption = False,
) -> None:
    """Draw samples of a task with targets and steps under each."""
    from multistep_bench.generators.task import make_task
    from multistep_bench.reporting.preview import preview as draw

    changes = {}
    for key, value in changes_from(settings or []).items():
        if not key.startswith("task."):
            raise CardError(f"--set {key}: a preview takes only keys that start with task.")
        changes[key.removeprefix("task.")] = value
    card = cards.load_task(task)
    path = out or Path(f"{card.id}.png")
    draw(make_task(card, data_root, **changes), path, n=n, seed=seed)
    if as_json:
        print_json({"task": card.id, "path": str(path), "n": n, "seed": seed})
    else:
        say(str(path))


@app.command()
def check(
    card: Annotated[str, typer.Argument(help="A task's id, or the path of a card.")],
    gate: Annotated[
        bool, typer.Option("--gate", help="Train an oracle, fixed attention and softmax: is the plateau attention's?")
    ] = False,
    protocol: Annotated[str | None, typer.Option(help="With --gate: a protocol of the task [default: quick]")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="With --gate: as `run` takes them.")] = None,
    out: Annotated[Path | None, typer.Option(help="With --gate: folder of the runs [default: runs/TASK/gate]")] = None,
    family: Annotated[
        str | None, typer.Option(help="With --gate: vit, gpt or bert [default: by the task's kind]")
    ] = None,
    device: Annotated[str | None, typer.Option(help="With --gate: as `run` takes it.")] = None,
    workers: Annotated[int | None, typer.Option(help="With --gate: processes on a CPU [default: one a core]")] = None,
    data_root: RootOption = None,
    trusted: TrustOption = None,
    as_json: JsonOption = False,
) -> None:
    """Validate a task card, recompute its levels and the hash of its batches, and time its generator.

    With --gate, train instead: is the task's plateau one of attention? Exit code 1 where the runs do not decide it.
    """
    options = {"protocol": protocol, "set": settings, "out": out, "family": family, "device": device} | {
        "workers": workers
    }
    if gate:
        from multistep_bench.cli.gate import check_gate

        execution = {"device": device or "auto", "workers": workers, "data_root": data_root}
        changes = changes_from(settings or [])
        name = protocol or cards.DEFAULT_PROTOCOL
        raise typer.Exit(check_gate(card, name, out, as_json, family=family, changes=changes, **execution))
    for option, value in options.items():
        if value is not None:
            raise BenchError(f"--{option} {value}: only a gate is trained; add --gate or leave out --{option}")
    from multistep_bench.generators.check import check_card

    draft, missing = cards.load_draft(card)
    result = check_card(draft, data_root, missing)
    if as_json:
        print_json(result.to_dict())
    else:
        for entry in result.lines():
            say(entry)
    raise typer.Exit(0 if result.ok else 1)


@data_app.command("download")
def data_download(
    names: Annotated[list[str], typer.Argument(metavar="SOURCE...", help="As `list sources` names them.")],
    data_root: RootOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fetch the files of data sources, which a run does too when it needs them, and verify them."""
    from multistep_bench.sources.check import download

    found = [download(name, data_root) for name in names]
    if as_json:
        print_json([vars(entry) for entry in found])
    else:
        for entry in found:
            say(f"{entry.source}: {entry.where or 'no files'} ({entry.message})")


@data_app.command("check")
def data_check(data_root: RootOption = None, as_json: JsonOption = False) -> None:
    """Look for every data set, verify the files found and print where they are."""
    from multistep_bench.sources.check import check_data

    found = check_data(data_root)
    if as_json:
        print_json([vars(entry) for entry in found])
        return
    table = Table.grid(padding=(0, 2, 0, 0))
    for entry in found:
        table.add_row(entry.source, entry.status, f"{entry.where}: {entry.message}" if entry.where else entry.message)
    print_whole(Terminal(), table)


def _kind(name: str) -> tuple[str, registry.Registry | None]:
    """What a name given to `describe` is, and the registry of a part; a card is recognised by its keys."""
    if cards.is_card_path(name):
        keys = cards.read_toml(Path(name))
        return ("model" if {"generator", "base"}.isdisjoint(keys) else "task"), None
    if name in cards.list_models() or name.startswith(("timm/", "hf/")) or ":" in name:
        return "model", None
    if name in cards.list_tasks():
        return "task", None
    parts = (registry.attention_rules, registry.generators, registry.sources)
    for part in parts:
        if name in part.names():
            return part.kind, part
    known = [*cards.list_tasks(), *cards.list_models(), *(each for part in parts for each in part.names())]
    raise NotFound("task, model or part of one", name, known, "mstep-bench list")
