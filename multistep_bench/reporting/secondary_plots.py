"""The curves of a task's secondary measurements: those that stand beside the score, such as shorter chains."""

import numpy as np
from matplotlib.axes import Axes

from multistep_bench.reporting import figures
from multistep_bench.reporting.figures import Look
from multistep_bench.reporting.labels import rate_label
from multistep_bench.reporting.plots import count_ticks
from multistep_bench.scoring.run import secondary_values
from multistep_bench.training.cells import RunSpec
from multistep_bench.training.record import Run


def secondary_names(run: Run) -> list[str]:
    """The secondary measurements that a run's records hold, in their order."""
    return list(dict.fromkeys(name for record in run.records for name in record.header.secondary))


def rate_styles(spec: RunSpec) -> dict[str, Look]:
    """How the curves of each learning rate are drawn, by what the legend calls it."""
    rates = spec.protocol.learning_rates
    return {f"rate {rate_label(rate)}": figures.series_style(index) for index, rate in enumerate(rates)}


def draw_secondary(axes: Axes, run: Run, name: str) -> None:
    """One secondary measurement: each cell a thin line, and at each learning rate the mean of its cells a thick one.

    The mean ends where the first of its cells does.
    """
    measure, protocol = run.spec.task.levels.measure, run.spec.protocol
    curves: dict[int, list[np.ndarray]] = {index: [] for index in range(len(protocol.learning_rates))}
    for record in run.records:
        curves[record.cell.rate_index].append(secondary_values(record, measure).get(name, np.array([])))
    for look, cells in zip(rate_styles(run.spec).values(), curves.values(), strict=True):
        for values in cells:
            axes.plot(protocol.interval * np.arange(len(values)), values, linewidth=0.5, alpha=0.35, **look)
        shared = min(map(len, cells), default=0)
        mean = np.mean([values[:shared] for values in cells], axis=0) if shared else np.array([])
        axes.plot(protocol.interval * np.arange(shared), mean, linewidth=1.4, **look)
    axes.set_title(name, loc="left")
    axes.set_xlim(0, protocol.budget)
    axes.set_ylim(bottom=0, top=1.03 if measure == "accuracy" else None)
    count_ticks(axes)
