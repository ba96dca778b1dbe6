"""The launcher of this machine: processes of one thread each on a CPU, this process on a GPU."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from multistep_bench.errors import RunError
from multistep_bench.runs.machine import available_cores
from multistep_bench.training.device import find_device
from multistep_bench.training.grouping import StackSize, stack_size_here
from multistep_bench.training.launchers.demand import Demand
from multistep_bench.training.share import Share
from multistep_bench.training.workers import train_here, train_in_processes


@dataclass
class LocalPool:
    """See `demand.Pool`; count: of processes at once."""

    device: torch.device
    count: int
    cell_timeout: float | None
    stack_size: StackSize = stack_size_here

    def train(self, shares: Sequence[Share]) -> None:
        """See `demand.Pool`."""
        count = min(self.count, len(shares))
        if count > 1 or self.cell_timeout is not None:  # only another process can be ended
            train_in_processes(shares, count, self.cell_timeout)
        else:
            train_here(shares)


@contextmanager
def local_pool(demand: Demand) -> Iterator[LocalPool]:
    """The pool of this machine; raises `RunError` for options that are not for it."""
    place = find_device(demand.device)
    if demand.address is not None:
        raise RunError(f"--address {demand.address}: that is for --launcher ray; add it, or leave out the address")
    if demand.workers is not None and place.type != "cpu":
        raise RunError(
            f"--workers {demand.workers}: cells on {place} are stacked, not spread over processes; use --stack"
        )
    yield LocalPool(place, (demand.workers or available_cores()) if place.type == "cpu" else 1, demand.cell_timeout)
