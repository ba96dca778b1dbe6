"""What `mstep-bench describe` says about a task, a model, or one of the parts that they are made of."""

import dataclasses
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from multistep_bench.cards import TaskCard
from multistep_bench.registry import Registry
from multistep_bench.reporting.labels import duration
from multistep_bench.reporting.run_table import BARS
from multistep_bench.reporting.terminal import print_whole

if TYPE_CHECKING:
    from multistep_bench.training.estimate import Estimate

POINTS = 41  # of a plotted schedule


def describe_task(card: TaskCard) -> dict[str, Any]:
    """A task card as plain data, with what its curves are and the threshold of its Eureka-moment."""
    content = card.model_dump(mode="json", exclude={"base"})
    content["measure"] = card.levels.measure
    content["threshold"] = card.levels.threshold(card.scoring.threshold_fraction)
    content["sha256"] = card.sha256()
    return content


def describe_protocol(card: TaskCard, name: str) -> dict[str, Any]:
    """One protocol of a task as plain data, and its learning rate over the budget as a share of the peak."""
    from multistep_bench.training.schedules import factors

    protocol = card.protocol(name)
    shares = factors(protocol, POINTS)
    return {
        "task": card.id,
        "protocol": name,
        **protocol.model_dump(mode="json"),
        "learning rate over the budget": "".join(BARS[min(int(share * len(BARS)), len(BARS) - 1)] for share in shares),
        "share of the peak at the start, half-way and at the end": f"{shares[0]:.3g}, {shares[POINTS // 2]:.3g},"
        f" {shares[-1]:.3g}",
    }


def describe_card(name: str) -> dict[str, Any]:
    """A model without a task: what it is, the options of its builder with their defaults, and its presets of size."""
    from multistep_bench.models.build import builder, resolve_model

    card = resolve_model(name)
    build = builder(card.model)
    home = vars(sys.modules.get(getattr(build, "__module__", ""), object()))
    sizes = home.get("SIZES") or {size: f"width {width}" for size, width in home.get("WIDTHS", {}).items()}
    return {
        **card.model_dump(mode="json", exclude={"model", "recipe"}),
        "builder": card.model,
        "recipe": card.recipe.model_dump(mode="json", exclude_defaults=True),
        "options": options_of(build, skip=1),
        "sizes": {size: preset if isinstance(preset, str) else _fields(preset) for size, preset in sizes.items()},
        "parameters and operations": "with --task TASK, for they depend on the task",
    }


def _fields(preset: Any) -> str:
    return ", ".join(f"{field.name} {getattr(preset, field.name)}" for field in dataclasses.fields(preset))


def describe_part(registry: Registry, name: str) -> dict[str, Any]:
    """An attention rule, a generator or a source: what it is, and its options with their defaults."""
    part = registry.get(name)
    return {
        registry.kind: name,
        "description": inspect.getdoc(part) or "",
        "options": options_of(part),
        "defined in": part.__module__,
    }


def describe_estimate(costs: "Estimate") -> dict[str, Any]:
    """What a run would take, with units."""
    shown = {
        "cells": costs.cells,
        "steps per cell": costs.steps_per_cell,
        "samples per cell": costs.samples_per_cell,
        "evaluations per cell": costs.evaluations_per_cell,
        "trainable parameters": costs.parameters,
        "training FLOPs": "not counted" if costs.training_flops is None else f"{costs.training_flops:.3g}",
        "where": f"{costs.device}, {costs.processes} at a time",
        "speed of one": f"{costs.samples_per_second:,.0f} samples a second, evaluation included",
        "evaluation's share": f"{costs.evaluation_share:.0%}",
        "expected time": f"{duration(costs.seconds)}, if as many processors are free",
        "peak memory": "not measured" if costs.memory_bytes is None else f"{costs.memory_bytes / 2**20:,.0f} MiB",
        "on disk": f"{costs.disk_bytes / 2**20:,.1f} MiB",
    }
    if costs.diagnostics_share is not None:
        shown["diagnostics"] = f"{costs.diagnostics_share:.1%} more time than without, measured on one recording"
    return shown


def options_of(part: Callable[..., Any], skip: int = 0) -> dict[str, str]:
    """The arguments of a function or class that a card may set, with their defaults as text; skip: how many not."""
    if schema := getattr(part, "Parameters", None):  # of a generator
        fields = schema.model_fields
        return {key: "required" if field.is_required() else repr(field.get_default()) for key, field in fields.items()}
    parameters = list(inspect.signature(part).parameters.values())[skip:]
    apart = {"data_root", "download"}  # of a source: where files lie is no matter of a card
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    named = [each for each in parameters if each.kind not in kinds and each.name not in apart]
    options = {each.name: "required" if each.default is each.empty else repr(each.default) for each in named}
    if any(each.kind is each.VAR_KEYWORD for each in parameters):
        options["…"] = "and what the library's own builder takes"
    return options


def describe_model(name: str, task: str, data_root: Path | None = None) -> dict[str, Any]:
    """A model as it is built for a task: configuration, trainable parameters, FLOPs of a forward pass."""
    from multistep_bench.cards import DEFAULT_PROTOCOL
    from multistep_bench.models.build import resolve_model
    from multistep_bench.training.plan import plan

    card = resolve_model(name)
    spec = plan(task, name, DEFAULT_PROTOCOL, data_root=data_root)
    prose = card.model_dump(mode="json", include={"title", "summary", "source"})
    return {**prose, "task": task, "size": spec.task.size, **spec.model.model_dump(mode="json")}


def print_description(console: Console, content: dict[str, Any]) -> None:
    """Keys and values; nested tables are indented below their key."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    _add_rows(table, content, "")
    print_whole(console, table)


def _add_rows(table: Table, content: dict[str, Any], indent: str) -> None:
    for key, value in content.items():
        if isinstance(value, dict) and value:
            table.add_row(f"{indent}{key}", "")
            _add_rows(table, value, f"{indent}  ")
        elif value not in ("", None, {}, []):
            shown = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value).strip()
            table.add_row(f"{indent}{key}", shown, style=None)
