"""One registry class: name → factory, for generators, sources, models and attention rules.

Built-in names stand in the package that they list: its `BUILTIN` maps each name to the module that
registers it. Listing them imports that table alone; the module is imported when its name is asked for.
Other names come from decorators, from entry points or from an import path `package.module:attribute`.
"""

import importlib
import os
import sys
from collections.abc import Callable, Mapping
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

from multistep_bench.errors import BenchError, NotFound
from multistep_bench.trusted_code import IMPORT_PATH

F = TypeVar("F", bound=Callable[..., Any])


class Registry:
    """Factories of one kind by name.

    `package` is the import path of the package with the table `BUILTIN`, and `group` is the entry-point group
    through which other distributions add names.
    """

    def __init__(self, kind: str, *, package: str, group: str) -> None:
        self.kind = kind
        self.package = package
        self.group = group
        self._factories: dict[str, Callable[..., Any]] = {}
        self._lent: dict[str, Callable[[], Callable[..., Any]]] = {}

    @cached_property
    def builtin(self) -> Mapping[str, str]:
        """Every name that ships with the suite, and the module that registers it.

        Read when first asked for: the package stands above this module, which may not import it on loading.
        """
        return importlib.import_module(self.package).BUILTIN

    def register(self, name: str) -> Callable[[F], F]:
        """Decorator that puts a factory under `name`; raises `BenchError` if the name is taken."""

        def add(factory: F) -> F:
            taken = self._factories.get(name)
            home = self.builtin.get(name)
            if (taken is not None and not _same_definition(taken, factory)) or (
                home is not None and home != factory.__module__
            ):
                raise BenchError(
                    f"{self.kind} '{name}' is already registered"
                    f" by {taken.__module__ if taken else home}; choose another name"
                )
            self._factories[name] = factory
            return factory

        return add

    def get(self, name: str) -> Callable[..., Any]:
        """The factory registered under `name`, or the object at the import path `package.module:attribute`."""
        if name not in self._factories:
            if name in self.builtin:
                importlib.import_module(self.builtin[name])
            elif name in self._lent:
                self._factories[name] = self._lent[name]()
            elif name in (points := self._entry_points()):
                self._factories[name] = self._load(points[name])
            elif ":" in name:
                return import_path(name, kind=self.kind)
            else:
                raise NotFound(self.kind, name, self.names(), "mstep-bench list")
        return self._factories[name]

    def names(self) -> list[str]:
        """All names, sorted; imports none of the modules behind them."""
        return sorted({*self.builtin, *self._factories, *self._lent, *self._entry_points()})

    def lend(self, name: str, load: Callable[[], Callable[..., Any]]) -> None:
        """Puts under `name` what `load` gives once it is asked for: in a worker, what the script registered."""
        self._lent[name] = load

    def registered(self) -> dict[str, Callable[..., Any]]:
        """Name → factory of those whose module was imported so far."""
        return dict(self._factories)

    def loaded(self) -> list[Callable[..., Any]]:
        """Every factory whose module was imported so far."""
        return list(self._factories.values())

    def broken_plugins(self) -> dict[str, str]:
        """Entry points that do not load: name → reason. Loads every plug-in, none of the built-ins."""
        broken: dict[str, str] = {}
        for name, point in self._entry_points().items():
            if name in self.builtin:
                broken[name] = f"{self.kind} '{name}' ships with multistep-bench; the plug-in needs another name"
                continue
            try:
                self._load(point)
            except BenchError as error:
                broken[name] = str(error)
        return broken

    def _entry_points(self) -> dict[str, EntryPoint]:
        return {point.name: point for point in entry_points(group=self.group)}

    def _load(self, point: EntryPoint) -> Callable[..., Any]:
        try:
            return point.load()
        except Exception as error:  # a plug-in may fail in any way; it must not take the suite with it
            raise BenchError(
                f"plug-in {self.kind} '{point.name}' ({point.value}) does not load:"
                f" {type(error).__name__}: {error}; fix or uninstall it"
            ) from error


def _same_definition(old: Callable[..., Any], new: Callable[..., Any]) -> bool:
    """True when a module was imported twice, as a worker process or a notebook cell does."""
    return (old.__module__, old.__qualname__) == (new.__module__, new.__qualname__)


def import_path(path: str, *, kind: str) -> Callable[..., Any]:
    """The object behind `package.module:attribute`; raises `BenchError` if there is none.

    The working directory is searched last, so that no file in it takes the place of an installed module.
    """
    if not IMPORT_PATH.fullmatch(path):
        raise BenchError(f"{kind} '{path}' is not an import path; write package.module:attribute")
    module_name, _, attribute = path.partition(":")
    if (here := os.getcwd()) not in sys.path:
        sys.path.append(here)  # and it stays there, for what the module imports later
    try:
        found: Any = importlib.import_module(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
    except Exception as error:  # the user's module may fail in any way
        raise BenchError(
            f"{kind} '{path}' cannot be imported: {type(error).__name__}: {error};"
            " check the path and that its folder is the working directory or on PYTHONPATH"
        ) from error
    if not callable(found):
        raise BenchError(f"{kind} '{path}' is a {type(found).__name__}, not something to call")
    return found


generators = Registry("generator", package="multistep_bench.generators", group="multistep_bench.generators")
sources = Registry("source", package="multistep_bench.sources", group="multistep_bench.sources")
models = Registry("model", package="multistep_bench.models", group="multistep_bench.models")
attention_rules = Registry(
    "attention rule", package="multistep_bench.models.attention", group="multistep_bench.attention"
)

register_generator = generators.register
register_source = sources.register
register_model = models.register
register_attention = attention_rules.register
