"""What all figures share: style, colours, ticks and legends, and how a figure is written to a file."""

import io
import re
import textwrap
from collections.abc import Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from html import escape
from pathlib import Path
from typing import Any, Literal, TypeVar

import matplotlib
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

from multistep_bench.errors import BenchError
from multistep_bench.reporting.paper import COLUMN as COLUMN
from multistep_bench.reporting.paper import PAGE as PAGE
from multistep_bench.reporting.paper import paper
from multistep_bench.reporting.ticks import count_ticks as count_ticks

Look = dict[str, Any]  # colour, dashes and marks, by matplotlib's names
Name = TypeVar("Name", bound=Hashable)

PANEL_HEIGHT = 1.6  # inches
HANDLE, LETTER, LEGEND_LINE = 0.6, 0.062, 0.155  # inches of a legend: line and gaps, a letter, a line's height
NOTEBOOK_DOTS = 110  # an inch, of a figure in a notebook

# Okabe and Ito's colours, told apart by colour-blind readers; without black (text) and yellow (faint on white).
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
LINE_STYLES = ("-", "--", ":")  # a further dash pattern after the last colour, so that all series differ
INK = "#1b1b1f"
MUTED = "#6a6a73"
PAPER = "#ffffff"
FAINT = "#c9c9d1"  # other runs behind one

# The variables of a page that colour an inline figure, so that it follows the page's theme.
PAGE_COLOURS = {INK: "--ink", MUTED: "--muted", PAPER: "--paper", FAINT: "--faint"} | {
    colour: f"--series-{index}" for index, colour in enumerate(SERIES)
}

FORMATS = ("png", "svg", "pdf")
SOURCE = "Description"  # a keyword of PNG's text chunks
_NO_METADATA = {
    "png": {"Software": None},
    "svg": dict.fromkeys(("Date", "Creator", "Format", "Type")),
    "pdf": {"CreationDate": None},
}
_STYLE = {
    "font.family": "sans-serif",
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "text.parse_math": False,  # a model's name may hold dollar signs
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.2,
    "figure.dpi": 100,
    "savefig.dpi": 300,
    "pdf.fonttype": 42,  # TrueType: some publishers refuse Type 3
    "svg.hashsalt": "multistep-bench",  # equal figures give equal files
}


@contextmanager
def style(**changes: Any) -> Iterator[None]:
    """The suite's style; afterwards the user's own matplotlib settings are restored."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        larger = paper().font_size / 8
        sizes = {key: value * larger for key, value in _STYLE.items() if key.endswith(("size", "fontsize"))}
        settings: dict[Any, Any] = {**_STYLE, **sizes, **changes}
        matplotlib.rcParams.update(settings)
        yield


class NotebookFigure(Figure):
    """A figure that a notebook shows without pyplot."""

    def _repr_png_(self) -> bytes:
        return png(self)


def png(figure: Figure) -> bytes:
    """A figure as a notebook shows it."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=NOTEBOOK_DOTS)
    return picture.getvalue()


def new_figure(width: float, height: float, layout: Literal["constrained"] | None = "constrained") -> Figure:
    """A figure of that size in inches, or of the width that `paper` asks for, made without pyplot: no window."""
    return NotebookFigure(figsize=(paper().width or width, height), layout=layout)


def series_style(index: int) -> Look:
    """Colour and dash pattern of the index-th series of a figure."""
    return {
        "color": SERIES[index % len(SERIES)],
        "linestyle": LINE_STYLES[index // len(SERIES) % len(LINE_STYLES)],
    }


def series_styles(names: Iterable[Name]) -> dict[Name, Look]:
    """A style for each name; panels that share a legend give the names of all of them, in one order."""
    return {name: series_style(index) for index, name in enumerate(dict.fromkeys(names))}


def figure_legend(figure: Figure, entries: Mapping[str, Line2D], title: str | None = None) -> None:
    """One legend below all panels, with long names wrapped; the figure grows by its lines beyond the first.

    title: a sentence above the names.
    """
    letter = paper().font_size / 8 * LETTER
    width = figure.get_figwidth()
    names = [textwrap.fill(name, max(12, int((width - HANDLE) / letter))) for name in entries]
    longest = max(len(line) for name in names for line in name.split("\n"))
    columns = min(max(1, int(width // (HANDLE + letter * longest))), len(names))
    told = textwrap.fill(title, max(12, int(width / letter) - 4)) if title else None
    rows = -(-len(names) // columns)
    filled = [names[start : start + rows] for start in range(0, len(names), rows)]
    lines = max(sum(name.count("\n") + 1 for name in column) for column in filled)
    lines += told.count("\n") + 1 if told else 0
    figure.set_figheight(figure.get_figheight() + (lines - 1) * paper().font_size / 8 * LEGEND_LINE)
    look: dict[str, Any] = {"title": told, "title_fontsize": matplotlib.rcParams["legend.fontsize"]}
    figure.legend(entries.values(), names, loc="outside lower center", ncols=columns, **look)


def plot_format(path: Path) -> str:
    """The format given by a file name's ending; raises `BenchError` for any but png, svg and pdf."""
    name = path.suffix.lstrip(".").lower()
    if name not in FORMATS:
        raise BenchError(f"a plot cannot be written as '{path.name}'; end the name in .png, .svg or .pdf")
    return name


_collecting: ContextVar[list[Figure] | None] = ContextVar("collecting", default=None)


@contextmanager
def collected() -> Iterator[list[Figure]]:
    """Inside, `save` adds figures to this list instead of writing them."""
    figures: list[Figure] = []
    before = _collecting.set(figures)
    try:
        yield figures
    finally:
        _collecting.reset(before)


def save(figure: Figure, path: str | Path, *, source: str | None = None) -> Path:
    """Writes a figure as its name's ending says, with no date inside; the same figure gives the same bytes.

    source: a hash of what is drawn, which a PNG carries and `source_of` reads.
    """
    path = Path(path)
    file_format = plot_format(path)
    if (collecting := _collecting.get()) is not None:
        collecting.append(figure)
        return path
    metadata = {**_NO_METADATA[file_format], **({SOURCE: source} if source and file_format == "png" else {})}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format=file_format, metadata=metadata)
    except OSError as error:
        raise BenchError(f"the plot {path} cannot be written: {error.strerror}; choose another place") from error
    return path


def source_of(path: Path) -> str | None:
    """What `save` was given as the source of a PNG; None where there is no such file, or none stands in it."""
    try:
        with Image.open(path) as image:
            return image.info.get(SOURCE)
    except OSError:
        return None


def inline_svg(figure: Figure, name: str, titles: Mapping[str, str]) -> str:
    """A figure as an <svg> element for a page that defines the variables of `PAGE_COLOURS`.

    name:   its accessible label.
    titles: tooltips of artists, by gid. Artists with a gid "model-N" can be told by `data-model`.
    Draw it in `style(**{"svg.fonttype": "none", "svg.hashsalt": …})`, each figure of a page with its own salt.
    """
    text = io.StringIO()
    figure.savefig(text, format="svg", transparent=True, metadata=_NO_METADATA["svg"])
    svg = text.getvalue()
    view = re.search(r'viewBox="[^"]*"', svg)
    assert view is not None
    svg = f'<svg role="img" aria-label="{escape(name)}" {view[0]}>' + svg[svg.index("</defs>") + len("</defs>") :]
    svg = re.sub(r' font-family: [^;"]*;', "", svg)
    svg = re.sub(r' d="[^"]*"', lambda path: re.sub(r"(\.\d\d)\d+", r"\1", path[0]).replace("\n", ""), svg)
    for colour, variable in PAGE_COLOURS.items():
        svg = svg.replace(colour, f"var({variable})")
    shown = {gid: f"<title>{escape(title)}</title>" for gid, title in titles.items()}
    return re.sub(r'<g id="([^"]*)">', lambda group: _group(group[1]) + shown.get(group[1], ""), svg)


def _group(gid: str) -> str:
    """The start of a group, without the id, which a page may have only once; a series keeps whose it is."""
    return f'<g data-model="{gid}">' if re.fullmatch(r"model-\d+", gid) else "<g>"
