"""Looks for every registered source without touching the network, or fetches one."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from multistep_bench import registry
from multistep_bench.errors import BenchError, DataMissing


@dataclass(frozen=True)
class SourceCheck:
    """What was found of a source.

    where:   the folder or archive it was read from, or None.
    message: what is there, and which broken copies were passed over; or what is wrong.
    """

    source: str
    status: Literal["ok", "missing", "broken"]
    where: str | None
    message: str


def check_data(data_root: Path | None = None) -> list[SourceCheck]:
    """Reads every source as a run would, but downloads nothing: one record a source, sorted by name."""
    return [_check(name, data_root) for name in registry.sources.names()]


def download(name: str, data_root: Path | None) -> SourceCheck:
    """Reads a source as a run would, downloading what is missing; raises `BenchError` where that fails."""
    source = registry.sources.get(name)(data_root)
    return SourceCheck(name, "ok", source.where, source.summary)


def _check(name: str, data_root: Path | None) -> SourceCheck:
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            source = registry.sources.get(name)(data_root, download=False)
    except DataMissing as error:
        return SourceCheck(name, "missing", None, str(error))
    except BenchError as error:
        return SourceCheck(name, "broken", None, str(error))
    return SourceCheck(name, "ok", source.where, "; ".join([source.summary, *(str(each.message) for each in said)]))
