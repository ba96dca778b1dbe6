"""The declared reference runs, baselines/results/sweep.toml: which are missing, and where whole ones go."""

from collections.abc import Iterable, Iterator
from itertools import product
from pathlib import Path

from multistep_bench.errors import RunError
from multistep_bench.runs.store import Run, read_run, write_packed
from multistep_bench.training.sweep import UNCHANGED, Sweep, member_name, read_sweeps

DECLARED = "sweep.toml"


def declared_references(folder: Path) -> Iterator[tuple[str, Sweep]]:
    """TASK/PROTOCOL/MODEL[-VARIANT] of each declared run with a sweep of it alone.

    folder: of the baselines. Raises `CardError` for a file that is no list of sweeps, and `RunError` where there is no
    file, and for one that names a run twice.
    """
    path = folder / "results" / DECLARED
    if not path.is_file():  # as in an installed wheel
        raise RunError(
            f"{path} is not there; reference runs are declared in a checkout of the suite, so run this in one"
        )
    seen: set[str] = set()
    for sweep in read_sweeps(path):
        for task, model, variant in product(sweep.tasks, sweep.models, sweep.variants or UNCHANGED):
            name = f"{task}/{sweep.protocol}/{member_name(model, variant)}"
            if name in seen:
                raise RunError(f"{path} names {name} twice")
            seen.add(name)
            variants = {variant: sweep.variants[variant]} if sweep.variants else {}
            yield name, sweep.model_copy(update={"tasks": (task,), "models": (model,), "variants": variants})


def missing_references(folder: Path, only: str = "") -> dict[str, Sweep]:
    """By name, a sweep for each declared run without a file in results/; only: a part of the names.

    Raises `RunError` where no declared run's name contains `only`.
    """
    declared = dict(declared_references(folder))
    asked = {name: sweep for name, sweep in declared.items() if only in name}
    if not asked:
        raise RunError(
            f"no reference run's TASK/PROTOCOL/MODEL contains '{only}'; {folder / 'results' / DECLARED} declares"
            f" {len(declared)}, such as {next(iter(declared), 'none')}"
        )
    return {name: sweep for name, sweep in asked.items() if not _place(folder, name).exists()}


def whole_runs(names: Iterable[str], root: Path) -> dict[str, Run]:
    """Those of the named runs that lie whole below a sweep's root: no cell missing, none failed."""
    found = {}
    for name in names:
        task, protocol, model = name.split("/")
        path = root / task / model / protocol / "run.jsonl"
        if path.is_file():
            run = read_run(path)
            if not run.missing and not run.failed:  # with a failed cell, the next call tries it again
                found[name] = run
    return found


def collect(folder: Path, root: Path, only: str = "") -> list[str]:
    """Copies the whole ones of the missing runs from below a sweep's root into results/; returns their names."""
    whole = whole_runs(missing_references(folder, only), root)
    for name, run in whole.items():
        place = _place(folder, name)
        place.parent.mkdir(parents=True, exist_ok=True)
        write_packed(place, run)
    return list(whole)


def _place(folder: Path, name: str) -> Path:
    return folder / "results" / f"{name}.jsonl"
