"""Looking on while other processes train: the same tables, read from the files of run folders."""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from threading import Event

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from multistep_bench.errors import RunError
from multistep_bench.reporting.labels import duration
from multistep_bench.reporting.progress import CellProgress, RunProgress
from multistep_bench.reporting.run_table import render_run
from multistep_bench.reporting.sweep_table import render_runs
from multistep_bench.reporting.terminal import print_whole
from multistep_bench.runs.growing import QUIET, USUAL, growing_cells
from multistep_bench.runs.search import find_runs
from multistep_bench.runs.spec import Cell
from multistep_bench.runs.store import Run, read_run

EVERY = 2.0  # seconds between two looks
UNLIMITED = 10**9  # lines of a file or a pipe


class WatchedRun(RunProgress):
    """The progress of a run as its files tell it, whoever trains it; `now` in seconds since the epoch.

    Its pace is that of the cells themselves, so it needs no watching from the beginning.
    """

    def __init__(self, run: Run, now: float) -> None:
        super().__init__(run.spec, run.path, {record.cell: record for record in run.records})
        self._training: dict[Cell, CellProgress] = {}
        self.heard: float | None = None
        for growing in growing_cells(run.path, run.spec):
            progress = CellProgress(run.spec)
            for evaluation in growing.evaluations:
                progress.add(evaluation, growing.items)
            longest = _longest_wait(progress)
            if now - growing.heard >= max(QUIET, USUAL * longest):
                progress.silent = now - growing.heard
            self.cells[growing.cell] = self._training[growing.cell] = progress
            self.heard = max(growing.heard, self.heard or 0.0)

    @property
    def samples_per_second(self) -> float:
        """Of all cells in training together."""
        return sum(_pace(progress) for progress in self._training.values())

    @property
    def work_left(self) -> float | None:
        """Seconds of one process to the end, at the mean pace of the cells so far; None before any has one."""
        paces = [pace for cell in self.cells.values() if (pace := _pace(cell))]
        if not paces:
            return None
        budget = self.spec.protocol.budget
        left = sum(1 - cell.fraction for cell in self.cells.values()) * budget
        return left * sum(1 / pace for pace in paces) / len(paces)

    @property
    def seconds_left(self) -> float | None:
        """With as many cells in training as now; None where nobody trains it."""
        at_once = sum(cell.silent is None for cell in self._training.values())
        return None if self.work_left is None or not at_once else self.work_left / at_once

    @property
    def seconds(self) -> float:
        """Of all its cells together."""
        return sum(cell.evaluations[-1].seconds for cell in self.cells.values() if cell.evaluations)


def _pace(progress: CellProgress) -> float:
    """Samples a second of a cell since its start; 0 before its first interval."""
    last = progress.evaluations[-1] if progress.evaluations else None
    return last.samples / last.seconds if last is not None and last.seconds else 0.0


def _longest_wait(progress: CellProgress) -> float:
    seconds = [evaluation.seconds for evaluation in progress.evaluations]
    return max((later - earlier for earlier, later in pairwise(seconds)), default=0.0)


def look(folder: Path, now: float) -> list[tuple[str, WatchedRun]]:
    """Every run in a folder and below as it stands, named by its folder; raises `RunError` where there is none."""
    watched = []
    for path in find_runs([folder]):
        with suppress(FileNotFoundError):  # packed between two reads: seen at the next look
            name = "." if path == folder else str(path.relative_to(folder))
            watched.append((name, WatchedRun(read_run(path), now)))
    return watched


def render_watched(runs: Sequence[tuple[str, WatchedRun]], width: int, height: int, now: float) -> RenderableType:
    """One run cell by cell, several a row each, and below who is not at work."""
    table = render_run(runs[0][1], width, height) if len(runs) == 1 else render_runs(runs, height, _left(runs))
    open_runs = [run for _, run in runs if run.fraction < 1]
    idle = all(run.seconds_left is None for run in open_runs)
    if not open_runs or not idle:
        return table
    heard = max((run.heard for run in open_runs if run.heard is not None), default=None)
    since = "" if heard is None else f", the last word is {duration(now - heard)} old"
    return Group(table, Text(f"no cell is in training{since}; `run` with the same options resumes", style="yellow"))


def _left(runs: Sequence[tuple[str, WatchedRun]]) -> str:
    """The time left of all runs together, if as many cells train as now."""
    open_runs = [run for _, run in runs if run.fraction < 1]
    if not open_runs:
        return "  done"
    known = [(run, run.work_left) for run in open_runs]
    priced = [(run.spec.cost(), left) for run, left in known if left is not None]
    at_once = sum(run.work_left / left for run in open_runs if (left := run.seconds_left) and run.work_left)
    if not priced or not at_once:
        return ""
    per_cost = sum(left for _, left in priced) / sum(
        run.spec.cost(len(run.cells)) * (1 - run.fraction) for run, left in known if left is not None
    )
    others = sum(run.spec.cost(len(run.cells)) * (1 - run.fraction) for run, left in known if left is None)
    return f"  about {duration((sum(left for _, left in priced) + per_cost * others) / at_once)} left"


def watch(folder: Path, console: Console, *, once: bool = False, clock: Callable[[], float] = time.time) -> None:
    """Shows the runs of a folder until they are done, or as they stand; Ctrl-C ends the look and nothing else."""

    def drawn() -> tuple[RenderableType, bool]:
        runs = look(folder, clock())
        height = console.height if console.is_terminal else UNLIMITED
        picture = render_watched(runs, console.width, height, clock())
        return picture, all(run.fraction == 1 for _, run in runs)

    picture, done = drawn()
    if once or not console.is_terminal:
        print_whole(console, picture)
        return
    pause = Event()
    with suppress(KeyboardInterrupt), Live(picture, console=console, auto_refresh=False) as live:
        while not done:
            pause.wait(EVERY)
            with suppress(RunError):  # a folder that is being packed or moved just now
                picture, done = drawn()
                live.update(picture, refresh=True)
