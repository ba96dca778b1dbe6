"""Ticks and levels of axes: a time axis that ends at the budget, spines that end on ticks, labels that keep apart."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

UNITS = (("G", 1e9), ("M", 1e6), ("k", 1e3))


def count_ticks(axes: Axes, parts: int = 4) -> None:
    """Ticks at equal parts of the time axis, the last at its end; call it when the limits are set."""
    end = axes.get_xlim()[1]
    axes.xaxis.set_major_locator(FixedLocator([end * part / parts for part in range(parts + 1)]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, position: tick_count(value)))


def tick_count(count: float) -> str:
    """A number of samples to three digits: 12800 → "12.8k", 256000 → "256k"."""
    for unit, size in UNITS:
        if count >= 0.9995 * size:
            return f"{count / size:.3g}{unit}"
    return f"{count:.3g}"


def end_on_ticks(axes: Axes) -> None:
    """Both axes are drawn from their first to their last tick; call it when limits and ticks are set."""
    for side, ticks, limits in (
        ("left", axes.get_yticks(), axes.get_ylim()),
        ("bottom", axes.get_xticks(), axes.get_xlim()),
    ):
        low, high = min(limits), max(limits)
        slack = 1e-6 * (high - low)
        shown = [tick for tick in ticks if low - slack <= tick <= high + slack]
        if len(shown) > 1:
            axes.spines[side].set_bounds(min(shown), max(shown))


def keep_apart(places: Sequence[float], gap: float) -> list[float]:
    """Ascending places moved as little as keeps neighbours a gap apart; those that collide move about their mean.

    Least squares under the order, by pooling neighbours (Kruskal 1964), as isotonic regression does.
    """
    groups: list[list[float]] = []  # of places less their offsets, which are equal within a group
    for index, place in enumerate(places):
        groups.append([place - index * gap])
        while len(groups) > 1 and np.mean(groups[-1]) < np.mean(groups[-2]):
            last = groups.pop()
            groups[-1] += last
    means = [float(np.mean(group)) for group in groups for _ in group]
    return [mean + index * gap for index, mean in enumerate(means)]
