"""Code that a card names: nothing of it runs before somebody has said that it may.

A card is a file that people pass around, and an import path in it, `package.module:Name`, is code. Cards that ship with
the suite are trusted; of any other card each path has to be named, on the command line with --trust or in Python with
`multistep_bench.trust`. Paths that a user gives directly, as in `--model mine:build`, are the user's own word.
"""

import re
from collections.abc import Iterator
from typing import Any

from multistep_bench.errors import CardError

IMPORT_PATH = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
_trusted: set[str] = set()


def trust(*paths: str) -> None:
    """Says that cards may name these import paths, `package.module:Name`, in this process."""
    for path in paths:
        if not IMPORT_PATH.fullmatch(path):
            raise CardError(f"--trust {path}: this is no import path; write package.module:Name as the card does")
    _trusted.update(paths)


def import_paths(content: Any) -> Iterator[str]:
    """The texts in plain data that are import paths."""
    if isinstance(content, dict):
        for key, value in content.items():
            yield from import_paths(key)
            yield from import_paths(value)
    elif isinstance(content, list | tuple):
        for value in content:
            yield from import_paths(value)
    elif isinstance(content, str) and IMPORT_PATH.fullmatch(content):
        yield content


def check_trusted(content: Any, where: str) -> None:
    """Raises `CardError` for plain data of a card with an import path that nobody has trusted."""
    foreign = sorted(set(import_paths(content)) - _trusted)
    if foreign:
        raise CardError(
            f"{where} would run {', '.join(foreign)}, code that the card names; read it, then add"
            f" {' '.join(f'--trust {path}' for path in foreign)}"
        )
