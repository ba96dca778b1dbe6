"""How numbers and names are written in the terminal, in plots and in the report."""

import math
import re
import textwrap
from collections.abc import Collection, Iterable

from multistep_bench.runs.spec import RunSpec
from multistep_bench.scoring.names import changes_label as changes_label
from multistep_bench.scoring.names import run_labels as run_labels
from multistep_bench.scoring.names import task_label as task_label
from multistep_bench.scoring.statistics import ENTRY_SEEDS, RANK_SEEDS

DAY = 86_400  # seconds
ROW_LABEL = 24  # letters in a line beside a row of panels
AXES = {"accuracy": "accuracy", "loss": "cross-entropy (nats)"}


def measured(specs: Iterable[RunSpec]) -> str:
    """What the curves of these runs are: "accuracy", "loss", or "accuracy or loss" where their tasks differ."""
    return " or ".join(sorted({spec.task.levels.measure for spec in specs}))


def rate_label(rate: float) -> str:
    """A learning rate: 0.001 → "1e-3", 0.00025 → "2.5e-4"."""
    mantissa, exponent = f"{rate:.4e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def short_count(count: float) -> str:
    """A number of samples in at most five characters below a trillion: 143360 → "143k", 1.2e6 → "1.2M"."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= 0.9995 * size:
            value = count / size
            return f"{value:.1f}{unit}" if value < 9.95 else f"{value:.0f}{unit}"
    return f"{count:.0f}"


def counted(count: int, one: str, many: str = "") -> str:
    """A number with its noun: "1 cell", "2 cells"; many: an irregular plural."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def seeds_needed(seeds: int) -> str:
    """What more seeds per learning rate are needed for; empty where there are enough."""
    if seeds < ENTRY_SEEDS:
        return f"an entry needs {ENTRY_SEEDS}, a claim of rank {RANK_SEEDS}"
    return f"a claim of rank needs {RANK_SEEDS}" if seeds < RANK_SEEDS else ""


def number(value: float | None) -> str:
    """A score to three places; a dash where there is none."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.3f}"


def duration(seconds: float) -> str:
    """Wall-clock time: 38 → "38 s", 83 → "1:23 min", 5000 → "1:23 h", from three days on 400000 → "4.6 days"."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60}:{seconds % 60:02d} min"
    if seconds < 3 * DAY:
        return f"{seconds // 3600}:{seconds % 3600 // 60:02d} h"
    return f"{seconds / DAY:.1f} days" if seconds < 10 * DAY else f"{seconds / DAY:,.0f} days"


def row_label(label: str, spec: RunSpec, tasks: Collection[str]) -> str:
    """The label of a row of panels: its run and its vertical axis, and its task where the figure shows several."""
    name = label if len(tasks) == 1 else f"{label}, {task_label(spec)}"
    return f"{_wrapped(name)}\n{AXES[spec.task.levels.measure]}"


def _wrapped(name: str) -> str:
    """A name in lines, broken at blanks, hyphens and underscores, and within a word where one is longer than a line."""
    lines = [""]
    for part in re.findall(r"[^\s_-]+[\s_-]*|[\s_-]+", name):
        if lines[-1] and len((lines[-1] + part).rstrip()) > ROW_LABEL:
            lines.append("")
        lines[-1] += part
    return "\n".join(textwrap.fill(line, ROW_LABEL) for line in lines)
