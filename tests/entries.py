"""Boards, runs and entries made without training: curves with the noise of counts, on a card that ships."""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from multistep_bench.cards import load_task
from multistep_bench.generators.base import TaskGenerator
from multistep_bench.generators.task import make_task
from multistep_bench.leaderboard.entry import ENTRY_FILE, Entry, EntryFile, make_entry_file
from multistep_bench.leaderboard.reading import read_entry
from multistep_bench.leaderboard.references import references
from multistep_bench.leaderboard.site.build import reference_candidates
from multistep_bench.leaderboard.submission import submit
from multistep_bench.leaderboard.verify import reference_traces
from multistep_bench.protocol import Recipe
from multistep_bench.runs.events import Environment, Evaluation, EvaluationSet, Outcome
from multistep_bench.runs.record import Curve, Record
from multistep_bench.runs.spec import Cell, ModelSpec, RunSpec
from multistep_bench.runs.store import RUN_FILE, Run, read_run
from multistep_bench.scoring.score import score
from multistep_bench.training.data import draw_evaluation

TASK = "two_step_digits-v1"
URL = "https://example.org/model"
ROOT = Path(__file__).resolve().parents[1]


def make_board(folder: Path) -> Path:
    """A board without entries: the checkout's suites and an empty table."""
    folder.mkdir(parents=True)
    shutil.copyfile(ROOT / "leaderboard" / "suites.toml", folder / "suites.toml")
    shutil.copyfile(ROOT / "leaderboard" / "README.md", folder / "README.md")
    return folder


def forget_references() -> None:
    """Has the references read and judged anew, where a test changes them."""
    for kept in (references, reference_traces, reference_candidates):
        kept.cache_clear()


def reference(name: str, task: str = TASK, protocol: str = "quick") -> Entry:
    """A committed run as an entry of it alone."""
    found = [(entry, run) for entry in references() if entry.name == name for run in entry.runs]
    ((entry, run),) = [each for each in found if (each[1].spec.task.id, each[1].spec.protocol_name) == (task, protocol)]
    return replace(entry, runs=(run,))


def make_spec(
    protocol: str = "smoke",
    *,
    task: str = TASK,
    model: str = "mine:build",
    parameters: int = 1000,
    changes: Mapping[str, Any] | None = None,
    **model_keys: Any,
) -> RunSpec:
    """The specification of a run of a shipped card; `changes` are of the protocol, as in `plan`."""
    card = load_task(task)
    changed = {key.partition(".")[2]: value for key, value in (changes or {}).items()}
    settings = {**card.protocol(protocol).model_dump(), **changed}
    content = {**card.model_dump(), "protocols": {protocol: settings}, "size": settings["size"] or card.size}
    spec = {
        "name": model,
        "builder": model,
        "config": {},
        "recipe": Recipe(),
        "leaderboard": True,
        "parameters": parameters,
        "flops_per_sample": 2000,
        "code_sha256": "0" * 64,
        **model_keys,
    }
    return RunSpec(
        task=type(card).model_validate(content),
        protocol_name=protocol,
        model=ModelSpec.model_validate(spec),
        changes=dict(changes or {}),
    )


def make_run(
    folder: Path, *, noise: int = 0, jump: float | None = 0.4, spec: RunSpec | None = None, **keys: Any
) -> Path:
    """A complete run folder; `jump` is where in the budget every second cell jumps, None for never."""
    spec = spec or make_spec(**keys)
    records = [
        make_record(spec, cell, curve(spec, np.random.default_rng([noise, number]), jump if number % 2 == 0 else None))
        for number, cell in enumerate(spec.cells())
    ]
    folder.mkdir(parents=True)
    (folder / RUN_FILE).write_bytes(Run(folder, spec, records).packed)
    return folder


def curve(spec: RunSpec, rng: np.random.Generator, jump: float | None) -> list[Evaluation]:
    """Evaluations of a model that plateaus at the shortcut and, perhaps, jumps."""
    protocol, levels = spec.protocol, spec.task.levels
    items = protocol.evaluation_items
    share = np.linspace(0, 1, protocol.evaluations + 1)
    accuracy = levels.chance + (levels.floor - levels.chance) * np.minimum(share / 0.08, 1)
    if jump is not None:
        accuracy = accuracy + (0.97 - levels.floor) / (1 + np.exp(-(share - jump) / 0.01))
    counts = rng.binomial(items, np.clip(accuracy, 0, 1))
    losses = (1 - counts / items) * 1.2 + 0.05 + 0.02 * rng.random(len(counts))
    return [
        Evaluation(
            samples=index * protocol.interval,
            correct=int(count),
            loss=float(loss),
            train_loss=float(loss) if index else None,
            seconds=0.25 * index,
        )
        for index, (count, loss) in enumerate(zip(counts, losses, strict=True))
    ]


ENVIRONMENT = Environment(
    engine="one cell at a time",
    versions={"multistep_bench": "0.1.0", "torch": "2.14.1", "python": "3.11.7"},
    hardware={"device": "cpu", "machine": "made by the tests"},
)


def make_record(spec: RunSpec, cell: Cell, evaluations: list[Evaluation], **keys: Any) -> Record:
    """The record of a completed cell; `keys` replace fields of it."""
    outcome = Outcome(status="completed", samples=evaluations[-1].samples, seconds=evaluations[-1].seconds)
    items = evaluation_set(spec.task.id, spec.protocol_name, cell)
    if spec.protocol.evaluation_items > items.items:
        items = EvaluationSet(items=spec.protocol.evaluation_items, sha256=items.sha256)
    return replace(Record.of_events(cell, ENVIRONMENT, 1, (items, {}), evaluations, outcome), **keys)


@cache
def evaluation_set(task: str, protocol: str, cell: Cell) -> EvaluationSet:
    return draw_evaluation(make_spec(protocol, task=task), cell, _generator(task), torch.device("cpu")).description


@cache
def _generator(task: str) -> TaskGenerator:
    return make_task(task)


def make_entry(board: Path, name: str = "mine", *, declared_open: bool = False, **keys: Any) -> Path:
    """A submitted entry of one synthetic run; `keys` as for `make_run`."""
    run = make_run(board.parent / "runs" / name, **keys)
    return submit([run], name, URL, declared_open=declared_open, board=board).folder


def sign(entry: Path, **changes: Any) -> None:
    """Makes every hash and score of an entry's entry.json fit its files again, as a forger would."""
    read = read_entry(entry)
    assert read.file is not None
    fresh = make_entry_file(
        changes.get("name", read.name),
        changes.get("url", read.url),
        changes.get("track", read.track),
        list(zip(read.runs, score(read.runs).runs, strict=True)),
    )
    write_entry_file(entry, fresh)


def edit_entry_file(entry: Path, edit: Callable[[dict[str, Any]], None], *, rooted: bool = True) -> None:
    """Changes the content of entry.json in place; `rooted`: with the root that belongs to it."""
    content = json.loads((entry / ENTRY_FILE).read_text())
    edit(content)
    file = EntryFile.model_validate(content)
    write_entry_file(entry, file.model_copy(update={"root": file.computed_root()}) if rooted else file)


def write_entry_file(entry: Path, file: EntryFile) -> None:
    (entry / ENTRY_FILE).write_text(file.model_dump_json(by_alias=True, indent=1) + "\n")


def change_runs(
    entry: Path, change: Callable[[Record], Record | None], *, task: str = TASK, signed: bool = True
) -> None:
    """Replaces each record of a run of an entry, None removes it; `signed`: with hashes and scores that fit."""
    path = entry / "runs" / f"{task}.jsonl"
    run = read_run(path)
    records = [new for record in run.records if (new := change(record)) is not None]
    path.write_bytes(Run(path, run.spec, records).packed)
    if signed:
        sign(entry)


def change_record(entry: Path, cell: str, change: Callable[[Record], Record], *, signed: bool = True) -> None:
    """Replaces one record of an entry."""
    change_runs(entry, lambda record: change(record) if record.cell.name == cell else record, signed=signed)


def with_arrays(record: Record, **arrays: Any) -> Record:
    """A record with other arrays: correct, loss, train_loss, seconds; or with other items."""
    items, sha256 = arrays.pop("items", record.curve.set.items), arrays.pop("sha256", record.curve.set.sha256)
    curve = Curve(
        EvaluationSet(items=items, sha256=sha256),
        np.asarray(arrays.pop("correct", record.curve.correct)),
        np.asarray(arrays.pop("loss", record.curve.loss), dtype=np.float64),
    )
    further = {name: np.asarray(values, dtype=np.float64) for name, values in arrays.items()}
    return replace(record, curve=curve, **further)
