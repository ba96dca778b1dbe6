"""A source file reduced to what it does: two texts of one program give one hash.

Left out are comments, formatting, docstrings and other statements without effect, the order of imports at the top of
a file, from where in this package a name is imported, the words of errors and assertions, and what differs between
versions of Python's parser. Everything else counts: a constant, a default, a name, an annotation.
"""

import ast
import functools
import hashlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

PACKAGE = "multistep_bench"
UNSEEN_FIELDS = {"ctx", "type_comment", "type_ignores", "kind"}


@dataclass(frozen=True)
class Source:
    """sha256: of the reduced text. imports: (dots, module, name or "") of each import, wherever it stands."""

    sha256: str
    imports: tuple[tuple[int, str, str], ...]


@functools.lru_cache(maxsize=1024)
def parsed(content: bytes) -> Source:
    """The content of a Python file; raises `SyntaxError` or `ValueError` where Python cannot parse it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        tree = ast.parse(content)
    return Source(hashlib.sha256(reduced(tree).encode()).hexdigest(), tuple(imports_of(tree)))


def reduced(tree: ast.Module) -> str:
    """A module's text: its top imports sorted, then its other statements in order."""
    top = {alias for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom) for alias in _aliases(node)}
    rest = [node for node in tree.body if not isinstance(node, ast.Import | ast.ImportFrom)]
    return "\n".join([*sorted(top), *_statements(rest)])


def _statements(body: list[ast.stmt]) -> list[str]:
    return [text_of(node) for node in body if not _has_no_effect(node)]


def _has_no_effect(node: ast.stmt) -> bool:
    return isinstance(node, ast.Pass) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))


def text_of(value: Any) -> str:
    """A node by its type and its non-empty fields, by name; a plain value in ASCII."""
    if isinstance(value, list):
        if value and isinstance(value[0], ast.stmt):
            return f"[{','.join(_statements(value))}]"
        return f"[{','.join(map(text_of, value))}]"
    if not isinstance(value, ast.AST):
        return ascii(value)
    if isinstance(value, ast.Constant):
        return f"Constant({value.value!a})"
    if isinstance(value, ast.Import | ast.ImportFrom):
        return f"Import({','.join(sorted(_aliases(value)))})"
    fields = dict(ast.iter_fields(value))
    if isinstance(value, ast.JoinedStr):
        fields["values"] = _joined(value.values)
    if isinstance(value, ast.Raise) and isinstance(value.exc, ast.Call):
        fields["exc"] = value.exc.func  # without its words
    if isinstance(value, ast.Assert):
        fields["msg"] = None
    shown = {name: text_of(field) for name, field in sorted(fields.items()) if name not in UNSEEN_FIELDS}
    kept = ",".join(f"{name}={text}" for name, text in shown.items() if text not in ("[]", "None"))
    return f"{type(value).__name__}({kept})"


def _joined(values: list[ast.expr]) -> list[ast.expr]:
    """The parts of an f-string; neighbouring texts, which parsers split differently, become one."""
    parts: list[ast.expr] = []
    for part in values:
        last = parts[-1] if parts else None
        if isinstance(part, ast.Constant) and isinstance(last, ast.Constant):
            parts[-1] = ast.Constant(str(last.value) + str(part.value))
        else:
            parts.append(part)
    return parts


def _aliases(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    """ "module:name as other" of each name; a name of this package without its module, which may move."""
    for alias in node.names:
        renamed = alias.asname or alias.name
        if isinstance(node, ast.Import):
            yield f"{alias.name} as {renamed}"
        elif (node.module or "").split(".")[0] == PACKAGE:
            yield f"{PACKAGE}:{alias.name} as {renamed}"
        else:
            yield f"{'.' * node.level}{node.module or ''}:{alias.name} as {renamed}"


def imports_of(tree: ast.AST) -> Iterator[tuple[int, str, str]]:
    """(dots, module, name or "") of each import, wherever in the tree it stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.level, node.module or "", alias.name) for alias in node.names)
