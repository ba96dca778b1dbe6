"""The shapes behind the source `glyphs`: ten digits and ten garments, as points in a box of 100 × 100, y down."""

from dataclasses import dataclass

Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Shape:
    """outline: a filled polygon. strokes: bright lines, splines if `curved`. seams: dark lines over the filling.

    All in the unit box.
    """

    name: str
    outline: Points = ()
    strokes: tuple[Points, ...] = ()
    seams: tuple[Points, ...] = ()
    curved: bool = False


def _points(text: str) -> Points:
    """ "50 0, 20 17" → ((0.5, 0.0), (0.2, 0.17))"""
    pairs = (pair.split() for pair in text.split(","))
    return tuple((int(x) / 100, int(y) / 100) for x, y in pairs)


def _digit(name: str, *strokes: str) -> Shape:
    return Shape(name, strokes=tuple(map(_points, strokes)), curved=True)


def _garment(name: str, outline: str, *, strokes: tuple[str, ...] = (), seams: tuple[str, ...] = ()) -> Shape:
    return Shape(name, _points(outline), tuple(map(_points, strokes)), tuple(map(_points, seams)))


def _symmetric(name: str, right: str, *, seams: tuple[str, ...] = ()) -> Shape:
    """A garment given by the right half of its outline, top to bottom."""
    half = _points(right)
    return Shape(name, half + tuple((1 - x, y) for x, y in reversed(half)), seams=tuple(map(_points, seams)))


DIGITS = (
    _digit("0", "50 0, 20 20, 17 60, 35 97, 65 97, 83 60, 80 20, 50 0"),
    _digit("1", "33 22, 55 0, 54 50, 52 100"),
    _digit("2", "20 22, 40 0, 75 10, 74 42, 20 97", "20 97, 50 95, 85 97"),
    _digit("3", "22 10, 55 0, 78 22, 45 47", "45 47, 82 70, 60 98, 18 88"),
    _digit("4", "50 0, 32 35, 15 65", "15 65, 50 64, 88 63", "65 30, 64 65, 62 100"),
    _digit("5", "80 2, 55 2, 30 3", "30 3, 27 20, 25 42", "25 42, 65 38, 80 68, 55 97, 18 90"),
    _digit("6", "70 0, 35 30, 20 70, 45 100, 80 80, 60 50, 25 65"),
    _digit("7", "17 5, 50 4, 82 3", "82 3, 58 45, 40 100"),
    _digit("8", "50 47, 25 25, 50 0, 75 25, 50 47, 18 75, 50 100, 82 75, 50 47"),
    _digit("9", "75 30, 50 50, 22 28, 45 0, 75 20, 72 60, 55 100"),
)

_BODY = "72 38, 71 65, 72 95"
_LONG_SLEEVE = "60 6, 78 10, 94 45, 100 85, 86 88, 78 52"
_SHORT_SLEEVE = "62 6, 80 11, 100 36, 86 47"
_FRONT = "50 10, 50 50, 50 93"

GARMENTS = (
    _symmetric("t-shirt", f"50 11, {_SHORT_SLEEVE}, {_BODY}"),
    _symmetric("trousers", "50 2, 70 2, 74 50, 72 100, 57 100, 52 40"),
    _symmetric("pullover", f"50 10, {_LONG_SLEEVE}, {_BODY}"),
    _symmetric("dress", "50 12, 58 2, 64 3, 60 38, 72 70, 80 100"),
    _symmetric(
        "coat",
        f"50 6, {_LONG_SLEEVE}, 76 55, 79 100",
        seams=(_FRONT, "50 10, 40 25, 50 42", "50 10, 60 25, 50 42"),
    ),
    _garment(
        "sandal",
        "0 78, 30 72, 60 68, 95 50, 100 75, 85 86, 40 88, 0 88",
        strokes=("12 78, 30 52, 45 72", "50 70, 72 35, 92 52"),
    ),
    _symmetric("shirt", f"50 11, {_SHORT_SLEEVE}, {_BODY}", seams=(_FRONT, "38 5, 50 22, 62 5")),
    _garment(
        "sneaker",
        "0 66, 30 56, 58 36, 72 38, 86 40, 98 36, 100 80, 50 83, 0 82",
        seams=("2 74, 50 74, 98 72", "40 50, 50 62, 62 66"),
    ),
    _garment("bag", "8 38, 92 38, 98 92, 2 92", strokes=("28 38, 34 12, 66 12, 72 38",)),
    _garment("boot", "52 5, 95 5, 92 50, 100 95, 80 95, 75 86, 60 95, 5 95, 5 78, 50 58"),
)

SHAPES = DIGITS + GARMENTS
