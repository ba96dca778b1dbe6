"""Boards, runs and entries made without training: curves with the noise of counts, on a card that ships."""

import json
import shutil
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from multistep_bench.cards import Recipe, load_task
from multistep_bench.generators.base import TaskGenerator
from multistep_bench.generators.task import make_task
from multistep_bench.leaderboard.entry import ENTRY_FILE, EntryFile, make_entry_file
from multistep_bench.leaderboard.reading import read_entry
from multistep_bench.leaderboard.submission import submit
from multistep_bench.runs.record import (
    SPEC_FILE,
    CellReference,
    Evaluation,
    EvaluationSet,
    Header,
    Outcome,
    TaskReference,
    line,
    record_path,
)
from multistep_bench.runs.spec import Cell, ModelSpec, RunSpec
from multistep_bench.scoring.score import score
from multistep_bench.training.trainer import draw_evaluation

TASK = "two_step_digits-v1"
URL = "https://example.org/model"
ROOT = Path(__file__).resolve().parents[1]


def make_board(folder: Path) -> Path:
    """A board without entries: the checkout's suites and an empty table."""
    folder.mkdir(parents=True)
    shutil.copyfile(ROOT / "leaderboard" / "suites.toml", folder / "suites.toml")
    shutil.copyfile(ROOT / "leaderboard" / "README.md", folder / "README.md")
    return folder


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
    folder: Path, *, noise: int = 0, leap: float | None = 0.4, spec: RunSpec | None = None, **keys: Any
) -> Path:
    """A complete run folder; `leap` is where in the budget every second cell leaps, None for never."""
    spec = spec or make_spec(**keys)
    (folder / "cells").mkdir(parents=True)
    (folder / SPEC_FILE).write_text(line(spec))
    for number, cell in enumerate(spec.cells()):
        rng = np.random.default_rng([noise, number])
        write_record(folder, spec, cell, curve(spec, rng, leap if number % 2 == 0 else None))
    return folder


def curve(spec: RunSpec, rng: np.random.Generator, leap: float | None) -> list[Evaluation]:
    """Evaluations of a model that rests on the shortcut and, perhaps, leaps."""
    protocol, levels = spec.protocol, spec.task.levels
    items = protocol.evaluation_items
    share = np.linspace(0, 1, protocol.evaluations + 1)
    accuracy = levels.chance + (levels.floor - levels.chance) * np.minimum(share / 0.08, 1)
    if leap is not None:
        accuracy = accuracy + (0.97 - levels.floor) / (1 + np.exp(-(share - leap) / 0.01))
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


def write_record(folder: Path, spec: RunSpec, cell: Cell, evaluations: list[Evaluation], **header: Any) -> Path:
    """The record of a completed cell; `header` replaces keys of its first line."""
    first = Header(
        **{
            "spec_sha256": spec.sha256(),
            "task": TaskReference(id=spec.task.id, sha256=spec.task.sha256(), protocol=spec.protocol_name),
            "protocol": spec.protocol,
            "model": spec.model,
            "cell": CellReference(
                rate_index=cell.rate_index,
                learning_rate=spec.learning_rate(cell),
                seed_index=cell.seed_index,
                seed=cell.seed(spec.task.id, "init"),
            ),
            "evaluation": evaluation_set(spec.task.id, spec.protocol_name, cell),
            "engine": "made by the tests",
            "versions": {"multistep_bench": "0"},
            "hardware": {"device": "cpu"},
            "attempts": 1,
            **header,
        }
    )
    outcome = Outcome(status="completed", samples=evaluations[-1].samples, seconds=evaluations[-1].seconds)
    path = record_path(folder, cell)
    path.write_text("".join(map(line, [first, *evaluations, outcome])))
    return path


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
        list(zip(read.runs, score(read.runs).runs, read.spec_hashes, strict=True)),
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


def edit_record(
    entry: Path, cell: str, edit: Callable[[list[dict[str, Any]]], None], *, task: str = TASK, signed: bool = True
) -> None:
    """Changes the lines of one record, as plain data, in place; `signed`: with hashes and scores that fit."""
    path = entry / "runs" / task / "cells" / f"{cell}.jsonl"
    lines = [json.loads(each) for each in path.read_text().splitlines()]
    edit(lines)
    path.write_text("".join(json.dumps(each, separators=(",", ":")) + "\n" for each in lines))
    if signed:
        sign(entry)
