"""The signature of launchers: what each is given, and what it gives."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from multistep_bench.errors import RunError
from multistep_bench.runs.spec import RunSpec
from multistep_bench.training.grouping import StackSize
from multistep_bench.training.share import Share


@dataclass(frozen=True)
class Demand:
    """What is to be trained and on what; the options are those of `launch.Place`."""

    specs: Sequence[RunSpec]
    data_root: str | None
    device: str
    workers: int | None
    cell_timeout: float | None
    address: str | None
    gpus: float


def check_numbers(workers: int | None = None, stack: int | None = None, cell_timeout: float | None = None) -> None:
    """Raises `RunError` for what no launcher can do, before a run or its dry run begins."""
    if cell_timeout is not None and not cell_timeout > 0:
        raise RunError(f"--cell-timeout {cell_timeout}: more than 0 seconds are needed")
    for option, value in (("--workers", workers), ("--stack", stack)):
        if value is not None and value < 1:
            raise RunError(f"{option} {value}: at least 1 is needed")


class Pool(Protocol):
    """Where groups are trained. A launcher refuses what it cannot do before it gives one, and nothing is written.

    device: of a `Job`. stack_size: see `grouping.grouped`.
    """

    device: torch.device
    stack_size: StackSize

    def train(self, shares: Sequence[Share]) -> None:
        """Trains shares, as far as may be in this order: tells the relay of each what happens and calls its `ended`.

        A process that dies costs its group no more than the work since its last checkpoint: it is tried again, see
        `Share.retry`, or recorded as failed. Where this raises, no process of the pool goes on.
        """
        ...
