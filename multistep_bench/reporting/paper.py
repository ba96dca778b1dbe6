"""How wide a figure is and how large its letters are, where a paper asks for other sizes than the suite's."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from multistep_bench.errors import BenchError, NotFound

COLUMN = 3.25  # inches: one column of a two-column paper
PAGE = 6.75  # inches: its full text width
WIDTHS = {"single": COLUMN, "double": PAGE}
NARROWEST, WIDEST = 2.0, 40.0  # inches
SMALLEST, LARGEST = 4.0, 24.0  # points
FONT_SIZE = 8.0


@dataclass(frozen=True)
class Paper:
    """width: of every figure in inches, None for the suite's choice; font_size: of titles and labels, in points."""

    width: float | None = None
    font_size: float = FONT_SIZE


_paper: ContextVar[Paper] = ContextVar("paper", default=Paper())  # noqa: B039, frozen


def paper() -> Paper:
    """The sizes that figures take now."""
    return _paper.get()


@contextmanager
def on_paper(width: str | float | None = None, font_size: float | None = None) -> Iterator[None]:
    """Inside, figures have this width and these letters.

    width: inches, or "single" or "double" for a paper's column or page. font_size: points.
    Raises `BenchError` for sizes that no figure can have.
    """
    size = FONT_SIZE if font_size is None else font_size
    if not SMALLEST <= size <= LARGEST:
        raise BenchError(f"--font-size {size:g}: give points from {SMALLEST:g} to {LARGEST:g}")
    before = _paper.set(Paper(_inches(width), size))
    try:
        yield
    finally:
        _paper.reset(before)


def _inches(width: str | float | None) -> float | None:
    if width is None:
        return None
    if isinstance(width, str) and width in WIDTHS:
        return WIDTHS[width]
    try:
        inches = float(width)
    except ValueError:
        raise NotFound("width", str(width), WIDTHS, f"inches, or {' or '.join(WIDTHS)}") from None
    if not NARROWEST <= inches <= WIDEST:
        raise BenchError(f"--width {inches:g}: give inches from {NARROWEST:g} to {WIDEST:g}, or single or double")
    return inches
