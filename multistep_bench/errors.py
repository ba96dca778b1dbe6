"""Every error a user can cause. Each message is one sentence: the value, the place, the way out."""

from collections.abc import Iterable
from difflib import get_close_matches


class BenchError(Exception):
    """Wrong usage or input; the command line prints the message and exits with code 2."""


class NotFound(BenchError):
    """A name that nothing is registered under."""

    def __init__(self, kind: str, name: str, known: Iterable[str], hint: str) -> None:
        match = get_close_matches(name, list(known), n=1, cutoff=0.5)
        suggestion = f" Did you mean '{match[0]}'?" if match else ""
        super().__init__(f"no {kind} '{name}'.{suggestion} ({hint})")


class CardError(BenchError):
    """A card, a parameter or a protocol that breaks its schema; lists every problem at once."""


class DataError(BenchError):
    """A data file that is missing, truncated or not what its name says."""


class DataMissing(DataError):
    """Data files that are in none of the places searched and could not be downloaded."""


class ModelError(BenchError):
    """A model that cannot be built for a task or does not keep the contract."""


class RunError(BenchError):
    """A run folder that cannot be used as asked."""
