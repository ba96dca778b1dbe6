"""Models given as objects: a class or a function of the user's program, in place of a name.

What a module defines is called `package.module:Name`, as if the user had given that. What only this program has (of a
script, a notebook, or made inside a function) is called "local/NAME" and remembered here, pickled by cloudpickle, so
that it can be sent to worker processes. The bytes go from this process to those that it starts, and are neither stored
nor read from anywhere; whoever finds such a name in a record without having defined the model is told so.
"""

import functools
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cloudpickle
from torch import nn

from multistep_bench.cards import LOCAL
from multistep_bench.errors import ModelError
from multistep_bench.models.definitions import Walk
from multistep_bench.models.origin import is_importable

HASH_LENGTH = 16  # of the definition's hash, in the builder's name

Model = str | Path | Callable[..., nn.Module]  # what a user gives


@dataclass
class _Local:
    """pickled: as it was when it was given. definition: None in a worker that was sent it and has not built it yet."""

    pickled: bytes
    definition: Callable[..., Any] | None = None


_known: dict[str, _Local] = {}


def name_of(model: Model) -> str | Path:
    """What a model given as an object is called from now on; a name or a path is returned as it is.

    Raises `ModelError` for a module that is built already, for what cannot be called, and for what cannot be sent to
    another process or hashed.
    """
    if isinstance(model, str | Path):
        return model
    if isinstance(model, nn.Module):
        kind = type(model).__name__
        raise ModelError(
            f"model={kind}(...) is a module that is built already, and every cell draws initial weights of its own;"
            f" give the class, as in model={kind}, or a function that builds it"
        )
    if not callable(model):
        raise ModelError(f"model={model!r} is no model; give a name, the path of a card, a class or a function")
    if is_importable(model):
        return f"{model.__module__}:{model.__qualname__}"
    name = _plain_name(model)
    builder = f"{LOCAL}{name}@{Walk(model, name).sha256[:HASH_LENGTH]}"
    _known[builder] = _Local(_pickled(model, name), model)
    return builder


def local_names() -> list[str]:
    """None: they are objects, and nobody finds them by name."""
    return []


def local_builder(model: str) -> Callable[..., Any]:
    """The object behind "local/NAME@HASH"; raises `ModelError` where this process has not seen it."""
    known = _known.get(model)
    if known is None:
        name = local_name(model)
        raise ModelError(
            f"model '{name}' is defined in a script or a notebook, not in a module, so its name alone cannot build it;"
            f" in Python, define it as it was and give the object, as in model={name.removeprefix(LOCAL)}"
        )
    if known.definition is None:
        try:
            known.definition = cloudpickle.loads(known.pickled)
        except Exception as error:  # its modules may fail to load in any way
            raise ModelError(
                f"model '{local_name(model)}' cannot be made in a worker process: {type(error).__name__}: {error};"
                " put it in a module and give package.module:Name, or train with workers=1"
            ) from error
    assert known.definition is not None
    return known.definition


def local_source(model: str) -> Callable[..., Any]:
    """The class or function that was given."""
    builder = local_builder(model)
    while isinstance(builder, functools.partial):
        builder = builder.func
    return builder


def local_name(builder: str) -> str:
    """ "local/NAME" of "local/NAME@HASH", as tables show it; another name as it is."""
    return builder.partition("@")[0] if builder.startswith(LOCAL) else builder


def is_local(builder: Callable[..., Any]) -> bool:
    """Whether a builder is one of these objects."""
    return any(known.definition is builder for known in _known.values())


def pickled_models(builders: Iterable[str]) -> dict[str, bytes]:
    """The bytes of those among some builders' names that are models of this program."""
    return {name: _known[name].pickled for name in sorted(set(builders)) if name in _known}


def take_over(pickled: Mapping[str, bytes]) -> None:
    """Makes models known that the process which started this one was given."""
    _known.update({name: _Local(content) for name, content in pickled.items()})


def _plain_name(model: Callable[..., Any]) -> str:
    """Its name without what no name of a model has: "make.<locals>.Net" as "make.Net", `<lambda>` as "lambda"."""
    while isinstance(model, functools.partial):
        model = model.func
    name = getattr(model, "__qualname__", None) or type(model).__qualname__
    return re.sub(r"[^\w.]", "", name.replace("<locals>.", ""))


def _pickled(model: Callable[..., Any], name: str) -> bytes:
    try:
        return cloudpickle.dumps(model)
    except Exception as error:  # what it refers to may fail in any way
        raise ModelError(
            f"{name} cannot be sent to worker processes ({type(error).__name__}: {error}); make what cannot be pickled"
            f" inside {name} when it is called, or put the model in a module and give package.module:Name"
        ) from error
