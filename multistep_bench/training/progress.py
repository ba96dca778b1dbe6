"""Tells the parts of a model how far its training is."""

from collections.abc import Callable
from typing import Any

from torch import nn


def progress_setter(model: nn.Module) -> Callable[[float], None]:
    """Calls `set_progress(fraction of the budget)` of every module of a model that has it, however deep it stands."""
    listeners: list[Any] = [module for module in model.modules() if callable(getattr(module, "set_progress", None))]

    def tell(fraction: float) -> None:
        for module in listeners:
            module.set_progress(fraction)

    return tell
