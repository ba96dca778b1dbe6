"""What the main module has that worker processes need, and how they start without importing it.

A spawned process imports the script that started its parent, under another name: a script without a main guard would
start its run again there, and of a notebook there is nothing to import. So our workers are started without it, and the
models, rules and generators that a script or a notebook defines are sent to them, pickled by cloudpickle. The bytes go
from this process to those that it starts and nowhere else.
"""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import cloudpickle

from multistep_bench import registry
from multistep_bench.errors import BenchError
from multistep_bench.models.local import pickled_models, take_over
from multistep_bench.models.origin import MAIN
from multistep_bench.registry import Registry
from multistep_bench.runs.spec import RunSpec
from multistep_bench.trusted_code import import_paths

REGISTRIES: tuple[Registry, ...] = (
    registry.models,
    registry.attention_rules,
    registry.generators,
    registry.sources,
)


@dataclass(frozen=True)
class Luggage:
    """What a worker is given before any work; plain data that any process can read.

    models:     builder → pickled, see `models.local`.
    registered: (place in `REGISTRIES`, name, pickled) of what the main module registered under a name; in place of the
                bytes the reason, where it cannot be pickled, for whoever asks for that name.
    needs_main: a specification names something as "__main__:NAME", so the worker imports the script all the same.
    """

    models: dict[str, bytes]
    registered: tuple[tuple[int, str, bytes | str], ...] = ()
    needs_main: bool = False

    def unpack(self) -> None:
        """Makes everything known in this process."""
        take_over(self.models)
        for place, name, pickled in self.registered:
            REGISTRIES[place].lend(name, _loader(name, pickled))


def pack(specs: Iterable[RunSpec]) -> Luggage:
    """What workers need of the main module to train runs."""
    specs = list(specs)
    needs_main = any(path.partition(":")[0] in MAIN for spec in specs for path in import_paths(spec.dump()))
    registered = [
        (place, name, _pickled(kind, name, factory))
        for place, kind in enumerate(REGISTRIES)
        for name, factory in kind.registered().items()
        if getattr(factory, "__module__", None) in MAIN and not needs_main
    ]
    return Luggage(pickled_models(spec.model.builder for spec in specs), tuple(registered), needs_main)


@contextmanager
def _hidden() -> Iterator[None]:
    main = sys.modules["__main__"]
    hidden = {name: vars(main).pop(name) for name in ("__file__", "__spec__") if name in vars(main)}
    main.__spec__ = None
    try:
        yield
    finally:
        del main.__spec__
        vars(main).update(hidden)


def start_without_main(start: Callable[[], Any], luggage: Luggage) -> None:
    """Starts a process by `start`; it imports the main module only if its luggage says so.

    `multiprocessing` finds the script by these two names of the main module, at the moment when a process starts.
    """
    with nullcontext() if luggage.needs_main else _hidden():
        start()


def _pickled(kind: Registry, name: str, factory: Callable[..., Any]) -> bytes | str:
    try:
        return cloudpickle.dumps(factory)
    except Exception as error:  # what it refers to may fail in any way
        return (
            f"{kind.kind} '{name}', which the script registered, cannot be sent to worker processes"
            f" ({type(error).__name__}: {error}); make what cannot be pickled inside it when it is called, put it in a"
            " module, or give workers=1"
        )


def _loader(name: str, pickled: bytes | str) -> Callable[[], Callable[..., Any]]:
    def load() -> Callable[..., Any]:
        if isinstance(pickled, str):
            raise BenchError(pickled)
        try:
            return cloudpickle.loads(pickled)
        except Exception as error:  # its modules may fail to load in any way
            raise BenchError(
                f"'{name}', which the script registered, cannot be made in a worker process:"
                f" {type(error).__name__}: {error}; put it in a module, or give workers=1"
            ) from error

    return load
