"""Calls a factory of models or attention rules with a user's options, and says in one sentence what is wrong."""

import inspect
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any

from torch import nn

from multistep_bench.errors import BenchError, ModelError

POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def construct(
    factory: Callable[..., Any], arguments: tuple[Any, ...], options: Mapping[str, Any], *, what: str
) -> nn.Module:
    """`factory(*arguments, **options)`; raises `ModelError` unless the options fit and the factory returns a module.

    what: the factory as the message names it, such as "model 'vit'".
    """
    _check_options(factory, len(arguments), options, what)
    try:
        module = factory(*arguments, **options)
    except BenchError:
        raise
    except Exception as error:  # a user's code, or an option whose value the factory rejects, may fail in any way
        raise ModelError(
            f"{what} cannot be built{f' with options {dict(options)}' if options else ''}: {type(error).__name__}:"
            f" {error}; correct the {'options or the ' if options else ''}code"
        ) from error
    if not isinstance(module, nn.Module):
        raise ModelError(f"{what} returned a {type(module).__name__}; return a torch.nn.Module")
    return module


def _check_options(factory: Callable[..., Any], given: int, options: Mapping[str, Any], what: str) -> None:
    takes_nothing = isinstance(factory, type) and factory.__init__ is nn.Module.__init__
    parameters = [] if takes_nothing else list(inspect.signature(factory).parameters.values())
    places = [each for each in parameters if each.kind in POSITIONAL]
    if len(places) < given and not any(each.kind is each.VAR_POSITIONAL for each in parameters):
        raise ModelError(
            f"{what} takes no argument, and it is called with the task's TaskInfo, which tells the shape of its inputs;"
            " write def __init__(self, task, ...) for a class, def build(task, ...) for a function"
        )
    parameters = parameters[given:]
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return
    known = [p.name for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)]
    unknown = [name for name in options if name not in known]
    if not unknown:
        return
    match = get_close_matches(unknown[0], known, n=1)
    suggestion = f", did you mean '{match[0]}'?" if match else ""
    takes = f"it takes {', '.join(known)}" if known else "it takes none"
    raise ModelError(f"{what} has no option {', '.join(map(repr, unknown))}{suggestion} ({takes})")
