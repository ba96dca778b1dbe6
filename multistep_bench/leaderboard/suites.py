"""Suites: the lists of tasks that Q is the mean of, declared in suites.toml; and the classes of model size."""

from pathlib import Path

from pydantic import Field

from multistep_bench.cards import list_tasks, load_task, read_toml
from multistep_bench.errors import NotFound
from multistep_bench.strict import Strict, validated

SUITES_FILE = "suites.toml"

# By trainable parameters, the largest over the tasks of the suite.
SIZE_CLASSES = (("≤ 100 k", 100_000), ("≤ 1 M", 1_000_000), ("≤ 10 M", 10_000_000))
LARGEST = "> 10 M"


class Suite(Strict):
    """A table of the board: entries trained under one protocol, ranked by Q over these tasks, a missing one 0."""

    name: str = Field(pattern=r"^[a-z0-9_]+$")
    title: str
    summary: str
    protocol: str
    tasks: tuple[str, ...] = Field(min_length=1, strict=False)


class SuitesFile(Strict):
    suite: tuple[Suite, ...] = Field(min_length=1, strict=False)


def read_suites(board: Path) -> tuple[Suite, ...]:
    """The suites of a board, in order; raises `BenchError` for a wrong file, an unknown task or protocol."""
    path = board / SUITES_FILE
    suites = validated(SuitesFile, read_toml(path), str(path)).suite
    for suite in suites:
        for task in suite.tasks:
            if task not in list_tasks():
                raise NotFound("task", task, list_tasks(), f"suite '{suite.name}' of {path}")
            load_task(task).protocol(suite.protocol)
    return suites


def size_class(parameters: int) -> str:
    return next((name for name, limit in SIZE_CLASSES if parameters <= limit), LARGEST)
