"""The syntax of a function found from its code object: in a file, or in the cell of a notebook."""

import ast
import dis
import functools
import linecache
import warnings
from collections.abc import Iterator
from types import CodeType

from multistep_bench.models.syntax import text_of

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
GLOBAL_NAMES = {"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"}


def definition_of(code: CodeType) -> Definition | None:
    """The `def` or `lambda` that made a function; None where its text is not known, as after `exec`."""
    linecache.checkcache(code.co_filename)
    lines = tuple(linecache.getlines(code.co_filename))  # IPython keeps the text of its cells there
    found = [node for node in _definitions(lines) if _is_of(node, code)]
    if len(found) > 1:  # lambdas on one line
        found = [node for node in found if all(_within(place, node) for place in _places(code))]
    return found[-1] if found else None  # the innermost


def text_of_code(code: CodeType) -> str:
    """What a function does: its syntax, see `models.syntax`, or its bytecode where its text is not known."""
    node = definition_of(code)
    return _bytecode(code) if node is None else text_of(node)


def global_names(code: CodeType) -> set[str]:
    """The names that a function, and what is defined in it, look up outside of it."""
    names = {each.argval for each in dis.get_instructions(code) if each.opname in GLOBAL_NAMES}
    return names.union(*(global_names(const) for const in code.co_consts if isinstance(const, CodeType)))


@functools.lru_cache(maxsize=64)
def _definitions(lines: tuple[str, ...]) -> tuple[Definition, ...]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            tree = ast.parse("".join(lines))
    except (SyntaxError, ValueError):
        return ()
    return tuple(node for node in ast.walk(tree) if isinstance(node, Definition))


def _is_of(node: Definition, code: CodeType) -> bool:
    """Whether name, first line and arguments agree; a file that was edited since may not."""
    lambda_ = isinstance(node, ast.Lambda)
    first = node.lineno if lambda_ else min([node.lineno, *(each.lineno for each in node.decorator_list)])
    given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    count = code.co_argcount + code.co_kwonlyargcount
    name = "<lambda>" if lambda_ else node.name
    return (name, first, [each.arg for each in given]) == (
        code.co_name,
        code.co_firstlineno,
        list(code.co_varnames[:count]),
    )


def _places(code: CodeType) -> Iterator[tuple[int, int, int, int]]:
    """Line, end line, column and end column of each instruction, as far as they are known."""
    for line, end_line, column, end_column in code.co_positions():
        if line is not None and end_line is not None and column is not None and end_column:
            yield line, end_line, column, end_column


def _within(place: tuple[int, int, int, int], node: Definition) -> bool:
    line, end_line, column, end_column = place
    last = node.end_lineno or node.lineno, node.end_col_offset or node.col_offset
    return (node.lineno, node.col_offset) <= (line, column) and (end_line, end_column) <= last


def _bytecode(code: CodeType) -> str:
    """The same in every process of one version of Python."""
    names = code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars
    return f"{code.co_name}{names!a}{code.co_code.hex()}({','.join(_constants(code))})"


def _constants(code: CodeType) -> Iterator[str]:
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield _bytecode(const)
        elif isinstance(const, frozenset):
            yield ascii(sorted(map(ascii, const)))
        else:
            yield ascii(const)
