"""What a model of a script or a notebook is made of, written down so that the same definitions give the same text.

Such definitions stand in no module that another process could import, so there is no file whose hash would name them.
The objects themselves are walked instead: a function is its syntax (`models.source_text`), the values of its defaults
and its closure, and of the globals that it names; a class is its bases and attributes; another object is what pickling
takes it apart into. What an importable module defines is not walked but collected, for its file to be hashed.
"""

import ast
import functools
import hashlib
from collections.abc import Iterator
from types import FunctionType, ModuleType
from typing import Any

import torch
from cloudpickle import CloudPickler

from multistep_bench.errors import ModelError
from multistep_bench.models.origin import is_importable, is_of_a_library
from multistep_bench.models.source_text import definition_of, global_names, text_of_code
from multistep_bench.models.syntax import Source, imports_of

PLAIN = (type(None), bool, int, float, complex, str, bytes, type(...), type(NotImplemented), range)
# Of a class: what follows from the rest of it, is prose, or differs between versions of Python.
SKIPPED = {
    "__module__",
    "__qualname__",
    "__doc__",
    "__dict__",
    "__weakref__",
    "__annotations__",
    "__annotate__",
    "__annotate_func__",
    "__annotations_cache__",
    "__firstlineno__",
    "__static_attributes__",
    "__abstractmethods__",
    "_abc_impl",
}


class Walk:
    """The text of a value, and what it refers to in modules that can be imported.

    outside: classes and functions. modules: names. imports: (package, source with imports) of statements within it.
    Raises `ModelError` for an object that cannot be taken apart, such as a lock or an open file, naming where it is.
    """

    def __init__(self, root: Any, name: str) -> None:
        self.outside: set[Any] = set()
        self.modules: set[str] = set()
        self.imports: list[tuple[str, Source]] = []
        self._name = name
        self._lines: list[str] = []
        self._seen: dict[int, tuple[int, Any]] = {}  # the object too, so that its id is given to no other
        try:
            self._add(root, name)
        except RecursionError:
            raise ModelError(f"{name} refers to objects nested too deep to be hashed; keep less in it") from None

    @property
    def sha256(self) -> str:
        return hashlib.sha256("\n".join(self._lines).encode()).hexdigest()

    def _say(self, *words: object) -> None:
        self._lines.append(" ".join(ascii(word) for word in words))

    def _add(self, value: Any, where: str) -> None:
        if type(value) in PLAIN:
            return self._say(type(value).__name__, value)
        if type(value) is tuple:  # whether equal ones are one object is up to Python
            return self._sequence(value, where)
        if (seen := self._seen.get(id(value))) is not None:
            return self._say("again", seen[0])
        self._seen[id(value)] = len(self._seen), value
        for kind, add in _KINDS:
            if isinstance(value, kind):
                return add(self, value, where)
        return self._object(value, where)

    def _sequence(self, value: Any, where: str) -> None:
        if type(value) not in (list, tuple):  # a named tuple, say
            return self._object(value, where)
        self._say(type(value).__name__, len(value))
        for place, each in enumerate(value):
            self._add(each, f"[{place}] of {where}")

    def _mapping(self, value: dict[Any, Any], where: str) -> None:
        if type(value) is not dict:
            return self._object(value, where)
        self._say("dict", len(value))
        for key, each in value.items():
            self._add(key, f"a key of {where}")
            self._add(each, f"[{key!r}] of {where}")

    def _set(self, value: Any, where: str) -> None:
        walks = [Walk(each, f"{where} (an element)") for each in value]  # each by itself: their order is by chance
        for walk in walks:
            self.outside |= walk.outside
            self.modules |= walk.modules
            self.imports += walk.imports
        self._say(type(value).__name__, sorted(walk.sha256 for walk in walks))

    def _module(self, value: ModuleType, where: str) -> None:
        self.modules.add(value.__name__)
        self._say("module", value.__name__)

    def _function(self, function: FunctionType, where: str) -> None:
        if is_importable(function):
            self.outside.add(function)
            return self._say("function", function.__module__, function.__qualname__)
        installed = is_of_a_library(function.__module__ or "")
        name = function.__module__, function.__qualname__
        self._say("function", name if installed else text_of_code(function.__code__))
        for name, value in (("defaults", function.__defaults__), ("kwdefaults", function.__kwdefaults__)):
            self._add(value, f"the {name} of {where}")
        self._namespace(vars(function), where)
        self._namespace(dict(_closure(function)), where)
        if not installed:
            known = function.__globals__
            named = global_names(function.__code__)
            self._namespace({name: known[name] for name in named if name in known}, where)
            self._statements(function)

    def _statements(self, function: FunctionType) -> None:
        """Modules that a function imports, and those that it reaches through another, as in `package.module.f()`."""
        node = definition_of(function.__code__)
        if node is None:
            return
        package = function.__globals__.get("__package__") or ""
        if imports := tuple(imports_of(node)):
            self.imports.append((package, Source("", imports)))
        self.modules.update(_modules_reached(node, function.__globals__))

    def _namespace(self, values: dict[str, Any], where: str) -> None:
        for name in sorted(values):
            self._say("name", name)
            self._add(values[name], f"'{name}' of {where}")

    def _class(self, cls: type, where: str) -> None:
        if is_importable(cls) or is_of_a_library(cls.__module__):
            self.outside |= {cls} if cls.__module__ != "builtins" else set()
            return self._say("class", cls.__module__, cls.__qualname__)
        self._say("class", cls.__qualname__)
        self._add(type(cls), where)
        self._add(cls.__bases__, where)
        self._namespace({name: value for name, value in vars(cls).items() if name not in SKIPPED}, cls.__qualname__)

    def _property(self, value: property, where: str) -> None:
        self._say("property")
        self._add((value.fget, value.fset, value.fdel), where)

    def _partial(self, value: "functools.partial[Any]", where: str) -> None:
        self._say("partial")
        self._add((value.func, value.args, value.keywords), where)

    def _tensor(self, value: torch.Tensor, where: str) -> None:
        content = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        self._say(type(value).__name__, str(value.dtype), tuple(value.shape), value.requires_grad)
        self._say(hashlib.sha256(content).hexdigest())

    def _object(self, value: Any, where: str) -> None:
        reduce = CloudPickler.dispatch_table.get(type(value))
        try:
            parts = value.__reduce_ex__(4) if reduce is None else reduce(value)
        except Exception as error:  # an object may refuse in any way
            raise ModelError(
                f"{where} is a {type(value).__module__}.{type(value).__qualname__}, which can neither be hashed nor"
                f" sent to another process ({type(error).__name__}: {error}); make it inside {self._name} when that is"
                " called, or put the model in a module and give package.module:Name"
            ) from None
        if isinstance(parts, str):
            self._say("object", getattr(value, "__module__", None), parts)
            return self._add(getattr(value, "__wrapped__", None), where)
        self._say("object", len(parts))
        for part in parts:
            self._add(part if isinstance(part, tuple) else list(part) if isinstance(part, Iterator) else part, where)
        return None


_KINDS: tuple[tuple[Any, Any], ...] = (
    ((list, tuple), Walk._sequence),
    (dict, Walk._mapping),
    ((set, frozenset), Walk._set),
    (ModuleType, Walk._module),
    (FunctionType, Walk._function),
    (type, Walk._class),
    (property, Walk._property),
    (functools.partial, Walk._partial),
    (torch.Tensor, Walk._tensor),
)


def _closure(function: FunctionType) -> Iterator[tuple[str, Any]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:  # nothing was assigned to it
            yield name, None


def _modules_reached(node: ast.AST, namespace: dict[str, Any]) -> Iterator[str]:
    """Names of the modules in chains such as `package.module.attribute` that begin with a global name."""
    for each in ast.walk(node):
        chain = []
        while isinstance(each, ast.Attribute):
            chain.append(each.attr)
            each = each.value
        found = namespace.get(each.id) if isinstance(each, ast.Name) else None
        while chain and isinstance(found, ModuleType):
            found = getattr(found, chain.pop(), None)
            if isinstance(found, ModuleType):
                yield found.__name__
