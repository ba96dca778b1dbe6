"""The application that every command registers with, and what commands share."""

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from multistep_bench.errors import BenchError
from multistep_bench.protocol import protocol_changes
from multistep_bench.reporting.terminal import Terminal, print_json, release_stdout, reserve_stdout
from multistep_bench.trusted_code import trust

if TYPE_CHECKING:
    from multistep_bench.scoring.score import Score

app = typer.Typer(
    name="mstep-bench",
    help="Benchmarks how fast, how well and how likely a torch model learns multi-step tasks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

TaskOption = Annotated[str, typer.Option("--task", help="A task's id, or the path of a card.")]


def _reserve_stdout(context: typer.Context, as_json: bool) -> bool:
    """From before a command does anything to its end, so that no print of a model or library gets into its JSON."""
    if as_json:
        reserve_stdout()
        context.call_on_close(release_stdout)
    return as_json


JsonOption = Annotated[
    bool,
    typer.Option("--json", callback=_reserve_stdout, help="Print JSON and nothing else on standard output."),
]
RootOption = Annotated[
    Path | None, typer.Option("--data-root", help="Folder of data files [default: $MULTISTEP_BENCH_DATA, then a cache]")
]


LauncherOption = Annotated[str, typer.Option(help="local, or ray for the machines of a Ray cluster.")]
AddressOption = Annotated[
    str | None,
    typer.Option(help="Of the Ray, HOST:PORT or auto [default: $RAY_ADDRESS, one that runs here, or a new one]"),
]
GpusOption = Annotated[float, typer.Option(help="Share of a GPU that each group of cells takes on Ray.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
WorkersOption = Annotated[int | None, typer.Option(help="Processes on a CPU [default: one a core]")]


def _trust(paths: list[str] | None) -> list[str] | None:
    trust(*paths or ())
    return paths


TrustOption = Annotated[
    list[str] | None,
    typer.Option("--trust", callback=_trust, help="package.module:Name that a card may name; read that code first."),
]
RunFolders = Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders, as `run` printed them.")]
RunPlaces = Annotated[
    list[Path], typer.Argument(metavar="PATH...", help="Run folders, packed files, or folders that are searched.")
]


def print_scores(result: "Score", console: Terminal, as_json: bool) -> None:
    if as_json:
        print_json(result.to_dict())
    else:
        from multistep_bench.reporting.console import print_score

        print_score(console, result)


def changes_from(
    settings: list[str], *, learning_rates: str | None = None, **protocol: int | str | None
) -> dict[str, Any]:
    """--set KEY=VALUE pairs and the short options of a protocol as changes; a value is read as TOML, else as text."""
    changes: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key:
            raise BenchError(f"--set {setting}: write KEY=VALUE, as in task.same_probability=0.9")
        try:
            changes[key] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            changes[key] = text
    rates = None if learning_rates is None else _rates(learning_rates)
    return changes | protocol_changes(learning_rates=rates, **protocol)


def _rates(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise BenchError(f"--lr {text}: give numbers separated by commas, as in 1e-3,3e-3") from None
