"""The one way to a terminal: every command prints through `Terminal`, `say` and `print_json`, and nothing else does.

Names, reasons and texts come from cards, folders and strangers' runs. Control characters in them, which could move the
cursor, rewrite lines, retitle the window or turn text around, are written out (as `\\x1b`) and never obeyed. A stream
whose encoding lacks a character gets a similar one.
"""

import codecs
import json
import os
import sys
import unicodedata
import warnings
from collections.abc import Iterable
from typing import Any, TextIO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment, Segments

from multistep_bench.printable import ONE_LINE, printable

WIDEST = 10_000  # characters of a line
ERRORS = "multistep_bench.similar"  # the name of `_similar` as a handler of encoding errors
SIMILAR = {
    **dict.fromkeys("–—−‐─━", "-"),
    **dict.fromkeys("│┃", "|"),
    **dict(zip("▁▂▃▄▅▆▇█", "_.-~=+*#", strict=True)),
    **dict.fromkeys("‘’", "'"),
    **dict.fromkeys("“”", '"'),
    "·": ".",
    "…": "~",
    "★": "*",
    "✗": "x",
    "×": "x",
    "→": ">",
    "≤": "<=",
    "≥": ">=",
    "⅓": "1/3",
    "Δ": "d",
    "λ": "lambda",
    "θ": "theta",
}


class Terminal(Console):
    """A rich console that interprets no markup and obeys no control character in what it is given to print."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"markup": False, "emoji": False, "highlight": False, **options})

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        return map(_printable_segment, super().render(renderable, options))


def _printable_segment(segment: Segment) -> Segment:
    """A segment of text; those that steer the terminal are rich's own."""
    return segment if segment.control else Segment(printable(segment.text), segment.style)


def width_of(console: Console, content: RenderableType) -> int:
    """Characters of the longest line, were there room for all of it."""
    return console.measure(content, options=console.options.update(width=WIDEST)).maximum


def print_wide(console: Console, content: RenderableType) -> None:
    """All of a table or text, also beyond the edge of the terminal."""
    options = console.options.update(width=max(console.width, width_of(console, content)))
    console.print(Segments(list(console.render(content, options))), soft_wrap=True, end="")


def print_whole(console: Console, content: RenderableType) -> None:
    """As wide as a terminal; into a file or a pipe without a line wrapped or cut, however long."""
    if console.is_terminal:
        console.print(content)
    else:
        print_wide(console, content)


def say(text: str, *, error: bool = False, keep: str = ONE_LINE) -> None:
    """Prints one line as it is, unstyled and unwrapped, to standard output or standard error."""
    print(printable(text, keep), file=sys.stderr if error else sys.stdout, flush=True)


def prepare_streams() -> None:
    """Makes standard output and standard error take every character in any encoding, and warnings one line each."""
    warnings.showwarning = _say_warning
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=ERRORS)  # type: ignore[union-attr]


def _say_warning(message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: Any) -> None:
    say(f"{category.__name__}: {message} ({filename}:{lineno})", error=True)


def _similar(error: UnicodeError) -> tuple[str, int]:
    """What is written in place of characters that an encoding lacks."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_ascii, error.object[error.start : error.end])), error.end


def _ascii(letter: str) -> str:
    if letter in SIMILAR:
        return SIMILAR[letter]
    plain = unicodedata.normalize("NFKD", letter).encode("ascii", "ignore").decode()
    return plain if plain.isprintable() and plain else ascii(letter)[1:-1]


codecs.register_error(ERRORS, _similar)


class _Reserved:
    """Standard output kept for one JSON document, while prints of anything else go to standard error.

    Where standard output is a file descriptor it is redirected below Python too, so that worker processes and C code
    follow.
    """

    def __init__(self) -> None:
        self.stdout: TextIO = sys.stdout
        self.stdout.flush()
        self.result = self.stdout
        self.descriptor: int | None = None
        try:
            descriptor, other = self.stdout.fileno(), sys.stderr.fileno()
        except (OSError, ValueError, AttributeError):  # streams of a notebook or a test
            pass
        else:
            self.result = os.fdopen(os.dup(descriptor), "w", encoding="utf-8")
            self.descriptor = descriptor
            os.dup2(other, descriptor)
        sys.stdout = sys.stderr

    def release(self) -> None:
        sys.stdout = self.stdout
        if self.descriptor is not None:
            self.stdout.flush()
            os.dup2(self.result.fileno(), self.descriptor)
            self.result.close()


_reserved: list[_Reserved] = []  # none or one


def reserve_stdout() -> None:
    """From now on only `print_json` writes to standard output; all other prints go to standard error."""
    if not _reserved:
        _reserved.append(_Reserved())


def release_stdout() -> None:
    """Undoes `reserve_stdout`."""
    while _reserved:
        _reserved.pop().release()


def print_json(content: Any) -> None:
    """Prints a JSON document in ASCII, every control character in it escaped."""
    stream = _reserved[0].result if _reserved else sys.stdout
    print(json.dumps(content, indent=1, allow_nan=False), file=stream, flush=True)
