"""Who trains the groups of a run: processes of this machine, or those of a Ray cluster. Groups in, messages out."""

from collections.abc import Callable
from contextlib import AbstractContextManager

from multistep_bench.errors import NotFound
from multistep_bench.training.launchers.demand import Demand, Pool, check_numbers
from multistep_bench.training.launchers.local import local_pool
from multistep_bench.training.launchers.ray_cluster import ray_pool

__all__ = ["LAUNCHERS", "Demand", "Pool", "check_numbers", "find_launcher"]

Launcher = Callable[[Demand], AbstractContextManager[Pool]]

LAUNCHERS: dict[str, Launcher] = {"local": local_pool, "ray": ray_pool}


def find_launcher(name: str) -> Launcher:
    """The launcher of a name; raises `NotFound` with the closest match."""
    if name not in LAUNCHERS:
        raise NotFound("launcher", name, LAUNCHERS, f"--launcher {' or '.join(LAUNCHERS)}")
    return LAUNCHERS[name]
