"""Probes of a run for a person: a table for each variable, a column for each moment; or figures as bars."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from multistep_bench.printable import ONE_LINE, printable
from multistep_bench.reporting import figures
from multistep_bench.scoring.probe_rows import Row

BAR_WIDTH = 0.8  # of all bars of a layer together
PANEL = 1.4  # inches of height
MEANING = (
    "accuracy in % of a linear probe on held-out items [95 % interval], and bits (b) of an item in the online code,"
    " which are below those of the uniform code where the variable can be read"
)

Line = tuple[int, str, str]  # layer, representation, place


def print_probes(console: Console, rows: Sequence[Row]) -> None:
    """Prints one table a variable: layers and representations down, moments across."""
    console.print(Text(MEANING, style="dim"))
    for variable in dict.fromkeys(row.variable for row in rows):
        mine = [row for row in rows if row.variable == variable]
        moments = list(dict.fromkeys(row.at for row in mine))
        first = mine[0]
        console.print()
        console.print(
            Text(printable(variable, ONE_LINE), style="bold").append(
                f": chance {first.chance:.1%}, uniform code {first.uniform:.2f} bits, {first.items} items", style="dim"
            )
        )
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for heading in ("layer", "representation", "token"):
            table.add_column(heading, no_wrap=True)
        for at in moments:
            cells = next(row.cells for row in mine if row.at == at)
            table.add_column(f"{at}\n(n = {cells})", justify="right")
        for line, entries in _lines(mine).items():
            entered = [_entry(entries[at]) if at in entries else "–" for at in moments]
            table.add_row(str(line[0]), line[1], line[2], *entered)
        console.print(table)


def _lines(rows: Sequence[Row]) -> dict[Line, dict[str, Row]]:
    lines: dict[Line, dict[str, Row]] = {}
    for row in rows:
        lines.setdefault((row.layer, row.representation, row.place), {})[row.at] = row
    return lines


def _entry(row: Row) -> str:
    accuracy = f"{100 * row.accuracy.estimate:.0f} [{100 * row.accuracy.low:.0f}–{100 * row.accuracy.high:.0f}]"
    return accuracy if row.bits is None else f"{accuracy} {row.bits:.2f}b"


def probes_csv(rows: Sequence[Row]) -> str:
    """The rows as CSV with a header line."""
    text = io.StringIO()
    content = [row.to_dict() for row in rows]
    writer = csv.DictWriter(text, list(content[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(content)
    return text.getvalue()


def plot_probes(rows: Sequence[Row], path: str | Path) -> Path:
    """Writes bars of accuracy by layer, as Hoffmann et al. 2024 figure 2: a panel a variable, a colour a moment.

    path: ends in .png, .svg or .pdf.
    """
    variables = list(dict.fromkeys(row.variable for row in rows))
    moments = list(dict.fromkeys(row.at for row in rows))
    columns = min(3, len(variables))
    height = -(-len(variables) // columns)
    with figures.style():
        figure = figures.new_figure(figures.PAGE, PANEL * height + 0.4 + 0.5 * (len(_lines(rows)) > 4))
        grid = figure.subplots(height, columns, squeeze=False, sharey=True, sharex=True).flatten()
        for index, (axes, variable) in enumerate(zip(grid, variables, strict=False)):
            draw_probes(axes, [row for row in rows if row.variable == variable], moments)
            axes.tick_params(labelbottom=index + columns >= len(variables))  # of the lowest in each column
            axes.set_title(variable, loc="left")
        for axes in grid[len(variables) :]:
            axes.set_axis_off()
        figures.figure_legend(figure, probe_legend(moments))
        return figures.save(figure, path)


def probe_legend(moments: Sequence[str]) -> dict[str, Line2D]:
    """The marks of `draw_probes`."""
    colours = {
        at: Line2D([], [], color=figures.SERIES[index % len(figures.SERIES)], linewidth=5)
        for index, at in enumerate(moments)
    }
    return colours | {"chance": Line2D([], [], color=figures.INK, linestyle=":")}


def draw_probes(axes: Axes, rows: Sequence[Row], moments: Sequence[str]) -> None:
    """Fills axes with bars of one variable: lines of the table across, a colour a moment."""
    lines = _lines(rows)
    width = BAR_WIDTH / len(moments)
    for index, at in enumerate(moments):
        found = [(place, entries[at]) for place, entries in enumerate(lines.values()) if at in entries]
        estimates = [row.accuracy.estimate for _, row in found]
        axes.bar(
            [place + (index - (len(moments) - 1) / 2) * width for place, _ in found],
            estimates,
            width,
            color=figures.SERIES[index % len(figures.SERIES)],
            yerr=(
                [row.accuracy.estimate - row.accuracy.low for _, row in found],
                [row.accuracy.high - row.accuracy.estimate for _, row in found],
            ),
            error_kw={"elinewidth": 0.6, "ecolor": figures.INK},
        )
    axes.axhline(rows[0].chance, color=figures.INK, linestyle=":", linewidth=0.8)
    several = len({line[2] for line in lines}) > 1
    names = [f"{name} {layer}" + (f" {place}" if several else "") for layer, name, place in lines]
    axes.set_xticks(range(len(names)), names, rotation=90)
    axes.set_ylim(0, 1)
