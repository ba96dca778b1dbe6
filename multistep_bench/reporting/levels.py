"""A task's levels in a panel of curves: lines at chance, shortcut, threshold and ceiling, named at the right edge."""

from matplotlib.axes import Axes

from multistep_bench.cards import TaskCard
from multistep_bench.reporting.figures import MUTED, Look
from multistep_bench.reporting.paper import paper
from multistep_bench.reporting.ticks import keep_apart

NAME_HEIGHT = 0.085  # of the axes, that a name takes
LEADER = 0.025  # of the axes' width, from a line's end to its name


def draw_levels(axes: Axes, task: TaskCard, *, named: bool, limits: tuple[float, float] | None = None) -> None:
    """The lines, and the limits of the vertical axis; levels that coincide have one line and share a name.

    Names keep apart; one that stands beside its line is led to it. limits: by default those of `value_range`.
    """
    bottom, top = limits or value_range(task)
    axes.set_ylim(bottom, top)
    groups = _groups(task)
    for level, _, dashes in groups:
        axes.axhline(level, color=MUTED, linewidth=0.6, linestyle=dashes, zorder=1)
    if not named:
        return
    heights = [(level - bottom) / (top - bottom) for level, _, _ in groups]
    look: Look = {"va": "center", "fontsize": 0.75 * paper().font_size, "color": MUTED, "annotation_clip": False}
    leader: Look = {"arrowstyle": "-", "linewidth": 0.4, "color": MUTED, "shrinkA": 0, "shrinkB": 0}
    for (_, name, _), height, place in zip(groups, heights, keep_apart(heights, NAME_HEIGHT), strict=True):
        where: Look = {"xy": (1, height), "xycoords": "axes fraction", "textcoords": "axes fraction"}
        axes.annotate(name, xytext=(1 + LEADER, place), arrowprops=leader, **where, **look)


def _groups(task: TaskCard) -> list[tuple[float, str, str]]:
    """(level, names, dashes) from the lowest on; equal levels are one."""
    levels = task.levels
    threshold = levels.threshold(task.scoring.threshold_fraction)
    lines = [("threshold", threshold, "-"), ("ceiling", levels.ceiling, ":"), ("chance", levels.chance, ":")]
    if levels.shortcut is not None:
        lines.append(("shortcut", levels.shortcut, "--"))
    groups: list[tuple[float, str, str]] = []
    for name, level, dashes in sorted(lines, key=lambda line: line[1]):
        if groups and abs(groups[-1][0] - level) < 1e-9:
            before = groups.pop()
            groups.append((before[0], f"{before[1]}, {name}", before[2]))
        else:
            groups.append((level, name, dashes))
    return groups


def value_range(task: TaskCard) -> tuple[float, float]:
    """Of the values that a panel shows; a loss may fall below its ceiling, so they begin at zero."""
    levels = task.levels
    if levels.measure == "loss":
        return 0.0, 1.08 * levels.chance
    margin = 0.08 * (levels.ceiling - levels.chance)
    return levels.chance - margin, levels.ceiling + margin
