"""What a specification may say: the task and budget of a shipped card, a model that may compete, and its track.

The fixed track is the card's protocol as it is, with more seeds if one likes. Another optimiser, schedule, rate grid,
batch size or precision, or a recipe of the model's own, make a run of the open track. What decides how far a number
reaches (budget, evaluations, items) cannot be changed on any track.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from multistep_bench import registry
from multistep_bench.cards import BaselineCard, TaskCard, list_baselines, list_tasks, load_baseline, load_task
from multistep_bench.errors import NotFound
from multistep_bench.leaderboard.checks.subject import Subject
from multistep_bench.leaderboard.entry import Track
from multistep_bench.protocol import Recipe
from multistep_bench.runs.spec import RunSpec
from multistep_bench.trusted_code import import_paths

FROZEN = ("budget", "evaluations", "evaluation_items", "first_seed")
STEP_LIMIT = 4.5  # operations of a training step over those of a forward pass: 3, or 4 where activations are recomputed
COUNT_LIMIT = 10**15  # parameters, and operations of a forward pass
MODEL_NAME = r"[A-Za-z0-9_][A-Za-z0-9_./:-]{0,127}"
TIMM = "timm/"
HF = "hf/"
# Options of timm.create_model that read weights from somewhere, where a model must start untrained.
PRETRAINED_OPTIONS = ("checkpoint_path", "pretrained", "cache_dir")


def recipe_changes(spec: RunSpec) -> dict[str, Any]:
    """What puts a run on the open track: key → value, where it differs from the shipped protocol."""
    card = _task(spec.task.id).protocol(spec.protocol_name)
    changes: dict[str, Any] = {
        f"protocol.{key}": value
        for key, value in spec.protocol
        if value != getattr(card, key) and key not in (*FROZEN, "seeds")
    }
    if spec.model.recipe != Recipe():
        changes["recipe"] = spec.model.recipe.model_dump(exclude_defaults=True)
    return changes


def track_of(spec: RunSpec) -> Track:
    """The track of a run of a shipped task and protocol."""
    return "open" if recipe_changes(spec) else "fixed"


def spec_problems(spec: RunSpec) -> Iterator[str]:
    """Why a run cannot be on the leaderboard at all."""
    yield from _model_problems(spec)
    yield from _task_problems(spec)


def is_a_shipped_task(subject: Subject) -> Iterator[str]:
    """Each task is the shipped card, under a shipped protocol with its budget, schedule and items, and at least its
    seeds; what differs from the card is listed among the changes."""
    for run in subject.entry.runs:
        yield from (f"{run.spec.task.id}: {problem}" for problem in _task_problems(run.spec))


def is_a_model_that_may_compete(subject: Subject) -> Iterator[str]:
    """The model is not shown the intermediate variables, loads no weights, is what its name builds, and a training step
    takes at most 4.5 times the operations of a forward pass."""
    for run in subject.entry.runs:
        yield from (f"{run.spec.task.id}: {problem}" for problem in _model_problems(run.spec))


def _task_problems(spec: RunSpec) -> Iterator[str]:
    try:
        card = _task(spec.task.id)
        protocol = card.protocol(spec.protocol_name)
    except NotFound as error:
        yield f"{error}; only shipped tasks and protocols are ranked"
        return
    if spec.task.sha256() != card.sha256():
        yield f"its card of {card.id} is {spec.task.sha256()[:12]}, the shipped one {card.sha256()[:12]}"
    if set(spec.task.protocols) != {spec.protocol_name}:
        yield "its card holds more than the one protocol that it was trained under"
    if spec.task.size != (spec.protocol.size or card.size):
        yield f"its size of model is '{spec.task.size}', which protocol {spec.protocol_name} does not ask for"
    for key in FROZEN:
        if getattr(spec.protocol, key) != getattr(protocol, key):
            yield f"{key} {getattr(spec.protocol, key)} instead of {getattr(protocol, key)}, which no track may change"
    if spec.protocol.seeds < protocol.seeds:
        yield f"{spec.protocol.seeds} seeds instead of at least {protocol.seeds}"
    yield from _change_problems(spec, {key for key, value in spec.protocol if value != getattr(protocol, key)})


def _change_problems(spec: RunSpec, different: set[str]) -> Iterator[str]:
    """Where the changes that a specification lists are not those that it made."""
    made = {"protocol": spec.protocol.model_dump(mode="json"), "recipe": spec.model.recipe.model_dump(mode="json")}
    for key, value in spec.changes.items():
        section, _, name = key.partition(".")
        if name in made.get(section, ()):
            if made[section][name] != value:
                yield f"it lists {key}={str(value)[:60]} and was trained with {str(made[section][name])[:60]}"
            if section == "protocol":
                different.discard(name)
        elif section == "model" and name in spec.model.config:
            if spec.model.config[name] != value:
                yield f"it lists {key}={str(value)[:60]} and was built with {str(spec.model.config[name])[:60]}"
        else:
            yield f"it lists the change {key[:60]!r}, which an entry cannot have"
    for name in sorted(different):
        yield f"protocol.{name} differs from the shipped card and is not among its changes"


def _model_problems(spec: RunSpec) -> Iterator[str]:
    model = spec.model
    if model.local:
        yield (
            f"model '{model.name[:60]}' was defined in a script or a notebook, so nobody else can build it; put it in a"
            " module, run it as package.module:Name, and submit that run"
        )
        return
    for text in (model.name, model.builder):
        if not re.fullmatch(MODEL_NAME, text):
            yield f"{text[:60]!r} is no name of a model: ASCII letters, digits and _./:-"
    if not model.leaderboard or model.builder in _barred():
        yield f"model '{model.name[:60]}' sees the intermediate variables or is barred by its card"
    if not re.fullmatch(r"[0-9a-f]{64}", model.code_sha256):
        yield "the hash of the model's code is none"
    if model.parameters > COUNT_LIMIT or (model.flops_per_sample or 0) > COUNT_LIMIT:
        yield f"parameters {model.parameters} or operations {model.flops_per_sample} are beyond {COUNT_LIMIT}"
    if model.flops_per_sample and (model.training_flops_per_sample or 0) > STEP_LIMIT * model.flops_per_sample:
        yield (
            f"a training step takes {model.training_flops_per_sample} operations a sample, more than {STEP_LIMIT} times"
            f" the {model.flops_per_sample} of a forward pass: the model trains inside its own forward pass"
        )
    if model.builder.startswith(TIMM):
        loading = [key for key in model.config if key.startswith(PRETRAINED_OPTIONS)]
        if loading:
            yield f"option {loading[0]!r} of timm reads weights; models start untrained"
    changed = {"model": {}, "recipe": {}}
    for key, value in spec.changes.items():
        section, _, name = key.partition(".")
        changed.get(section, {})[name] = value
    found = (model.builder, model.recipe.model_dump(mode="json"), model.config)
    if model.name in list_baselines():
        card = _baseline(model.name)
        recipe = card.recipe.model_dump(mode="json") | changed["recipe"]
        if found != (card.model, recipe, {**card.config, **changed["model"]}):
            yield f"model '{model.name}' is not the shipped baseline of that name with the changes listed"
    elif _is_given_by_name(model.name):
        recipe = Recipe().model_dump(mode="json") | changed["recipe"]
        if found != (model.name, recipe, changed["model"]):
            yield f"model '{model.name}' is not what that name builds with the changes listed"


def shipped(spec: RunSpec) -> bool:
    """Whether the code of a run's model is all of this package."""
    return spec.model.builder in registry.models.builtin and not list(import_paths([spec.model.config]))


def _is_given_by_name(name: str) -> bool:
    """Whether --model takes it as it is, without a card of the user's."""
    return name.startswith((TIMM, HF)) or ":" in name or name in registry.models.builtin


@lru_cache(maxsize=1)
def _barred() -> frozenset[str]:
    """Builders of the shipped cards that are barred, by name and by import path."""
    names = {_baseline(name).model for name in list_baselines() if not _baseline(name).leaderboard}
    homes = {registry.models.builtin[name] for name in names if name in registry.models.builtin}
    return frozenset(names | {f"{home}:{attribute}" for home in homes for attribute in ("build", "Oracle")})


@lru_cache(maxsize=256)
def _task(task_id: str) -> TaskCard:
    """A shipped card: an id alone, so that no path of an entry is ever opened."""
    if task_id not in list_tasks():
        raise NotFound("task", task_id[:60], list_tasks(), "mstep-bench list tasks")
    return load_task(task_id)


@lru_cache(maxsize=256)
def _baseline(name: str) -> BaselineCard:
    return load_baseline(name)
