"""Curves as small inline SVG. matplotlib draws a figure in a tenth of a second, too long for three on 1,000 pages."""

from collections.abc import Iterable, Sequence

import numpy as np
from markupsafe import Markup, escape

from multistep_bench.cards import Levels, TaskCard
from multistep_bench.reporting.labels import short_count
from multistep_bench.runs.record import Record
from multistep_bench.runs.store import Run
from multistep_bench.scoring.cell_set import CellScore
from multistep_bench.scoring.eureka import curve_values

SPARK_SIZE = 96, 24
SPARK_POINTS = 32
SPARK_LINES = 8
CHART_POINTS = 400  # of a curve: more than its width in pixels
CHART_SIZE = 340, 200
MARGIN = 34, 8, 6, 22  # left, right, top, bottom of a chart


def sparkline(run: Run, cells: Sequence[CellScore]) -> Markup:
    """The curves of some cells, at most eight, over the threshold's line."""
    records = {record.cell: record for record in run.records}
    width, height = SPARK_SIZE
    place = _Place(0, 0, width, height, run.spec.task.levels, run.spec.protocol.budget)
    shown = [records[cell.cell] for cell in cells if cell.cell in records][:SPARK_LINES]
    lines = "".join(_line(record, run, place, SPARK_POINTS) for record in shown)
    level = place.y(_threshold(run.spec.task))
    return Markup(
        f'<svg class="spark" role="img" aria-label="Curves" viewBox="0 0 {width} {height}">'
        f'<path class="level" d="M0 {level}H{width}"/>{lines}</svg>'
    )


def chart(run: Run, cells: Iterable[CellScore], name: str) -> Markup:
    """Every curve of some cells with the task's levels, a star at each Eureka-moment.

    name: the accessible label.
    """
    records = {record.cell: record for record in run.records}
    width, height = CHART_SIZE
    left, right, top, bottom = MARGIN
    place = _Place(left, top, width - right, height - bottom, run.spec.task.levels, run.spec.protocol.budget)
    lines = []
    for cell in cells:
        if cell.cell in records:
            look = "broken" if cell.problem else "stayed" if cell.curve.eureka is None else "jumped"
            title = Markup("<title>seed {}, {}</title>").format(cell.cell.seed_index, _event(cell))
            drawn = _line(records[cell.cell], run, place, CHART_POINTS)
            lines.append(f'<g class="{look}">{title}{drawn}</g>')
            if cell.curve.eureka is not None:
                x, y = place.x(cell.curve.eureka), place.y(_threshold(run.spec.task))
                lines.append(f'<path class="star" d="{_star(x, y)}"/>')
    return Markup(
        f'<svg class="chart" role="img" aria-label="{escape(name)}" viewBox="0 0 {width} {height}">'
        f"{_axes(run, place)}{''.join(lines)}</svg>"
    )


class _Place:
    """Maps samples and accuracies, or losses, into a rectangle; more samples to the right, larger values up."""

    def __init__(self, left: float, top: float, right: float, bottom: float, levels: Levels, budget: int) -> None:
        self.left, self.top, self.right, self.bottom = left, top, right, bottom
        self.budget = budget
        self.highest = 1.0 if levels.measure == "accuracy" else 1.25 * levels.chance

    def xs(self, samples: np.ndarray) -> list[float]:
        return np.round(self.left + (self.right - self.left) * samples / self.budget, 1).tolist()

    def ys(self, values: np.ndarray) -> list[float]:
        return np.round(self.bottom - (self.bottom - self.top) * np.clip(values / self.highest, 0, 1), 1).tolist()

    def x(self, samples: float) -> float:
        return self.xs(np.array([samples]))[0]

    def y(self, value: float) -> float:
        return self.ys(np.array([value]))[0]


def _line(record: Record, run: Run, place: _Place, points: int) -> str:
    values = curve_values(record.curve, run.spec.task.levels.measure)
    if not len(values):
        return ""
    kept = np.unique(np.linspace(0, len(values) - 1, points).astype(int))
    kept = kept[np.isfinite(values[kept])]
    if not len(kept):
        return ""
    xs, ys = place.xs(kept * run.spec.protocol.interval), place.ys(values[kept])
    return f'<polyline points="{" ".join(f"{x:g},{y:g}" for x, y in zip(xs, ys, strict=True))}"/>'


def _axes(run: Run, place: _Place) -> str:
    task = run.spec.task
    levels = [("chance", task.levels.chance), ("ceiling", task.levels.ceiling), ("threshold", _threshold(task))]
    if task.levels.shortcut is not None:
        levels.append(("shortcut", task.levels.shortcut))
    parts = []
    for name, value in levels:
        y = place.y(value)
        parts.append(
            f'<path class="level" d="M{place.left} {y}H{place.right}"><title>{name} {value:.3f}</title></path>'
        )
    for value in (0.0, place.highest / 2, place.highest):
        parts.append(f'<text x="{place.left - 4}" y="{place.y(value) + 3}" text-anchor="end">{value:.2g}</text>')
    for share, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end")):
        at = share * place.budget
        parts.append(f'<text x="{place.x(at)}" y="{place.bottom + 14}" text-anchor="{anchor}">{short_count(at)}</text>')
    parts.append(f'<path class="axis" d="M{place.left} {place.top}V{place.bottom}H{place.right}"/>')
    return "".join(parts)


def _star(x: float, y: float) -> str:
    angles = np.pi * (np.arange(10) / 5 - 0.5)
    radii = np.where(np.arange(10) % 2, 2.2, 5.2)
    return "M" + "L".join(
        f"{x + r * np.cos(a):.1f} {y + r * np.sin(a):.1f}" for a, r in zip(angles, radii, strict=True)
    )


def _threshold(task: TaskCard) -> float:
    return task.levels.threshold(task.scoring.threshold_fraction)


def _event(cell: CellScore) -> str:
    if cell.problem is not None:
        return cell.problem
    return "no Eureka-moment" if cell.curve.eureka is None else f"Eureka-moment at {cell.curve.eureka:,.0f}"
