"""What `run` does with several models, tasks or variants: one pool over all cells, a run folder for each."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multistep_bench import cards
from multistep_bench.cli.app import changes_from
from multistep_bench.errors import BenchError
from multistep_bench.reporting.terminal import Terminal, print_json

if TYPE_CHECKING:
    from multistep_bench.reporting.logs import Logs
    from multistep_bench.runs.store import Run
    from multistep_bench.training.sweep import Member, Sweep

TIMED_SECONDS_IN_ALL = 60.0  # of a sweep that is priced; of few runs less


def sweeps_from(
    tasks: list[str] | None,
    models: list[str] | None,
    protocol: str | None,
    suite: str | None,
    file: Path | None,
    variants: list[str] | None,
    changes: dict[str, Any],
) -> "tuple[Sweep, ...]":
    """The sweeps that the options of `run` ask for; one of one model and task is a single run."""
    from multistep_bench.training.sweep import Sweep, read_sweeps

    if file is not None:
        given = {"--task": tasks, "--model": models, "--protocol": protocol, "--suite": suite, "--variant": variants}
        if also := [option for option, value in given.items() if value]:
            raise BenchError(f"--sweep {file}: the file names what is trained, so leave out {', '.join(also)}")
        sweeps = read_sweeps(file)
        return tuple(each.model_copy(update={"changes": each.changes | changes}) for each in sweeps)
    if not models:
        raise BenchError("Missing option '--model'. (mstep-bench run --help)")
    if suite is not None:
        if tasks or protocol:
            raise BenchError(f"--suite {suite} names tasks and protocol, so leave out --task and --protocol")
        tasks, protocol = _suite(suite)
    asked = {"tasks": tuple(tasks or [cards.DEFAULT_TASK]), "protocol": protocol or cards.DEFAULT_PROTOCOL}
    return (Sweep(models=tuple(models), variants=_variants(variants or []), changes=changes, **asked),)


def _suite(name: str) -> tuple[list[str], str]:
    from multistep_bench.errors import NotFound
    from multistep_bench.leaderboard.suites import read_suites

    suites = {suite.name: suite for suite in read_suites(cards.card_folder("leaderboard"))}
    if name not in suites:
        raise NotFound("suite", name, suites, f"known: {', '.join(suites)}")
    return list(suites[name].tasks), suites[name].protocol


def _variants(texts: list[str]) -> dict[str, dict[str, Any]]:
    variants: dict[str, dict[str, Any]] = {}
    for text in texts:
        name, colon, setting = text.partition(":")
        if not colon or not name:
            raise BenchError(
                f"--variant {text}: write NAME:KEY=VALUE, as in cold:model.depth=2; NAME: alone is the model as it is"
            )
        variants.setdefault(name, {}).update(changes_from([setting]) if setting else {})
    return variants


def train_sweep(
    sweeps: "Sequence[Sweep]",
    out: Path | None,
    data_root: Path | None,
    console: Terminal,
    as_json: bool,
    logs: "Logs",
    **place: Any,
) -> None:
    """Plans and trains sweeps, with a table of their runs while they train, and prints their scores."""
    from multistep_bench.reporting.sweep_table import make_observers
    from multistep_bench.training.sweep import launch_sweep

    members = _planned(sweeps, out, data_root, console)
    seats = make_observers(console, [(member.spec, member.name) for member in members])
    observers = [logs.beside(seat) for seat in seats]
    done = launch_sweep(members, data_root, observers=observers, **place)
    _print_sweep(members, done, console, as_json)


def _planned(sweeps: "Sequence[Sweep]", out: Path | None, data_root: Path | None, console: Terminal) -> "list[Member]":
    from multistep_bench.training.sweep import plan_sweeps

    if not console.is_terminal:
        return plan_sweeps(sweeps, out, data_root)
    with console.status("planning") as status:
        return plan_sweeps(sweeps, out, data_root, tell=lambda name: status.update(f"planning {name}"))


def _print_sweep(members: "Sequence[Member]", done: "Sequence[Run]", console: Terminal, as_json: bool) -> None:
    from multistep_bench.reporting.score_table import print_score_table
    from multistep_bench.runs.folder import where_tracebacks_are
    from multistep_bench.scoring.score import score

    result = score(list(done))
    if as_json:
        print_json({"runs": [str(run.path) for run in done], "score": result.to_dict()})
    else:
        print_score_table(console, result)
        console.print(f"runs: {os.path.commonpath([run.path for run in done])}", soft_wrap=True)
    broken = [
        f"{member.name}: {len(run.failed) + len(run.missing)} of {len(run.spec.cells())}"
        for member, run in zip(members, done, strict=True)
        if run.failed or run.missing
    ]
    if broken:
        reasons = sorted({record.reason or "" for run in done for record in run.failed})
        raise BenchError(
            f"cells did not finish ({'; '.join(broken[:5])}{f', and {len(broken) - 5} more runs' * (len(broken) > 5)})"
            + (f", because {'; '.join(reasons[:3])}" if reasons else "")
            + where_tracebacks_are(run.path for run in done)
            + "; the same command tries them again"
        )


def print_prices(
    sweeps: "Sequence[Sweep]",
    out: Path | None,
    data_root: Path | None,
    as_json: bool,
    *,
    workers: int | None,
    **options: Any,
) -> None:
    """What each run of a sweep would take, and the whole: no less than its longest cell."""
    from multistep_bench.reporting.sweep_table import print_sweep_prices
    from multistep_bench.training.estimate import TIMED_SECONDS, estimate, together

    console = Terminal(stderr=as_json)
    members = _planned(sweeps, out, data_root, console)
    seconds = min(TIMED_SECONDS, TIMED_SECONDS_IN_ALL / len(members))
    costs = [estimate(member.spec, data_root, workers=workers, seconds=seconds, **options) for member in members]
    whole = together(costs, workers)
    if as_json:
        runs = [
            {"run": member.name, "folder": str(member.folder), **each.to_dict()}
            for member, each in zip(members, costs, strict=True)
        ]
        print_json({"runs": runs, **whole})
    else:
        print_sweep_prices(console, [member.name for member in members], costs, whole)
