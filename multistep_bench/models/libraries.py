"""Libraries whose models are asked for as "PREFIX/NAME"; one of them is the program that calls us."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from multistep_bench.cards import LOCAL
from multistep_bench.models import external, hf, local


@dataclass(frozen=True)
class Library:
    """names: all of them. builder, source: from "PREFIX/NAME" to what builds and what defines the model."""

    names: Callable[[], list[str]]
    builder: Callable[[str], Callable[..., Any]]
    source: Callable[[str], Callable[..., Any]]


LIBRARIES = {
    external.PREFIX: Library(external.timm_names, external.timm_builder, external.timm_source),
    hf.PREFIX: Library(hf.hf_names, hf.hf_builder, hf.hf_source),
    LOCAL: Library(local.local_names, local.local_builder, local.local_source),
}


def library_of(model: str) -> Library | None:
    """The library whose prefix a model's name has."""
    return next((library for prefix, library in LIBRARIES.items() if model.startswith(prefix)), None)


def library_names() -> list[str]:
    """Every model of the libraries that are installed."""
    return [name for library in LIBRARIES.values() for name in library.names()]
