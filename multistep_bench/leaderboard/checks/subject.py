"""What a check looks at, and what a check is."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from multistep_bench.leaderboard.entry import Entry
from multistep_bench.scoring.score import Score

if TYPE_CHECKING:
    from multistep_bench.leaderboard.checks.copies import Trace


@dataclass(frozen=True)
class Subject:
    """An entry as it was read.

    name:   what it should be called.
    traces: what its cells are recognised by, in order.
    score:  that of its curves, once they are sound.
    """

    entry: Entry
    name: str
    traces: tuple["Trace", ...]
    score: Score | None = None


Check = Callable[[Subject], Iterator[str]]
"""Yields a sentence for every problem; its docstring says what holds of an entry without any."""
