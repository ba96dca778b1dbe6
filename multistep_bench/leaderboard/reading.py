"""Reads an entry as what it is, hostile input: nothing is followed, run or parsed before it is known to be small.

Every problem is collected as a sentence; what cannot be read at all is an `Unreadable`.
"""

import hashlib
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from multistep_bench.cards import TASK_ID
from multistep_bench.leaderboard.entry import (
    ENTRY_FILE,
    REPRODUCTIONS_FILE,
    RUNS_FOLDER,
    Entry,
    EntryFile,
    Reproduction,
    is_entry_name,
)
from multistep_bench.leaderboard.strict_json import Unreadable, strict_json
from multistep_bench.runs.record import CELLS_FOLDER, SPEC_FILE, Evaluation, Header, Outcome, Record, Run
from multistep_bench.runs.spec import RunSpec
from multistep_bench.strict import Strict

FILE_BYTES = 1 << 20  # of one file; a record of 200 evaluations has about 40 kB
ENTRY_BYTES = 128 << 20
ENTRY_FILES = 5_000
EVALUATIONS = 5_000

_EVALUATIONS = TypeAdapter(list[Evaluation])
S = TypeVar("S", bound=Strict)


def read_entry(folder: Path) -> Entry:
    """The entry of a folder; raises `Unreadable` with every problem of its files."""
    files = _files(folder)
    content = {name: _bytes(folder / name) for name in files}
    entry_file = _parsed(EntryFile, content[ENTRY_FILE], ENTRY_FILE)
    if entry_file.model_dump(mode="json", by_alias=True) != strict_json(content[ENTRY_FILE], ENTRY_FILE):
        raise Unreadable(f"{ENTRY_FILE} does not hold every key that `submit` writes")
    problems, runs, spec_hashes = [], [], []
    for task in sorted({name.split("/")[1] for name in files if name.startswith(f"{RUNS_FOLDER}/")}):
        try:
            prefix = f"{RUNS_FOLDER}/{task}/"
            its = {name.removeprefix(prefix): content[name] for name in files if name.startswith(prefix)}
            runs.append(_run(folder / RUNS_FOLDER / task, its, prefix))
            spec_hashes.append(hashlib.sha256(its[SPEC_FILE]).hexdigest())
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
        spec_hashes=tuple(spec_hashes),
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
        if stat.S_ISDIR(status.st_mode) and _FOLDERS.fullmatch(name):
            continue
        if not stat.S_ISREG(status.st_mode):
            problems.append(f"{name!r} is no plain file")
        elif not _EXPECTED.fullmatch(name):
            problems.append(f"{name!r} is no file of an entry")
        elif status.st_size > FILE_BYTES:
            problems.append(f"{name} has {status.st_size} bytes, more than {FILE_BYTES}")
        names.append(name)
        if len(names) > ENTRY_FILES or total > ENTRY_BYTES:
            raise Unreadable(f"more than {ENTRY_FILES} files or {ENTRY_BYTES} bytes", *problems[:20])
    wanted = {ENTRY_FILE} | {f"{'/'.join(name.split('/')[:2])}/{SPEC_FILE}" for name in names if "/" in name}
    problems += [f"{name} is missing" for name in sorted(wanted.difference(names))]
    if problems:
        raise Unreadable(*problems[:20])
    return sorted(names)


_TASK = TASK_ID.strip("^$")
_FOLDERS = re.compile(rf"{RUNS_FOLDER}(?:/{_TASK}(?:/{CELLS_FOLDER})?)?", re.ASCII)
_EXPECTED = re.compile(
    rf"{re.escape(ENTRY_FILE)}|{re.escape(REPRODUCTIONS_FILE)}|{RUNS_FOLDER}/{_TASK}/"
    rf"(?:{re.escape(SPEC_FILE)}|{CELLS_FOLDER}/rate(?:0|[1-9][0-9]?)-seed(?:0|[1-9][0-9]{{0,3}})\.jsonl)",
    re.ASCII,
)


def _walk(folder: Path, prefix: str) -> Iterator[tuple[str, os.stat_result]]:
    """What lies below a folder, links not followed, in the folders that an entry may have."""
    with os.scandir(folder) as found:
        for item in found:
            name = f"{prefix}{item.name}"
            yield name, item.stat(follow_symlinks=False)
            if item.is_dir(follow_symlinks=False) and _FOLDERS.fullmatch(name):
                yield from _walk(Path(item.path), f"{name}/")


def _bytes(path: Path) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:
            return file.read(FILE_BYTES)
    except OSError as error:
        raise Unreadable(f"{path.name}: {error.strerror}") from None


def _run(folder: Path, files: dict[str, bytes], where: str) -> Run:
    problems, records = [], {}
    for name, content in files.items():
        if name != SPEC_FILE:
            try:
                record = records[Path(name).stem] = _record(content, where + name)
                if record.cell.name != Path(name).stem:
                    problems.append(f"{where}{name} is the record of {record.cell.name}")
            except Unreadable as error:
                problems += error.problems
    try:
        spec = _parsed(RunSpec, files[SPEC_FILE], where + SPEC_FILE)
    except Unreadable as error:
        raise Unreadable(*error.problems, *problems) from None
    if spec.task.id != folder.name:
        problems.append(f"{where}{SPEC_FILE} is of task {spec.task.id}")
    if spec.protocol_name not in spec.task.protocols:
        raise Unreadable(f"{where}{SPEC_FILE} holds no protocol {spec.protocol_name!r}", *problems)
    if spec.protocol.seeds * len(spec.protocol.learning_rates) > ENTRY_FILES:
        raise Unreadable(f"{where}{SPEC_FILE} asks for more than {ENTRY_FILES} cells", *problems)
    cells = spec.cells()
    problems += [
        f"{where}{CELLS_FOLDER}/{name}.jsonl is no cell of the protocol"
        for name in sorted(set(records) - {cell.name for cell in cells})
    ]
    if problems:
        raise Unreadable(*problems)
    return Run(folder, spec, [records[cell.name] for cell in cells if cell.name in records])


def _record(content: bytes, where: str) -> Record:
    lines = content.split(b"\n")
    if len(lines) < 3 or lines.pop():
        raise Unreadable(f"{where} is not a whole record: a header, evaluations and an outcome, each with its newline")
    if len(lines) > EVALUATIONS:
        raise Unreadable(f"{where} has more than {EVALUATIONS} lines")
    header = _parsed(Header, lines[0], f"{where} line 1")
    outcome = _parsed(Outcome, lines[-1], f"{where} line {len(lines)}")
    evaluations = _evaluations(lines[1:-1], where)
    return Record(header, evaluations, outcome, hashlib.sha256(content).hexdigest())


def _evaluations(lines: list[bytes], where: str) -> list[Evaluation]:
    """The evaluations of a record. They hold no text but keys, so a key that occurs twice shows in the quotes."""
    body = b",".join(lines)
    try:
        evaluations = _EVALUATIONS.validate_json(b"[" + body + b"]")
    except ValidationError as error:
        raise Unreadable(f"{where}: {_first(error)}") from None
    keys = sum(len(each.model_fields_set) for each in evaluations)
    keys += sum(1 + len(its.model_fields_set) for each in evaluations for its in each.auxiliary.values())
    if len(evaluations) != len(lines) or body.count(b'"') != 2 * keys or b"\\" in body:
        raise Unreadable(f"{where}: its evaluations are not one a line with each key once")
    return evaluations


def _reproductions(content: bytes) -> Iterator[Reproduction]:
    for number, line in enumerate(content.splitlines(), start=1):
        yield _parsed(Reproduction, line, f"{REPRODUCTIONS_FILE} line {number}")


def _parsed(model: type[S], text: bytes, where: str) -> S:
    content = strict_json(text, where)
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise Unreadable(f"{where}: {_first(error)}") from None


def _first(error: ValidationError) -> str:
    detail = error.errors(include_url=False)[0]
    return f"{'.'.join(map(str, detail['loc'])) or 'content'}: {detail['msg']}"[:300]
