"""Sweeps: several models, tasks and named changes as one pool of cells, a run folder for each combination."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Unpack

from pydantic import Field

from multistep_bench.cards import DEFAULT_PROTOCOL, DEFAULT_TASK, read_toml
from multistep_bench.errors import BenchError, CardError, RunError
from multistep_bench.models.local import Model, name_of
from multistep_bench.runs.folder import RunFolder
from multistep_bench.runs.spec import RunSpec
from multistep_bench.runs.store import Run
from multistep_bench.strict import Strict, validated
from multistep_bench.training.launch import Place, Reasons, launch_all
from multistep_bench.training.plan import default_folder, folder_name, plan
from multistep_bench.training.relay import NullObserver, Observer

UNCHANGED: dict[str, dict[str, Any]] = {"": {}}


class Sweep(Strict):
    """Every combination of tasks, models and variants under one protocol.

    tasks, models: names, or paths of cards as `run` takes them. protocol: one that each task has.
    variants: name → changes, keys as in `plan`; without any, the models as they are.
    changes:  of every run, under those of its variant.
    """

    tasks: tuple[str, ...] = Field(default=(DEFAULT_TASK,), min_length=1, strict=False)
    models: tuple[str, ...] = Field(min_length=1, strict=False)
    protocol: str = DEFAULT_PROTOCOL
    variants: dict[str, dict[str, Any]] = Field(default_factory=dict)
    changes: dict[str, Any] = Field(default_factory=dict)


class SweepFile(Strict):
    """A file of sweeps that are trained as one: tables [[sweep]]."""

    sweep: tuple[Sweep, ...] = Field(min_length=1, strict=False)


@dataclass(frozen=True)
class Member:
    """One run of a sweep: its specification, its name among the others, its folder."""

    spec: RunSpec
    name: str
    folder: Path


def read_sweeps(path: str | Path) -> tuple[Sweep, ...]:
    """The sweeps of a TOML file; raises `CardError` for what is wrong with it, all problems at once."""
    return validated(SweepFile, read_toml(Path(path)), str(path)).sweep


def plan_sweeps(
    sweeps: Sequence[Sweep],
    out: str | Path | None = None,
    data_root: str | Path | None = None,
    *,
    tell: Callable[[str], None] = lambda name: None,
) -> list[Member]:
    """The runs of sweeps, in order; writes nothing.

    out:  the root: a run lies in ROOT/TASK/MODEL[-VARIANT]/PROTOCOL. By default in ./runs, and then the last part ends
          with a hash of the specification, as that of a single run does.
    tell: called with the name of each run before it is planned, for that takes a second or two.
    Raises `BenchError` naming the run that could not be trained, and for two runs of one name.
    """
    members: list[Member] = []
    for sweep in sweeps:
        for task in sweep.tasks:
            for model in sweep.models:
                for variant, changes in (sweep.variants or UNCHANGED).items():
                    tell(f"{model}{f' ({variant})' if variant else ''} on {task}")
                    members.append(_member(sweep, task, model, variant, changes, out, data_root))
    for place, member in enumerate(members):
        for other in members[:place]:
            if other.folder == member.folder:
                raise RunError(
                    f"two runs of the sweep would share the folder {member.folder} ({other.name});"
                    " name each combination once, or give one of them a variant of its own"
                )
    return members


def _member(
    sweep: Sweep,
    task: str,
    model: str,
    variant: str,
    changes: Mapping[str, Any],
    out: str | Path | None,
    data_root: str | Path | None,
) -> Member:
    if variant and folder_name(variant) != variant:
        raise CardError(f"variant '{variant}': letters, digits, _ . and - are a variant's name, for its folder has it")
    try:
        spec = plan(task, model, sweep.protocol, {**sweep.changes, **changes}, data_root)
    except BenchError as error:
        raise RunError(f"{model} on {task} cannot be part of the sweep, so nothing was trained: {error}") from None
    name = member_name(spec.model.name, variant)
    if out is None:
        folder = default_folder(spec, variant)
    else:
        folder = Path(out) / spec.task.id / folder_name(name) / spec.protocol_name
    return Member(spec, f"{name} on {spec.task.id}", folder)


def member_name(model: str, variant: str) -> str:
    """MODEL or MODEL-VARIANT: what a run of a sweep is called, and its folder."""
    return f"{model}-{variant}" if variant else model


def launch_sweep(
    members: Sequence[Member],
    data_root: str | Path | None = None,
    *,
    observers: Sequence[Observer] | None = None,
    **place: Unpack[Place],
) -> list[Run]:
    """Trains what is unfinished of the runs of a sweep, as one pool over all their cells; see `launch_all`."""
    for member in members:  # before any folder is made
        RunFolder(member.folder, member.spec).check()
    return launch_all([(member.spec, member.folder) for member in members], data_root, observers=observers, **place)


def sweep(
    tasks: Sequence[str | Path] = (DEFAULT_TASK,),
    models: Sequence[Model] = ("vit",),
    protocol: str = DEFAULT_PROTOCOL,
    out: str | Path | None = None,
    *,
    variants: Mapping[str, Mapping[str, Any]] | None = None,
    changes: Mapping[str, Any] | None = None,
    data_root: str | Path | None = None,
    on_failure: Literal["raise", "keep"] = "raise",
    observers: Callable[[Sequence[Member]], Sequence[Observer]] | None = None,
    **place: Unpack[Place],
) -> list[Run]:
    """Trains every combination of tasks, models and variants as one pool of cells, and resumes what is there.

    tasks, models, protocol, variants, changes: see `Sweep`; a model may be the class or function that builds it.
    out: see `plan_sweeps`. on_failure: as in `run`. observers: makes one for each run. place: see `Place`.
    Returns the runs in the order tasks, models, variants. Raises `BenchError` before anything is trained for a
    combination that could not be, and, unless they are to be kept, for cells that failed.
    """
    asked = Sweep(
        tasks=tuple(map(str, tasks)),
        models=tuple(str(name_of(model)) for model in models),
        protocol=protocol,
        variants={name: dict(each) for name, each in (variants or {}).items()},
        changes=dict(changes or {}),
    )
    members = plan_sweeps([asked], out, data_root)
    watching = observers(members) if observers else [NullObserver() for _ in members]
    reasons = [Reasons(observer, on_failure) for observer in watching]
    done = launch_sweep(members, data_root, observers=reasons, **place)
    for run, each in zip(done, reasons, strict=True):
        each.check(run)
    return done
