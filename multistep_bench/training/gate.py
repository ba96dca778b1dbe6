"""Trains what the gate compares: an oracle, attention that is fixed where the family has one, and softmax."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Unpack

from multistep_bench.batch import TaskInfo
from multistep_bench.cards import DEFAULT_PROTOCOL, list_baselines, load_task
from multistep_bench.errors import NotFound
from multistep_bench.generators.base import TaskGenerator
from multistep_bench.generators.task import make_task
from multistep_bench.runs.store import Run
from multistep_bench.scoring.gate import Gate, Role, judge
from multistep_bench.training.launch import Execution, run
from multistep_bench.training.plan import plan

SUFFIXES: dict[Role, str] = {"oracle": "_oracle", "fixed": "_fixed_regions", "softmax": ""}
FAMILIES = ("vit", "gpt", "bert")


def family_of(task: TaskGenerator, info: TaskInfo) -> str:
    """The family of reference models for a task: "vit" for images, "bert" for masked sequences, else "gpt"."""
    if info.kind == "image":
        return "vit"
    return "bert" if ".masked." in type(task).__module__ else "gpt"


def gate_models(family: str) -> dict[Role, str]:
    """The model of each role of a family, in the order they are trained; raises `NotFound` for another family."""
    if family not in FAMILIES:
        raise NotFound("family of models with an oracle", family, FAMILIES, f"one of {', '.join(FAMILIES)}")
    known = list_baselines()
    return {role: f"{family}{suffix}" for role, suffix in SUFFIXES.items() if f"{family}{suffix}" in known}


def run_gate(
    task: str | Path,
    protocol: str = DEFAULT_PROTOCOL,
    out: str | Path | None = None,
    *,
    family: str | None = None,
    changes: Mapping[str, Any] | None = None,
    data_root: str | Path | None = None,
    **execution: Unpack[Execution],
) -> Gate:
    """Trains the gate's runs under one protocol and judges them; the same call resumes what an earlier one left.

    out:     a folder that gets a run folder for each model, by default ./runs/TASK/gate.
    family:  "vit", "gpt" or "bert", by default as `family_of` says.
    changes: as `plan` takes them, the same for every model.
    Raises `BenchError` for a task without an oracle and for whatever else cannot be trained, before training.
    """
    card = load_task(task)
    generator = make_task(card, data_root)
    models = gate_models(family or family_of(generator, generator.info))
    for model in models.values():
        plan(task, model, protocol, changes, data_root)  # refuses before the first one is trained
    folder = Path(out) if out is not None else Path("runs") / card.id / "gate"
    done: dict[Role, Run] = {
        role: run(
            task,
            model,
            protocol,
            folder / model,
            changes=changes,
            data_root=data_root,
            on_failure="keep",
            **execution,
        )
        for role, model in models.items()
    }
    return judge(done["oracle"], done["softmax"], done.get("fixed"))
