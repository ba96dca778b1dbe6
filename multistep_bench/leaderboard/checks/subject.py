"""What a check looks at, and what a check is."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from multistep_bench.leaderboard.entry import Entry
from multistep_bench.scoring.score import Score


@dataclass(frozen=True)
class Subject:
    """An entry as it was read. name: what it should be called; score: that of its curves, once they are sound."""

    entry: Entry
    name: str
    score: Score | None = None


Check = Callable[[Subject], Iterator[str]]
"""Yields a sentence for every problem; its docstring says what holds of an entry without any."""
