"""What reading and scoring stored runs costs, in processor time and memory, beside parsing the same bytes as JSON."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from multistep_bench.bench.result import Measured
from multistep_bench.bench.timing import interleaved
from multistep_bench.cards import card_folder, load_task
from multistep_bench.runs.events import Environment, EvaluationSet
from multistep_bench.runs.record import Curve, Record
from multistep_bench.runs.spec import Cell, ModelSpec, RunSpec
from multistep_bench.runs.store import RUN_FILE, Run
from multistep_bench.scoring.score import score

MANY = 10_000  # records of one run, as three learning rates
EVALUATIONS = 200
PEAK = """
import json, sys
from multistep_bench.runs.machine import peak_memory
from multistep_bench.scoring.score import score
for path in sys.argv[1:]:
    score([path])
print(json.dumps(peak_memory()))
"""


@dataclass(frozen=True)
class ScoreRow:
    """processor_s: median of reading and scoring; ratio: to parsing the lines. peak_bytes: of a fresh process."""

    what: str
    records: int
    file_bytes: int
    processor_s: float
    json_s: float
    ratio: float
    peak_bytes: int | None
    repeats: int


def measure_scores(seconds: float, device: torch.device) -> Measured:
    """All reference runs, where this is a checkout, and one run of 10,000 records."""
    with tempfile.TemporaryDirectory() as temporary:
        many = Path(temporary) / RUN_FILE
        many.write_bytes(_many_records().packed)
        references = sorted((card_folder("baselines") / "results").glob("*/*/*.jsonl"))
        rows = [_row("reference runs", references, seconds)] if references else []
        rows.append(_row("one run", [many], seconds))
    return Measured(
        reference="json.loads of the same lines, processor time of the same process",
        settings={"threads": 1, "evaluations": EVALUATIONS},
        rows=tuple(rows),
    )


def _row(what: str, files: list[Path], seconds: float) -> ScoreRow:
    times = interleaved({"score": _processor_time(_score, files), "json": _processor_time(_parse, files)}, seconds)
    found = subprocess.run([sys.executable, "-c", PEAK, *map(str, files)], capture_output=True, text=True, check=True)
    ours, theirs = float(np.median(times["score"])), float(np.median(times["json"]))
    return ScoreRow(
        what=what,
        records=sum(file.read_bytes().count(b"\n") - 1 for file in files),
        file_bytes=sum(file.stat().st_size for file in files),
        processor_s=ours,
        json_s=theirs,
        ratio=ours / theirs,
        peak_bytes=json.loads(found.stdout),
        repeats=len(times["score"]),
    )


def _processor_time(call: Callable[[list[Path]], Any], files: list[Path]) -> Callable[[], float]:
    def measure() -> float:
        begin = time.process_time()
        call(files)
        return time.process_time() - begin

    return measure


def _score(files: list[Path]) -> None:
    for file in files:
        score([file])


def _parse(files: list[Path]) -> None:
    for file in files:
        for line in file.read_bytes().splitlines():
            json.loads(line)


def _many_records() -> Run:
    card = load_task("two_step_digits-v1")
    rates = (5e-4, 1e-3, 2e-3)
    protocol = card.protocol("quick").model_copy(
        update={"seeds": -(-MANY // len(rates)), "learning_rates": rates, "evaluations": EVALUATIONS}
    )
    model = ModelSpec(
        name="made up",
        builder="vit",
        config={},
        leaderboard=False,
        parameters=1,
        flops_per_sample=None,
        code_sha256="",
    )
    task = card.model_copy(update={"protocols": {"quick": protocol}})
    spec = RunSpec(task=task, protocol_name="quick", model=model)
    rng, levels, items = np.random.default_rng(0), card.levels, protocol.evaluation_items
    shares = np.linspace(0, 1, EVALUATIONS + 1)
    template = Record(
        cell=Cell(0, 0),
        status="completed",
        reason=None,
        attempts=1,
        environment=Environment(engine="made up", versions={}, hardware={}),
        curve=Curve(EvaluationSet(items=items, sha256=""), np.array([]), np.array([])),
        train_loss=np.r_[np.nan, np.ones(EVALUATIONS)],
        seconds=np.arange(EVALUATIONS + 1.0),
    )
    records = []
    for cell in spec.cells():
        jump = levels.floor + (0.98 - levels.floor) / (1 + np.exp(-(shares - rng.uniform(0.1, 1.5)) / 0.01))
        correct = rng.binomial(items, np.where(shares == 0, levels.chance, jump))
        loss = (1 - correct / items).astype(np.float32).astype(np.float64)
        records.append(replace(template, cell=cell, curve=replace(template.curve, correct=correct, loss=loss)))
    return Run(Path(), spec, records)
