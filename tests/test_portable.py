"""The package imports on Windows and macOS: no module of one system alone, no text in a system's own encoding."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "multistep_bench"
MODULES = sorted(PACKAGE.rglob("*.py"))
ONE_SYSTEM_ALONE = {"fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "posix", "syslog", "crypt", "spwd"}
ONE_SYSTEM_ALONE |= {"msvcrt", "winreg", "winsound", "_winapi", "nt", "readline", "curses"}


def guarded_imports(tree: ast.AST, guarded: bool = False) -> Iterator[tuple[str, bool]]:
    """Top-level names of imported modules, and whether an ImportError there is caught."""
    for node in ast.iter_child_nodes(tree):
        inside = guarded
        if isinstance(node, ast.Try):
            caught = {name.id for handler in node.handlers for name in ast.walk(handler) if isinstance(name, ast.Name)}
            inside = guarded or "ImportError" in caught
        if isinstance(node, ast.Import):
            yield from ((alias.name.partition(".")[0], inside) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            yield node.module.partition(".")[0], inside
        yield from guarded_imports(node, inside)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_a_module_imports_nothing_that_a_system_lacks(path: Path) -> None:
    found = guarded_imports(ast.parse(path.read_text(encoding="utf-8")))
    assert not [name for name, guarded in found if name in ONE_SYSTEM_ALONE and not guarded]


def test_the_walk_finds_a_bare_import_and_lets_a_guarded_one_pass() -> None:
    code = "def f():\n    import fcntl\ntry:\n    import resource\nexcept ImportError:\n    pass\n"
    assert list(guarded_imports(ast.parse(code))) == [("fcntl", False), ("resource", True)]


OPENS = {"open", "read_text", "write_text", "NamedTemporaryFile", "fdopen"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_text_files_name_their_encoding(path: Path) -> None:
    """Windows would read them in cp1252."""
    calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    for call in calls:
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        owner = ast.unparse(call.func.value) if isinstance(call.func, ast.Attribute) else ""
        if name not in OPENS or owner in ("os", "self", "Image", "zipfile", "gzip", "tarfile", "archive"):
            continue
        words = {keyword.arg for keyword in call.keywords}
        texts = [arg.value for arg in call.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
        binary = any("b" in text and len(text) <= 3 for text in texts)
        assert binary or "encoding" in words, f"{path.name}:{call.lineno} {ast.unparse(call)[:80]}"


EXTRAS = {"ray"}
WITHOUT = """
import sys
for name in {names!r}:
    sys.modules[name] = None
import importlib, pkgutil, multistep_bench
for module in pkgutil.walk_packages(multistep_bench.__path__, "multistep_bench."):
    try:
        importlib.import_module(module.name)
    except ModuleNotFoundError as error:  # an extra's own module, imported where the extra is asked for
        if error.name not in {extras!r}:
            raise
from multistep_bench.runs.machine import available_cores, hardware, versions
assert available_cores() >= 1
"""


@pytest.mark.slow
def test_everything_imports_without_the_modules_of_unix_alone() -> None:
    names = sorted({"fcntl", "resource", "pwd", "grp", "termios"})
    code = WITHOUT.format(names=[*names, *EXTRAS], extras=EXTRAS)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
