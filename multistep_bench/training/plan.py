"""From names and changes to a resolved specification: everything that can be refused is refused here."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from multistep_bench import seeds
from multistep_bench.cards import TaskCard, load_task
from multistep_bench.errors import CardError, ModelError
from multistep_bench.generators.base import TaskGenerator
from multistep_bench.generators.task import make_task
from multistep_bench.models import build as models
from multistep_bench.models.code import code_sha256
from multistep_bench.models.flops import flops_per_sample, training_flops_per_sample
from multistep_bench.models.local import Model
from multistep_bench.runs.spec import ModelSpec, RunSpec
from multistep_bench.strict import changed
from multistep_bench.training.losses import training_loss
from multistep_bench.training.randomness import own_randomness, seed_everything
from multistep_bench.training.rehearsal import rehearse

SECTIONS = ("task", "model", "protocol", "recipe")
STARTS = "task., model., protocol. or recipe."


@own_randomness(torch.device("cpu"))  # also of what the first import of a library draws
def plan(
    task: str | Path,
    model: Model,
    protocol: str,
    changes: Mapping[str, Any] | None = None,
    data_root: str | Path | None = None,
) -> RunSpec:
    """The specification of a run; writes nothing.

    model:   a name, the path of a card, or a class or function that builds it, see `models.build.resolve_model`.
    changes: "task.PARAMETER", "model.OPTION", "protocol.KEY" or "recipe.KEY" → value, laid over the cards.
    Builds the model on the CPU, checks that it takes the task's inputs and answers with logits of the right shape,
    and rehearses its training. Raises a `BenchError` for anything that could not be trained.
    """
    changes = dict(changes or {})
    parts = _split(changes)
    card = _resolved_card(load_task(task), protocol, parts, data_root)
    baseline = models.resolve_model(model)
    recipe = changed(baseline.recipe, parts["recipe"], f"recipe of {baseline.name}")
    config = {**baseline.config, **parts["model"]}
    baseline = changed(baseline, {"config": config, "recipe": recipe.model_dump()}, f"model {baseline.name}")
    generator = make_task(card, data_root)
    batch = generator.sample(2, split="eval", rng=seeds.generator(seeds.derive("plan")))
    seed_everything(seeds.derive("plan"))
    module = models.build(baseline, generator.info)
    models.check_contract(module, generator.info, batch)
    forward = flops_per_sample(module, batch.inputs, batch.steps)
    step = training_flops_per_sample(module, batch, partial(training_loss, label_smoothing=0.0))
    if not models.count_parameters(module):
        raise ModelError(f"model '{baseline.name}' has no parameter to train; leave requires_grad of some at True")
    model_spec = ModelSpec(
        name=baseline.name,
        builder=baseline.model,
        config=baseline.config,
        recipe=baseline.recipe,
        leaderboard=baseline.leaderboard and not getattr(module, "uses_steps", False),
        parameters=models.count_parameters(module),
        flops_per_sample=forward,
        training_flops_per_sample=step,
        code_sha256=code_sha256(module, models.builder(baseline.model)),
    )
    spec = RunSpec(task=card, protocol_name=protocol, model=model_spec, changes=changes)
    rehearse(spec, generator)
    return spec


def default_folder(spec: RunSpec, variant: str = "") -> Path:
    """runs/TASK/MODEL[-VARIANT]/PROTOCOL-HASH below the working directory; the hash is the run's identity."""
    name = folder_name(spec.model.name) + (f"-{variant}" if variant else "")
    return Path("runs") / spec.task.id / name / f"{spec.protocol_name}-{spec.identity()[:8]}"


def folder_name(name: str) -> str:
    """A name as part of a path: what is no letter, digit, _ . or - becomes -."""
    return "".join(letter if letter.isalnum() or letter in "_.-" else "-" for letter in name)


def task_of(spec: RunSpec, data_root: str | Path | None = None) -> TaskGenerator:
    """The generator that a specification trains on."""
    return make_task(spec.task, data_root)


def _split(changes: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    parts: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    for key, value in changes.items():
        section, _, name = key.partition(".")
        if section not in parts or not name:
            raise CardError(f"--set {key}: a key starts with {STARTS}, as in protocol.seeds=5")
        parts[section][name] = value
    return parts


def _resolved_card(
    card: TaskCard, protocol_name: str, parts: Mapping[str, Mapping[str, Any]], data_root: str | Path | None
) -> TaskCard:
    """The card with the changes applied, its levels computed anew if the task changed, and one protocol."""
    where = f"protocol '{protocol_name}' of {card.id}"
    protocol = changed(card.protocol(protocol_name), parts["protocol"], where)
    update: dict[str, Any] = {
        "size": protocol.size or card.size,
        "protocols": {protocol_name: protocol.model_dump()},
    }
    if parts["task"]:
        task = make_task(card, data_root, **parts["task"])
        update["parameters"] = {**card.parameters, **parts["task"]}
        update["levels"] = task.levels().model_dump()
        update["batch_sha256"] = ""
    return changed(card, update, f"task {card.id} with these changes")
