"""A run while it trains: its folder is held, its observer told, and it is packed when its last group has ended."""

from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from multistep_bench.runs.folder import RunFolder
from multistep_bench.runs.spec import RunSpec
from multistep_bench.runs.store import Run
from multistep_bench.training.diagnosed import warn_of_cells_without
from multistep_bench.training.group import Job
from multistep_bench.training.grouping import StackSize, grouped
from multistep_bench.training.relay import Observer, Relay
from multistep_bench.training.share import Share


class OpenRun:
    """A run whose folder this process holds; use as a context manager. It is packed when its last group has ended."""

    def __init__(self, spec: RunSpec, path: Path, observer: Observer) -> None:
        self.spec, self.path, self.observer = spec, path, observer
        self._folder = RunFolder(path, spec)
        self._relay = Relay(observer)
        self._open = ExitStack()
        self._left = 0  # groups
        self._done: Run | None = None

    def __enter__(self) -> "OpenRun":
        self._open.enter_context(self._folder)
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    def shares(self, options: Mapping[str, Any], stack: int | None, stack_size: StackSize) -> list[Share]:
        """Its unfinished cells, in groups.

        options: of a `Job`, alike for every run. stack, stack_size: as in `grouped`.
        """
        self._finished = self._folder.finished()
        if options["diagnostics"] is not None:
            warn_of_cells_without(self.path, self._finished)
        attempts = self._folder.attempts()
        job = Job(self.spec, self.path, finished=frozenset(self._finished), attempts=attempts, **options)
        todo = [cell for cell in self.spec.cells() if cell not in self._finished]
        job, groups = grouped(job, todo, self._folder.checkpoints(), stack, stack_size)
        self._left = len(groups)
        return [Share(job, group, self._relay, self._ended) for group in groups]

    def begin(self) -> None:
        """Tells the observer."""
        self.observer.begin(self.spec, self.path, self._finished)
        self._watched = self._open.enter_context(ExitStack())
        self._watched.callback(self.observer.close)
        self._watched.enter_context(self._relay)

    def _ended(self) -> None:
        self._left -= 1
        if not self._left:
            with suppress(OSError):  # a full disk stops no other run; packing is tried again when all have ended
                self.finish()

    def finish(self) -> Run:
        """The run as it stands, packed if it is whole; the folder is given up."""
        if self._done is None:
            self._watched.close()
            self._done = self._folder.pack()
            self._open.close()
        return self._done
