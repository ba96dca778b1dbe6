"""Reads an entry as what it is, hostile input: nothing is followed, run or parsed before it is known to be small.

Every problem is collected as a sentence; what cannot be read at all is an `Unreadable`. A run file must be exactly
what the harness writes for the records in it, byte for byte, so that nothing stands in it that nobody reads.
"""

import hashlib
import itertools
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from multistep_bench.cards import TASK_ID
from multistep_bench.errors import RunError
from multistep_bench.leaderboard.entry import (
    ENTRY_FILE,
    REPRODUCTIONS_FILE,
    RUNS_FOLDER,
    Entry,
    EntryFile,
    is_entry_name,
)
from multistep_bench.leaderboard.notes import Reproduction
from multistep_bench.leaderboard.strict_json import Unreadable, shows, strict_json
from multistep_bench.runs.events import compact_json, short_reason
from multistep_bench.runs.lines import parse_cell_line
from multistep_bench.runs.record import Record
from multistep_bench.runs.store import Run, RunLine
from multistep_bench.strict import Strict

ENTRY_BYTES = 8 << 20  # of all files together; a cell of 200 evaluations has about 7 kB
FILE_BYTES = 1 << 20  # of entry.json and of reproductions.jsonl
ENTRY_FILES = 64
FIRST_LINE_BYTES = 1 << 18  # of a run file: the specification and the environments
ENVIRONMENT_BYTES = 1 << 14  # of each
CELLS = 2_000  # of a run
EVALUATIONS = 5_000  # of a cell
NAME_LENGTH = 60  # of an auxiliary curve

S = TypeVar("S", bound=Strict)


def read_entry(folder: Path) -> Entry:
    """The files are those of an entry and no others, plain and small; JSON holds each key once, and nothing that does
    not show as it is; a run file is byte for byte what the harness writes for the numbers in it.

    Raises `Unreadable` with every problem found.
    """
    files = _files(folder)
    content = {name: _bytes(folder / name) for name in files}
    entry_file = _parsed(EntryFile, content[ENTRY_FILE], ENTRY_FILE)
    if entry_file.model_dump(mode="json", by_alias=True) != strict_json(content[ENTRY_FILE], ENTRY_FILE):
        raise Unreadable(f"{ENTRY_FILE} does not hold every key that `submit` writes")
    problems, runs, hashes = [], [], []
    for name in sorted(name for name in files if name.startswith(f"{RUNS_FOLDER}/")):
        try:
            runs.append(_run(folder / name, content[name], name))
            hashes.append(hashlib.sha256(content[name]).hexdigest())
        except Unreadable as error:
            problems += error.problems
    try:
        reproductions = tuple(_reproductions(content.get(REPRODUCTIONS_FILE, b"")))
    except Unreadable as error:
        problems += error.problems
    if problems:
        raise Unreadable(*problems)
    return Entry(
        name=entry_file.name,
        url=entry_file.url,
        track=entry_file.track,
        runs=tuple(runs),
        root=entry_file.root,
        file=entry_file,
        run_hashes=tuple(hashes),
        reproductions=reproductions,
    )


def _files(folder: Path) -> list[str]:
    """The names of an entry's files, every one of which an entry has; raises `Unreadable` for anything else."""
    if folder.is_symlink() or not folder.is_dir():
        raise Unreadable(f"{folder} is no folder; give one that holds {ENTRY_FILE}")
    if not is_entry_name(folder.name):
        raise Unreadable(f"{folder.name!r} is no entry's name: lower-case letters, digits, _ and -, at most 64")
    names, problems, total = [], [], 0
    for name, status in _walk(folder, ""):
        total += status.st_size
        if stat.S_ISDIR(status.st_mode) and name == RUNS_FOLDER:
            continue
        if not stat.S_ISREG(status.st_mode):
            problems.append(f"{name!r} is no plain file")
        elif not _EXPECTED.fullmatch(name):
            problems.append(f"{name!r} is no file of an entry")
        elif status.st_size > FILE_BYTES and not name.startswith(f"{RUNS_FOLDER}/"):
            problems.append(f"{name} has {status.st_size} bytes, more than {FILE_BYTES}")
        names.append(name)
        if len(names) > ENTRY_FILES or total > ENTRY_BYTES:
            raise Unreadable(f"more than {ENTRY_FILES} files or {ENTRY_BYTES} bytes", *problems[:20])
    if ENTRY_FILE not in names:
        problems.append(f"{ENTRY_FILE} is missing")
    if problems:
        raise Unreadable(*problems[:20])
    return sorted(names)


_EXPECTED = re.compile(
    rf"{re.escape(ENTRY_FILE)}|{re.escape(REPRODUCTIONS_FILE)}|{RUNS_FOLDER}/{TASK_ID.strip('^$')}\.jsonl", re.ASCII
)


def _walk(folder: Path, prefix: str) -> Iterator[tuple[str, os.stat_result]]:
    """What lies in a folder and in the one folder that an entry has, links not followed."""
    with os.scandir(folder) as found:
        for item in found:
            name = f"{prefix}{item.name}"
            yield name, item.stat(follow_symlinks=False)
            if name == RUNS_FOLDER and item.is_dir(follow_symlinks=False):
                yield from _walk(Path(item.path), f"{name}/")


def _bytes(path: Path) -> bytes:
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        with open(os.open(path, flags), "rb") as file:
            return file.read(ENTRY_BYTES)
    except OSError as error:
        raise Unreadable(f"{path.name}: {error.strerror}") from None


def _run(path: Path, content: bytes, where: str) -> Run:
    """The run of a file of an entry; raises `Unreadable`."""
    lines = content.split(b"\n")
    if len(lines) < 2 or lines.pop():
        raise Unreadable(f"{where} is not a whole run: a first line and a line a cell, each with its newline")
    if len(lines) > CELLS + 1:
        raise Unreadable(f"{where} has {len(lines) - 1} cells, more than {CELLS}")
    first = _first_line(lines[0], path.stem, f"{where} line 1")
    spec = first.spec
    problems, records = [], []
    for number, line in enumerate(lines[1:], start=2):
        try:
            records.append(_record(line, first, f"{where} line {number}"))
        except Unreadable as error:
            problems += error.problems
    present, cells = [record.cell for record in records], spec.cells()
    places = {cell: place for place, cell in enumerate(cells)}
    problems += [f"{where}: {cell.name} is no cell of the protocol" for cell in present if cell not in places]
    order = [places[cell] for cell in present if cell in places]
    if any(later <= sooner for sooner, later in itertools.pairwise(order)):
        problems.append(f"{where}: its cells are not in the order of its specification, each once")
    if set(first.environments) != {record.environment.key for record in records} and not problems:
        problems.append(f"{where}: its environments are not those that its cells name")
    if problems:
        raise Unreadable(*problems)
    return Run(path, spec, records)


def _first_line(line: bytes, task: str, where: str) -> RunLine:
    if len(line) > FIRST_LINE_BYTES:
        raise Unreadable(f"{where} has {len(line)} bytes, more than {FIRST_LINE_BYTES}")
    content = strict_json(line, where)
    if compact_json(content).encode() != line:
        raise Unreadable(f"{where} is not written as the harness writes it")
    first = _validated(RunLine, content, where)
    spec = first.spec
    if spec.task.id != task:
        raise Unreadable(f"{where} is of task {spec.task.id}")
    if spec.protocol.seeds * len(spec.protocol.learning_rates) > CELLS:
        raise Unreadable(f"{where} asks for more than {CELLS} cells")
    if spec.protocol.evaluations > EVALUATIONS:
        raise Unreadable(f"{where} asks for more than {EVALUATIONS} evaluations")
    if first.identity != spec.identity():
        raise Unreadable(f"{where}: its identity is not that of its specification")
    for key, environment in first.environments.items():
        if len(compact_json(environment.model_dump(mode="json"))) > ENVIRONMENT_BYTES:
            raise Unreadable(f"{where}: environment {key[:20]!r} has more than {ENVIRONMENT_BYTES} bytes")
        if key != environment.key:
            raise Unreadable(f"{where}: environment {key[:20]!r} is not the hash of its content")
    return first


def _record(line: bytes, first: RunLine, where: str) -> Record:
    try:
        record = parse_cell_line(line, first.environments, where)
    except RunError as error:
        raise Unreadable(str(error)) from None
    if record.line.encode() != line:
        raise Unreadable(f"{where} is not written as the harness writes it")
    if not all(shows(text) and len(text) <= NAME_LENGTH for text in record.auxiliary):
        raise Unreadable(f"{where}: an auxiliary curve has a name that does not show or is too long")
    if record.reason is not None and not (shows(record.reason) and len(record.reason) <= 500):
        raise Unreadable(f"{where}: its reason does not show or is too long")
    if len(record) > EVALUATIONS:
        raise Unreadable(f"{where} has more than {EVALUATIONS} evaluations")
    return record


def _reproductions(content: bytes) -> Iterator[Reproduction]:
    for number, line in enumerate(content.splitlines(), start=1):
        yield _parsed(Reproduction, line, f"{REPRODUCTIONS_FILE} line {number}")


def _parsed(model: type[S], text: bytes, where: str) -> S:
    return _validated(model, strict_json(text, where), where)


def _validated(model: type[S], content: object, where: str) -> S:
    try:
        return model.model_validate(content)
    except (ValidationError, RecursionError, OverflowError) as error:
        raise Unreadable(f"{where}: {short_reason(error)}") from None
