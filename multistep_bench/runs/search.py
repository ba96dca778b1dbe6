"""Finding runs: every run folder and every packed file below some folders."""

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from multistep_bench.errors import RunError
from multistep_bench.runs.store import RUN_FILE, SPEC_FILE, Run, read_run

HEAD = 200  # bytes at the start of a file, in which its schema stands
_OF_A_RUN = re.compile(rb'\s*\{\s*"schema"\s*:\s*"msb\.(run/[2-9]|spec/)')


def find_runs(paths: Iterable[str | Path]) -> list[Path]:
    """The run folders and packed files that are named or lie below a named folder, each once.

    A path that is itself a run or a file is kept as it is. Of any other folder everything below is looked at, in the
    order of names, except hidden folders, links to folders and the inside of runs; what is no run is passed over.
    Raises `RunError` for a path that does not exist, and for a folder that holds no run.
    """
    found: dict[Path, Path] = {}
    for path in map(Path, paths):
        if not path.exists():
            raise RunError(f"{path} does not exist; give run folders, packed files, or folders of them")
        runs = [path] if path.is_file() or _is_named(path) else list(_below(path))
        if not runs:
            raise RunError(
                f"{path} holds no run, nor does a folder below it; give the folder that `run` printed, or one above it"
            )
        for run in runs:
            found.setdefault(run.resolve(), run)
    return list(found.values())


def load_run(path: str | Path) -> Run:
    """The run of a folder, still training or packed, or of a packed file; see `store.read_run`."""
    return read_run(path)


def list_runs(folder: str | Path = "runs") -> list[Run]:
    """Every run in a folder and below, as `find_runs` finds them; raises `RunError` for a run that cannot be read."""
    return [read_run(path) for path in find_runs([folder])]


def _is_named(folder: Path) -> bool:
    """Holds a file of a run's name, whatever stands in it: whoever names the folder wants to know what is wrong."""
    return (folder / RUN_FILE).is_file() or (folder / SPEC_FILE).is_file()


def _below(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        here = Path(place)
        if any(_is_of_a_run(here / name) for name in (RUN_FILE, SPEC_FILE) if name in files):
            folders.clear()
            yield here
            continue
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (here / name for name in sorted(files) if name.endswith(".jsonl") and _is_of_a_run(here / name))


def _is_of_a_run(file: Path) -> bool:
    try:
        with file.open("rb") as content:
            return _OF_A_RUN.match(content.read(HEAD)) is not None
    except OSError:
        return False
