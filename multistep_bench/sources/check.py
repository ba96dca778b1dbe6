"""Looks for every registered source without touching the network."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from multistep_bench import registry
from multistep_bench.errors import BenchError, DataMissing


@dataclass(frozen=True)
class SourceCheck:
    """What was found of a source; `where` is the folder it was read from, or None."""

    source: str
    status: Literal["ok", "missing", "broken"]
    where: str | None
    message: str


def check_data(data_root: Path | None = None) -> list[SourceCheck]:
    """Reads every source as a run would, but downloads nothing: one record a source, sorted by name."""
    return [_check(name, data_root) for name in registry.sources.names()]


def _check(name: str, data_root: Path | None) -> SourceCheck:
    try:
        source = registry.sources.get(name)(data_root, download=False)
    except DataMissing as error:
        return SourceCheck(name, "missing", None, str(error))
    except BenchError as error:
        return SourceCheck(name, "broken", None, str(error))
    return SourceCheck(name, "ok", source.where, source.summary)
