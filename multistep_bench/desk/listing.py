"""What runs lie in a folder: a row each, also for those that still train or cannot be read."""

from datetime import datetime
from pathlib import Path
from typing import Any

from multistep_bench.errors import BenchError
from multistep_bench.reporting.labels import changes_label
from multistep_bench.runs.search import find_runs
from multistep_bench.runs.store import CELLS_FOLDER, RUN_FILE, SPEC_FILE
from multistep_bench.scoring.run import score_run

Entry = dict[str, Any]


def list_folder(folder: str | Path) -> list[Entry]:
    """The runs in a folder and below, the one changed last at the end.

    Each has path, task, model, changes, protocol, identity, cells, done (completed or diverged), failed, p (None for
    a control task) and changed (local time, ISO 8601, to the second); one that cannot be read has path, changed and
    problem. Raises `RunError` where there is no run.
    """
    found = [(_changed(path), path) for path in find_runs([folder])]
    return [_entry(path, changed) for changed, path in sorted(found)]


def _entry(path: Path, changed: float) -> Entry:
    place = {"path": str(path), "changed": datetime.fromtimestamp(changed).isoformat(timespec="seconds")}
    try:
        scored = score_run(path)
    except BenchError as error:
        return {**place, "problem": str(error)}
    spec = scored.spec
    status = [cell.status for cell in scored.cells]
    return {
        **place,
        "task": spec.task.id,
        "model": spec.model.name,
        "changes": changes_label(spec),
        "protocol": spec.protocol_name,
        "identity": spec.identity(),
        "cells": len(status),
        "done": status.count("completed") + status.count("diverged"),
        "failed": status.count("failed"),
        "p": None if scored.grid.probability is None else scored.grid.probability.estimate,
    }


def _changed(path: Path) -> float:
    """When a run was last written to, in seconds since 1970."""
    files = [path] if path.is_file() else [path / RUN_FILE, path / SPEC_FILE, path / CELLS_FOLDER]
    return max((file.stat().st_mtime for file in files if file.exists()), default=0.0)
