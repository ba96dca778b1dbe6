"""Builds the board: verifies and scores every entry, then writes the pages in site/ and the table in README.md.

The pages are static and whole in themselves: they work from a disk and from any host, ask for nothing outside
themselves, and all text of an entry in them is escaped. Whatever one entry does, the others are shown: what breaks is
left out by name.
"""

import base64
import hashlib
import multiprocessing
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from multistep_bench import __version__
from multistep_bench.atomic import write_atomically
from multistep_bench.errors import BenchError
from multistep_bench.leaderboard.checks.copies import copies
from multistep_bench.leaderboard.entry import entry_folders
from multistep_bench.leaderboard.references import NO_REFERENCES, references
from multistep_bench.leaderboard.site.board import SEED_MARKS, Candidate, Row, Table, candidate, tables
from multistep_bench.leaderboard.site.details import detail
from multistep_bench.leaderboard.site.ranks import EXPLAINED
from multistep_bench.leaderboard.site.table import replace_table
from multistep_bench.leaderboard.suites import LARGEST, SIZE_CLASSES, read_suites
from multistep_bench.leaderboard.verify import Verdict, unreadable, verify, verify_entry
from multistep_bench.reporting.labels import duration, number, rate_label, short_count
from multistep_bench.reporting.report import breakable
from multistep_bench.runs.machine import available_cores
from multistep_bench.scoring.score import SCORER_VERSION

SITE_FOLDER = "site"
PAGES_FOLDER = "entries"
README = "README.md"
PAGE_BYTES = 4 << 20  # of an entry's page
MANY = 100  # entries, from which on processes pay for their start


_TABLE = re.compile(r'<table class="plain">.*?</table>', re.DOTALL)
_HEADING = re.compile(r'<th scope="col">(.*?)</th>')
_ROW = re.compile(r"<tr.*?</tr>", re.DOTALL)
_CELL = re.compile(r"<td(?=[ >])")


@dataclass(frozen=True)
class Built:
    """What a build wrote.

    refused: name → problems of entries that are not shown. apart: submitted ones that are sound and in no suite.
    note:    what the board lacks.
    """

    index: Path
    tables: list[Table]
    refused: dict[str, tuple[str, ...]]
    apart: tuple[str, ...]
    note: str | None = None

    def to_dict(self) -> dict[str, Any]:
        shown = {table.suite.name: [row.entry.name for row in table.rows] for table in self.tables}
        refused = {name: list(problems) for name, problems in self.refused.items()}
        apart = list(self.apart)
        return {"index": str(self.index), "suites": shown, "refused": refused, "apart": apart, "note": self.note}


def build(board: Path) -> Built:
    """Verifies every entry of a board and writes its pages and its README's table.

    Raises `BenchError` where the folder, its suites or its README are not those of a board.
    """
    if not board.is_dir():
        raise BenchError(f"there is no folder {board}; run this in a checkout, or name the board's folder with --board")
    suites = read_suites(board)
    candidates = _candidates(board)
    while True:
        ranked = tables(suites, candidates)
        pages = _entry_pages(ranked)
        large = {name: len(page) for name, page in pages.items() if len(page) > PAGE_BYTES}
        if not large:
            break
        candidates = [_without_large_page(each, large) for each in candidates]
    shown = {row.entry.name for table in ranked for row in table.rows}
    verdicts = [each.verdict for each in candidates]
    refused = {verdict.name: verdict.problems for verdict in verdicts if not verdict.sound}
    known = shown | {entry.name for entry in references()}
    apart = tuple(sorted(verdict.name for verdict in verdicts if verdict.sound and verdict.name not in known))
    note = None if references() else f"The reference baselines are not shown, {NO_REFERENCES}."
    built = Built(board / SITE_FOLDER / "index.html", ranked, refused, apart, note)
    replace_table(board / README, ranked, note)
    try:
        _write_pages(built, pages)
    except OSError as error:
        place = error.filename or built.index.parent
        raise BenchError(
            f"{place} cannot be written ({error.strerror}); move away what is in the place of pages"
        ) from None
    return built


def _candidates(board: Path) -> list[Candidate]:
    """What was found of every entry, references first; those that share a curve with another are refused, both."""
    candidates = list(reference_candidates())
    taken = {each.verdict.name for each in candidates}
    for each in _assessed(list(entry_folders(board))):
        name = each.verdict.name
        candidates.append(each.refused("its name is a reference's") if name in taken else each)
    shared = _shared([each.verdict for each in candidates])
    return [each.refused(*shared.get(index, ())) for index, each in enumerate(candidates)]


@lru_cache(maxsize=1)
def reference_candidates() -> tuple[Candidate, ...]:
    """What was found of every reference; they are those of the checkout, so once a process is enough."""
    return tuple(candidate(verify_entry(entry, entry.name)) for entry in references())


def _assessed(folders: Sequence[Path]) -> Iterator[Candidate]:
    """What was found of each entry, in order; of many in processes, one a core."""
    if len(folders) < MANY:
        yield from map(_assess, folders)
        return
    with ProcessPoolExecutor(available_cores(), multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(_assess, folders, chunksize=8)


def _assess(folder: Path) -> Candidate:
    try:
        return candidate(verify(folder, draw_items=False))
    except Exception as error:  # nobody knows what an entry may hold; the others are shown all the same
        return candidate(unreadable(folder, f"it breaks the verifier; report that ({type(error).__name__}: {error})"))


def _shared(verdicts: Sequence[Verdict]) -> dict[int, list[str]]:
    """By index of the verdict: which curves it shares with which other entry. A reference is never at fault."""
    owned = [(index, trace) for index, verdict in enumerate(verdicts) if verdict.sound for trace in verdict.traces]
    shared: dict[int, list[str]] = {}
    for first, second, how in copies([trace for _, trace in owned]):
        for (mine, ours), (other, theirs) in ((owned[first], owned[second]), (owned[second], owned[first])):
            entry = verdicts[mine].entry
            if mine != other and entry is not None and not entry.reference:
                shared.setdefault(mine, []).append(f"{ours.place} {how} {theirs.owner}: {theirs.place}")
    return shared


def _entry_pages(ranked: Sequence[Table]) -> dict[str, bytes]:
    """The page of every entry on the board, by name."""
    template = _environment().get_template("entry.html.j2")
    wanted: dict[str, list[tuple[Table, Row]]] = {}
    for table in ranked:
        for row in table.rows:
            wanted.setdefault(row.entry.name, []).append((table, row))
    return {name: name_cells(template.render(detail(places))).encode() for name, places in wanted.items()}


def name_cells(page: str) -> str:
    """A page without a script whose cells carry their column's name, which a phone shows instead of the headings."""
    return _TABLE.sub(_named_table, page)


def _named_table(table: re.Match[str]) -> str:
    names = _HEADING.findall(table[0])

    def named_row(row: re.Match[str]) -> str:
        headings = iter(names[1:])  # the first column names the row
        return _CELL.sub(lambda cell: f'<td data-name="{next(headings)}"', row[0])

    return _ROW.sub(named_row, table[0])


def _without_large_page(each: Candidate, large: Mapping[str, int]) -> Candidate:
    size = large.get(each.verdict.name)
    return each if size is None else each.refused(f"its page would have {size} bytes, more than {PAGE_BYTES}")


def _write_pages(built: Built, pages: Mapping[str, bytes]) -> None:
    """Writes index.html and the pages of entries; a link in their place is removed, never followed."""
    folder = built.index.parent / PAGES_FOLDER
    for place in (built.index.parent, folder):
        if place.is_symlink():
            place.unlink()
        place.mkdir(parents=True, exist_ok=True)
    index = _environment().get_template("board.html.j2").render(_board_content(built))
    write_atomically(built.index, index)
    for name, page in pages.items():
        path = folder / f"{name}.html"
        path.unlink(missing_ok=True)
        path.write_bytes(page)
    for path in folder.glob("*.html"):
        if path.stem not in pages:
            path.unlink()


def _board_content(built: Built) -> dict[str, Any]:
    script = _file("leaderboard.site", "board.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return {
        "tables": built.tables,
        "note": built.note,
        "seed_marks": SEED_MARKS,
        "ranks_explained": EXPLAINED,
        "refused": built.refused,
        "apart": built.apart,
        "sizes": [*(name for name, _ in SIZE_CLASSES), LARGEST],
        "most_tasks": max(len(table.suite.tasks) for table in built.tables),
        "version": __version__,
        "scorer": SCORER_VERSION,
        "js": Markup(script),
        "script_hash": f"sha256-{digest}",
    }


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=FunctionLoader(lambda name: _file("leaderboard.site", name)),
    )
    environment.filters |= {
        "breakable": breakable,
        "number": number,
        "rate": rate_label,
        "short": lambda value: "–" if value is None else short_count(value),
        "flops": lambda value: "–" if value is None else f"{value:.1e}".replace("e+", "e"),
        "count": lambda value: "–" if value is None else f"{value:,.0f}",
        "duration": lambda value: "–" if value is None else duration(value),
    }
    environment.globals["css"] = Markup(_file("reporting", "report.css") + _file("leaderboard.site", "board.css"))
    return environment


def _file(package: str, name: str) -> str:
    return resources.files(f"multistep_bench.{package}").joinpath(name).read_text(encoding="utf-8")
