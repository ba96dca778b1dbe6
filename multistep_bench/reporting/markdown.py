"""How tables of scores are written in Markdown pages."""

from collections.abc import Iterable, Iterator, Sequence

from multistep_bench.scoring.statistics import Interval


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """The lines of a table."""
    yield f"| {' | '.join(columns)} |"
    yield f"|{'---|' * len(columns)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def share(events: int, n: int) -> str:
    """Cells with a Eureka-moment: "9/12 = 0.75"."""
    return f"{events}/{n} = {events / n:.2f}"


def interval(value: Interval) -> str:
    """An estimate with its interval: "0.75 [0.47, 0.91]"."""
    return f"{value.estimate:.2f} {ends(value)}"


def ends(value: Interval | None) -> str:
    """The interval alone; empty where there is none."""
    return "" if value is None else f"[{value.low:.2f}, {value.high:.2f}]"


def difference(value: Interval) -> str:
    """A difference with its interval, all signed: "+0.32 [+0.28, +0.35]"."""
    return f"{value.estimate:+.2f} [{value.low:+.2f}, {value.high:+.2f}]"
