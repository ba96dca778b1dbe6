"""`mb.plot`: the figures of `mstep-bench plot`, as figures that a script or a notebook goes on with."""

from collections.abc import Iterable
from pathlib import Path

from matplotlib.figure import Figure

from multistep_bench.reporting import figures
from multistep_bench.reporting.paper import on_paper
from multistep_bench.reporting.plots import write_plot
from multistep_bench.runs.search import find_runs
from multistep_bench.runs.store import Run, read_run
from multistep_bench.scoring.score import score


def plot(
    runs: str | Path | Run | Iterable[str | Path | Run],
    kind: str = "curves",
    out: str | Path | None = None,
    *,
    width: str | float | None = None,
    font_size: float | None = None,
    **options: str | None,
) -> Figure:
    """One figure of runs, as wide as a paper's column or page; a notebook shows it.

    runs:    runs, run folders or folders of them, or one of these. kind: as in `mstep-bench plot --kind`.
    out:     a file to write as well, .png, .svg or .pdf. width: inches, "single" or "double". font_size: points.
    options: of that kind, such as by= or reference=.
    Raises `NotFound` for an unknown kind, and `BenchError` for what cannot be read, drawn or written.
    """
    given = [runs] if isinstance(runs, str | Path | Run) else list(runs)
    read = [
        run
        for each in given
        for run in ([each] if isinstance(each, Run) else [read_run(path) for path in find_runs([each])])
    ]
    if out is not None:
        figures.plot_format(Path(out))
    with figures.collected() as drawn:
        write_plot(kind, read, score(read), "figure.png", width=width, font_size=font_size, **options)
    figure = drawn[0]
    with on_paper(width, font_size), figures.style():
        if out is not None:
            figures.save(figure, out)
        else:
            figure.draw_without_rendering()  # ticks and texts take the style in which they are made
    return figure
