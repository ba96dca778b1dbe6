"""What a benchmark of the suite found, and how it is shown."""

from dataclasses import asdict, dataclass, fields
from typing import Any

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Measured:
    """rows: frozen dataclasses of one kind; `repeats` in each is the number of timed rounds behind its medians.

    reference: what the ratios are against. settings: what is the same in all rows.
    """

    reference: str
    settings: dict[str, Any]
    rows: tuple[Any, ...]


@dataclass(frozen=True)
class Result(Measured):
    """A benchmark with the machine it ran on.

    load: processes ready to run, averaged over the minute before; above about 0, others shared the machine.
    """

    benchmark: str
    hardware: dict[str, Any]
    versions: dict[str, str]
    load: float | None

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as written to JSON."""
        return asdict(self)


def print_result(console: Console, result: Result) -> None:
    """A table of the rows, with the reference and the settings below it."""
    names = [field.name for field in fields(result.rows[0])]
    table = Table(title=result.benchmark, title_justify="left", title_style="bold", header_style="dim", box=None)
    table.padding = (0, 1, 0, 0)
    for name in names:
        text = isinstance(getattr(result.rows[0], name), str)
        table.add_column(_heading(name), justify="left" if text else "right", no_wrap=text, overflow="fold")
    for row in result.rows:
        table.add_row(*(_shown(name, getattr(row, name)) for name in names))
    console.print(table)
    load = "" if result.load is None else f"; load before: {result.load:.1f}"
    for text in (
        f"reference: {result.reference}",
        ", ".join(f"{name} {value}" for name, value in result.settings.items()),
        ", ".join(map(str, result.hardware.values())) + load,
    ):
        console.print(f"  {text}", style="dim", markup=False, highlight=False)


def _heading(name: str) -> str:
    return (
        name.replace("_bytes", "_MiB").replace("seconds", "ms" if name.endswith("_seconds") else "s").replace("_", "\n")
    )


def _shown(name: str, value: Any) -> str:
    if isinstance(value, tuple):
        return "–".join(_shown(name, each) for each in value)
    if value is None:
        return "–"
    if name.endswith("_bytes"):
        return f"{value / 2**20:,.1f}"
    if isinstance(value, float):
        value = value * 1000 if name.endswith("_seconds") else value
        return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
