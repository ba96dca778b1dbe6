"""Strict records: frozen, with known keys only, and every problem of a wrong one reported at once."""

import hashlib
import json
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from multistep_bench.errors import CardError


class Strict(BaseModel):
    """A frozen record that knows all its keys and converts nothing silently."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


S = TypeVar("S", bound=Strict)
SHOWN = 100  # characters of a wrong value that a message shows


def content_sha256(content: Any) -> str:
    """SHA-256 of the canonical JSON of plain data."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def validated(model: type[S], content: Mapping[str, Any], where: str) -> S:
    """`content` as a `model`; raises `CardError` with every problem, each with its key."""
    try:
        return model.model_validate(dict(content))
    except ValidationError as error:
        details = error.errors()
        inner = {detail["loc"][:depth] for detail in details for depth in range(len(detail["loc"]))}
        causes = [each for each in details if each["type"] != "too_short" or each["loc"] not in inner]
        lines = "; ".join(_problem(model, detail) for detail in causes)  # wrong items were not counted as items
        raise CardError(f"{where}: {lines}") from None


def changed(record: S, changes: Mapping[str, Any], where: str) -> S:
    """A copy of a frozen record with some keys replaced, validated as if it had been read so."""
    return validated(type(record), {**record.model_dump(), **changes}, where)


def _problem(model: type[BaseModel], detail: Any) -> str:
    path = [str(part) for part in detail["loc"]]
    key = ".".join(path) or "whole table"
    if detail["type"] == "extra_forbidden":
        known = _known_keys(model, path[:-1])
        match = get_close_matches(path[-1], known, n=1)
        return f"unknown key '{key}'" + (f", did you mean '{match[0]}'?" if match else f" (known: {', '.join(known)})")
    if detail["type"] == "missing":
        return f"missing key '{key}'"
    value = "" if isinstance(detail["input"], dict) else f" (got {_short(detail['input'])})"
    return f"'{key}': {detail['msg'].removeprefix('Value error, ')}{value}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def _known_keys(model: type[BaseModel], path: list[str]) -> list[str]:
    for part in path:
        field = model.model_fields.get(part)
        if field is None:  # a key of a dict of models, such as a protocol's name
            continue
        for inner in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                model = inner
    return list(model.model_fields)
