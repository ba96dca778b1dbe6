"""One line of a table of probes, and the table that `probe` left in a run's folder."""

from dataclasses import asdict, dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from multistep_bench.errors import RunError
from multistep_bench.runs.inside import load_probes
from multistep_bench.runs.store import Run
from multistep_bench.scoring.statistics import Interval


@dataclass(frozen=True)
class Row:
    """One line of a table of probes.

    layer: 0 is what enters the first block. representation: as asked for, with its head where they are split.
    accuracy: over test items of one cell (Wilson), or the mean over `cells` seeds. chance: of the majority class.
    bits: of the online code for an item, `uniform` log2 of the classes; None where it was not asked for.
    """

    at: str
    variable: str
    layer: int
    representation: str
    place: str
    cells: int
    items: int
    accuracy: Interval
    chance: float
    bits: float | None
    uniform: float

    def to_dict(self) -> dict[str, Any]:
        """Plain data, flat, for JSON and CSV."""
        content = asdict(self)
        interval = content.pop("accuracy")
        return {**content, "accuracy": interval["estimate"], "low": interval["low"], "high": interval["high"]}


def probe_rows(run: Run) -> list[Row]:
    """The table that `probe` left in a run's folder, [] without one; raises `RunError` where it is damaged."""
    content = [dict(row) for row in load_probes(run.path)]
    try:
        for row in content:
            row["accuracy"] = {"estimate": row["accuracy"], "low": row.pop("low"), "high": row.pop("high")}
        rows = TypeAdapter(list[Row]).validate_python(content)
    except (KeyError, ValidationError) as error:
        raise RunError(f"the table of probes in {run.path} is damaged; run `mstep-bench probe` again") from error
    if not all(row.cells > 0 and row.items > 0 and 0 <= row.accuracy.estimate <= 1 for row in rows):
        raise RunError(f"the table of probes in {run.path} holds impossible numbers; run `mstep-bench probe` again")
    return rows
