"""Which code a model is made of: one hash over every source file of ours or of the user's that defines a part of it.

Parts are the classes of the model's modules and their bases, the functions and objects that the modules hold, and the
builder. Covered are the files that define them and what these files import, and so on:

    of the user:         every module that lives neither in the standard library nor among installed packages,
                         see `models.origin`; an editable installation or a plain folder is the user's
    of multistep_bench:  modules of `multistep_bench.models`, except those that build and check any model
    of other libraries:  nothing; where a model consists of nothing else, the file of its builder stands for it

What a script or a notebook gives as an object, see `models.local`, and what a notebook registers is in no such file:
its definitions are hashed as they are found from the object, see `models.definitions`, and the files of the user's
modules that they use.

What counts is each file's syntax, see `multistep_bench.models.syntax`, and not its name or its folder: a file that is
moved or renamed keeps the hash as long as the code that imports it reads the same. Files are read from disk.
"""

import functools
import hashlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator
from importlib.machinery import PathFinder
from pathlib import Path
from types import FunctionType, MethodType
from typing import Any, NoReturn

from torch import nn

from multistep_bench.errors import ModelError
from multistep_bench.models.definitions import Walk
from multistep_bench.models.local import is_local
from multistep_bench.models.origin import MAIN, is_importable, is_installed
from multistep_bench.models.syntax import Source, parsed

OURS = "multistep_bench.models"
# They build, check and measure whatever model is asked for, and define a part of none.
MACHINERY = {
    "answers",
    "attention",
    "attention.contract",
    "attention.rule",
    "build",
    "code",
    "construct",
    "definitions",
    "flops",
    "local",
    "origin",
    "source_text",
    "syntax",
}

Modules = dict[Path, str]  # source file → name of the module


def code_sha256(module: nn.Module, builder: Callable[..., Any]) -> str:
    """SHA-256 (64 hexadecimal digits) of the code that a built model is made of; see the head of this file.

    builder: what returned `module`. Raises `ModelError` where a part is defined neither in a source file nor in a
    notebook, or in a file that cannot be parsed.
    """
    parts = _parts(module, builder)
    if is_local(builder) or any(_is_of_a_notebook(part) for part in parts):
        return _of_definitions(parts, builder)
    modules = _modules_of(parts)
    if modules:
        files = set(_with_imports(modules))
    else:
        files = {_source_file(part, name) for part in _definitions(builder) if (name := _module_of(part))}
    digests = sorted(_parse(path).sha256 for path in files)
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def _of_definitions(parts: set[Any], builder: Callable[..., Any]) -> str:
    """The hash of a model that a script or a notebook defines, or a part of it."""
    own = [part for part in parts if not is_importable(part) and _module_of(part)]
    walks = [Walk(part, part.__qualname__) for part in own] + [Walk(builder, "the model")]
    modules = _modules_of({*parts, *(part for walk in walks for part in walk.outside)} - set(own))
    for walk in walks:
        found = [(name, getattr(sys.modules.get(name), "__file__", None) or "") for name in walk.modules]
        named = [(name, Path(file).resolve()) for name, file in found if file.endswith(".py")]
        named += [each for package, source in walk.imports for each in _imports(source, package)]
        modules.update({path: name for name, path in named if _counts(name, path)})
    digests = {_parse(path).sha256 for path in _with_imports(modules)} | {walk.sha256 for walk in walks}
    return hashlib.sha256("\n".join(sorted(digests)).encode()).hexdigest()


def _modules_of(parts: Iterable[Any]) -> Modules:
    """The modules that define parts of a model and count."""
    sources = {_source_file(part, name): name for part in parts if (name := _module_of(part))}
    return {path: name for path, name in sources.items() if _counts(name, path)}


def _parts(module: nn.Module, builder: Callable[..., Any]) -> set[Any]:
    """The classes and functions that define a model."""
    found = set(_definitions(builder))
    for part in module.modules():
        found.update(type(part).__mro__)
        found.update(definition for value in _held(vars(part).values()) for definition in _definitions(value))
    return found


def _held(values: Iterable[Any], depth: int = 3) -> Iterator[Any]:
    """The values that are no text and no number, and such of lists, tuples, sets and mappings among them."""
    for value in values:
        if isinstance(value, dict | list | tuple | set) and depth:
            yield from _held(list(value.values() if isinstance(value, dict) else value), depth - 1)
        if not isinstance(value, str | bytes | int | float | None):
            yield value


def _definitions(value: Any) -> Iterator[Any]:
    """The function or classes behind a value: unwrapped, or of the object's type and its bases."""
    while isinstance(value, functools.partial):
        yield from (each for inner in (*value.args, *value.keywords.values()) for each in _definitions(inner))
        value = value.func
    if isinstance(value, MethodType):
        yield from type(value.__self__).__mro__
        value = value.__func__
    if isinstance(value, FunctionType):
        yield inspect.unwrap(value)
    else:
        yield from value.__mro__ if isinstance(value, type) else type(value).__mro__


def _module_of(definition: Any) -> str | None:
    """The name of a class's or function's module; None for those of Python itself."""
    name = definition.__module__ or ""
    if name in ("", "builtins") and (isinstance(definition, FunctionType) or "__module__" in vars(definition)):
        _refuse(definition)  # by exec, with globals that name no module
    top = name.partition(".")[0]
    return None if top in sys.stdlib_module_names or top in sys.builtin_module_names else name


def _source_file(definition: Any, name: str) -> Path:
    """The file of a definition in the module of this name; raises `ModelError` where there is none."""
    return _found_file(definition, name) or _refuse(definition)


def _found_file(definition: Any, name: str) -> Path | None:
    """The file of a definition; for a compiled one of an installed library any file of that library will do."""
    loaded = [getattr(sys.modules.get(each), "__file__", None) for each in (name, name.partition(".")[0])]
    files = [Path(file).resolve() for file in loaded if file]
    if files and not _is_ours(name) and is_installed(files[-1]):
        return files[0]
    code = getattr(vars(definition).get("forward", definition), "__code__", None)
    made_by_exec = code is not None and not Path(code.co_filename).is_file()
    if loaded[0] is None or made_by_exec or files[0].suffix != ".py" or not files[0].is_file():
        return None
    return files[0]


def _is_of_a_notebook(definition: Any) -> bool:
    """Whether the main module defines it, and in no file."""
    return definition.__module__ in MAIN and _found_file(definition, definition.__module__) is None


def _refuse(definition: Any) -> NoReturn:
    raise ModelError(
        f"the code of {definition.__qualname__} (module {definition.__module__}) is in no source file,"
        " so a record cannot name it; write it to a module"
    )


def _with_imports(modules: Modules) -> Modules:
    """The modules and those that count among what they import, directly or not."""
    covered = dict(modules)
    waiting = list(modules.items())
    while waiting:
        path, name = waiting.pop()
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        if name in MAIN:
            package = getattr(sys.modules[name], "__package__", None) or ""
        for imported, origin in _imports(_parse(path), package):
            if origin not in covered and _counts(imported, origin):
                covered[origin] = imported
                waiting.append((origin, imported))
    return covered


def _imports(source: Source, package: str) -> Iterator[tuple[str, Path]]:
    """Name and file of each Python module that a file imports, wherever in it the statement stands; runs nothing."""
    for level, base, name in source.imports:
        if level:
            parents = package.split(".")
            base = ".".join([*parents[: len(parents) - level + 1], *filter(None, [base])])
        for candidate in (f"{base}.{name}", base) if name else (base,):
            if candidate.strip(".") and (origin := _find(candidate)):
                yield candidate, origin
                break


def _find(name: str) -> Path | None:
    """The source file of a module by its full name, found without importing it."""
    top, *rest = name.split(".")
    if top in sys.stdlib_module_names:
        return None
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):  # ValueError: `__main__`
        return None
    for depth in range(1, len(rest) + 1):
        if spec is None or spec.submodule_search_locations is None:
            return None
        spec = PathFinder.find_spec(".".join([top, *rest[:depth]]), list(spec.submodule_search_locations))
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    return Path(spec.origin).resolve()


def _counts(name: str, path: Path) -> bool:
    if name == "multistep_bench" or name.startswith("multistep_bench."):
        return _is_ours(name)
    return not is_installed(path)


def _is_ours(name: str) -> bool:
    return name.startswith(f"{OURS}.") and name.removeprefix(f"{OURS}.") not in MACHINERY


def _parse(path: Path) -> Source:
    try:
        return parsed(path.read_bytes())
    except (OSError, SyntaxError, ValueError) as error:
        raise ModelError(f"{path} is part of the model's code and cannot be read: {error}; correct the file") from error
