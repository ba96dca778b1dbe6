"""`mb.run`: training from a script or a notebook, with the short options and the progress of the command line."""

import inspect
import sys
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, Unpack

from multistep_bench.cards import DEFAULT_PROTOCOL, DEFAULT_TASK
from multistep_bench.errors import BenchError, RunError
from multistep_bench.models.local import Model
from multistep_bench.protocol import protocol_changes
from multistep_bench.runs.store import Run
from multistep_bench.training import launch
from multistep_bench.training.relay import Observer


def run(
    task: str | Path = DEFAULT_TASK,
    model: Model = "vit",
    protocol: str = DEFAULT_PROTOCOL,
    out: str | Path | None = None,
    *,
    seeds: int | None = None,
    learning_rates: float | Sequence[float] | None = None,
    budget: int | None = None,
    precision: Literal["float32", "bfloat16"] | None = None,
    changes: Mapping[str, Any] | None = None,
    data_root: str | Path | None = None,
    on_failure: Literal["raise", "keep"] = "raise",
    progress: bool | None = None,
    **execution: Unpack[launch.Execution],
) -> Run:
    """Trains every cell of a task's protocol for a model, and resumes what an earlier call left.

    task, model:    names, paths of cards; a model also "timm/NAME" or "package.module:build", or the class or function
                    that builds it from a `TaskInfo`, also one of a notebook or a script: `model=MyNet`. Such a run
                    resumes as long as the source of what it is made of is the same.
    out:            the run folder, by default one below ./runs named after the specification.
    seeds:          per learning rate; learning_rates, in any order; budget: training samples per cell; precision. Each
                    by default the protocol's, and each wins over the same key in `changes`.
    changes:        "task.PARAMETER", "model.OPTION" or "protocol.KEY" → value, laid over the cards.
    on_failure:     a cell whose program breaks is recorded as failed and the others go on; at the end that raises, or
                    the run is returned as it is ("keep").
    progress:       shows a live table on a terminal and lines elsewhere; by default in an interactive session or a
                    notebook, and not in a script.
    execution:      device, workers, stack and so on, see `multistep_bench.training.launch.Execution`.
    Returns the run as read back from its folder. Raises `TypeError` for an unknown keyword, naming the closest one, and
    `BenchError` for what cannot be trained and, unless it is to be kept, for a run with failed or missing cells.
    """
    _check_keywords(execution)
    execution["observer"] = _observer(progress, execution.get("observer"))
    short = protocol_changes(learning_rates=_rates(learning_rates), seeds=seeds, budget=budget, precision=precision)
    return launch.run(
        task,
        model,
        protocol,
        out,
        changes={**(changes or {}), **short},
        data_root=data_root,
        on_failure=on_failure,
        **execution,
    )


def _check_keywords(given: Iterable[str]) -> None:
    named = [*inspect.signature(run).parameters, *inspect.signature(launch.run).parameters]
    known = dict.fromkeys(name for name in [*named, *launch.Execution.__annotations__] if name != "execution")
    for name in given:
        if name not in known:
            match = get_close_matches(name, known, n=1)
            meant = f"did you mean '{match[0]}'?" if match else f"it takes {', '.join(known)}"
            raise TypeError(f"run() has no keyword '{name}', {meant}")


def _rates(given: float | Sequence[float] | None) -> list[float] | None:
    """Plain numbers, also of an array."""
    if given is None:
        return None
    try:
        return [float(rate) for rate in ([given] if isinstance(given, int | float | str) else given)]
    except (TypeError, ValueError):
        raise BenchError(
            f"learning_rates={given!r}: give a number or a list of numbers, as in learning_rates=[1e-3, 2e-3]"
        ) from None


def _observer(progress: bool | None, observer: Observer | None) -> Observer | None:
    if observer is not None:
        if progress:
            raise RunError("progress=True and observer=... both watch the run; give one of them")
        return observer
    if progress or (progress is None and hasattr(sys, "ps1")):  # a prompt, which notebooks have as well
        from multistep_bench.reporting.console import make_observer
        from multistep_bench.reporting.terminal import Terminal

        return make_observer(Terminal(force_jupyter=False, force_terminal=False if _in_a_notebook() else None))
    return None


def _in_a_notebook() -> bool:
    """Whether cells of a notebook run here; its kernel claims to be a terminal, but none that can be redrawn."""
    shell = sys.modules.get("IPython")
    return shell is not None and type(shell.get_ipython()).__name__ == "ZMQInteractiveShell"
