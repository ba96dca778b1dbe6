"""Where a definition comes from: whether another process could import it, and whether it is installed."""

import functools
import sys
import sysconfig
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

INSTALLED = {"site-packages", "dist-packages"}
STANDARD = {Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib")}
MAIN = ("__main__", "__mp_main__")  # a script, a notebook, `python -c`


def is_installed(path: Path) -> bool:
    """Whether a source file lies in the standard library or among installed packages.

    An installer leaves a list of the files of each package beside them, wherever it puts them: `pip install --target`
    into any folder, uv into its cache. Of an editable installation the list names no source file.
    """
    if not INSTALLED.isdisjoint(path.parts) or any(path.is_relative_to(folder) for folder in STANDARD):
        return True
    return any(path in _installed_in(folder) for folder in path.parents)


@functools.cache
def _installed_in(folder: Path) -> frozenset[Path]:
    """The files that the packages installed into this folder list as theirs.

    Only in a `RECORD`, which names itself: the `SOURCES.txt` that setuptools leaves in a project names the project's
    own files.
    """
    lists = [each.files or [] for each in distributions(path=[str(folder)])]
    installed = [files for files in lists if any(file.name == "RECORD" for file in files)]
    return frozenset(Path(str(file.locate())) for files in installed for file in files)


def is_of_a_library(module: str) -> bool:
    """Whether a loaded module belongs to Python or to an installed package, by its name."""
    top = module.partition(".")[0]
    if top in sys.stdlib_module_names or top in sys.builtin_module_names:
        return module not in MAIN
    file = getattr(sys.modules.get(top), "__file__", None)
    return file is not None and is_installed(Path(file).resolve())


def is_importable(definition: Any) -> bool:
    """Whether a class or function is found under its name in a module that is not the main one.

    False for what a script or a notebook defines, and for what is defined inside a function.
    """
    name, path = getattr(definition, "__module__", None), getattr(definition, "__qualname__", None)
    found: Any = sys.modules.get(name or "")
    if found is None or name in MAIN or not path:
        return False
    for part in path.split("."):
        found = getattr(found, part, None)
    return found is definition
