"""Rows as pandas frames; pandas is an extra, and imported when a frame is asked for."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from multistep_bench.desk.rows import Row
from multistep_bench.errors import BenchError

if TYPE_CHECKING:
    from pandas import DataFrame  # pyright: ignore[reportMissingImports]


def frame(rows: Sequence[Row]) -> "DataFrame":
    """A frame with a column a key; None becomes NaN in columns of numbers. Raises `BenchError` without pandas."""
    pandas: Any
    try:
        import pandas  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise BenchError(
            "a frame needs pandas, which is not installed: pip install 'multistep-bench[pandas]'; to_csv, to_markdown"
            " and to_latex do without it"
        ) from None
    made = pandas.DataFrame.from_records(list(rows))
    for name in made.columns:  # a column of None alone, or of None and numbers
        if made[name].dtype == object and all(value is None or isinstance(value, int | float) for value in made[name]):
            made[name] = pandas.to_numeric(made[name])
    return made
