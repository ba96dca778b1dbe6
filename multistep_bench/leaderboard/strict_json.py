"""JSON of strangers: bounded in depth, text and digits, each key once, nothing that does not show as it is."""

import json
from collections.abc import Iterator
from typing import Any

from multistep_bench.errors import BenchError

DEPTH = 12
TEXT_LENGTH = 4_000
INTEGER_DIGITS = 19


class Unreadable(BenchError):
    """An entry, or a file of one, that cannot be read; `problems` names every one found."""

    def __init__(self, *problems: str) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def strict_json(text: bytes, where: str) -> Any:
    """JSON of bounded depth and numbers, without duplicate keys, NaN or characters that do not show as they are."""
    try:
        content = _DECODER.decode(text.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"{where}: {_short(error)}") from None
    problem = next(_tree_problems(content), None)
    if problem:
        raise Unreadable(f"{where}: {problem}")
    return content


def shows(text: str) -> bool:
    """Whether every character of a text is one that a page and a terminal show as it is."""
    return text.replace("\n", " ").isprintable()


def _short(error: BaseException) -> str:
    return f"is not JSON as the harness writes it ({type(error).__name__}: {str(error)[:100]})"


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError("a key occurs twice")
    return content


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _integer(digits: str) -> int:
    if len(digits) > INTEGER_DIGITS:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


_DECODER = json.JSONDecoder(object_pairs_hook=_pairs, parse_constant=_no_constant, parse_int=_integer)


def _tree_problems(content: Any, depth: int = 0) -> Iterator[str]:
    if depth > DEPTH:
        yield f"nested more than {DEPTH} deep"
    elif isinstance(content, dict):
        for key, value in content.items():
            yield from _tree_problems(key, depth + 1)
            yield from _tree_problems(value, depth + 1)
    elif isinstance(content, list):
        for value in content:
            yield from _tree_problems(value, depth + 1)
    elif isinstance(content, str):
        if len(content) > TEXT_LENGTH:
            yield f"a text of {len(content)} characters, more than {TEXT_LENGTH}"
        elif not shows(content):
            yield f"a text with characters that do not show: {content[:60]!a}"
    elif isinstance(content, float) and content in (float("inf"), float("-inf")):
        yield "a number too large to be one"
