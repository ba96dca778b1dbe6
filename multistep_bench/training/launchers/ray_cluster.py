"""The launcher of many machines: connects to a Ray cluster or starts a Ray here, and asks each machine if it can."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from multistep_bench.errors import RunError
from multistep_bench.runs.machine import available_cores
from multistep_bench.training.launchers.demand import Demand
from multistep_bench.training.launchers.installation import installation, why_not_here
from multistep_bench.training.randomness import own_randomness

if TYPE_CHECKING:
    from multistep_bench.training.launchers.ray_tasks import RayPool

CONNECT_SECONDS, HEALTH_SECONDS = 2.0, 7.0  # in which an address has to answer
PROBE_SECONDS = 180.0  # in which each machine has to say whether it can train; the first import of torch takes a while
HOST_AND_PORT = re.compile(r"(?P<host>[\w.-]+|\[[0-9a-fA-F:]+\]):(?P<port>\d{1,5})")


@contextmanager
def ray_pool(demand: Demand) -> "Iterator[RayPool]":
    """The pool of a Ray cluster, see `launch.Place` for which one.

    Raises `RunError` without Ray, for a model of a script or a notebook, for an address at which none answers, and
    where a machine of the cluster has other versions, code or data, or cannot make a model.
    """
    _check_models(demand)
    ray = _import_ray()
    from multistep_bench.training.launchers.ray_tasks import RayPool

    if not demand.gpus > 0:
        raise RunError(f"--gpus {demand.gpus}: a share of a GPU above 0 is needed")
    with own_randomness(torch.device("cpu")), _connected(ray, demand):
        device = _device(ray, demand.device)
        pool = RayPool(device, demand.gpus, demand.workers, demand.cell_timeout)
        _check_machines(ray, demand, device)
        yield pool


def _check_models(demand: Demand) -> None:
    """Raises `RunError` for a model that no machine of a cluster could import and check."""
    if local := next((spec.model.name for spec in demand.specs if spec.model.local), None):
        raise RunError(
            f"--launcher ray: model '{local}' is defined in a script or a notebook, and machines of a cluster import"
            " what they train, to check that it is the same code; put it in a module that each can import and give"
            " package.module:Name; nothing was trained"
        )


def _import_ray() -> Any:
    try:
        import ray  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise RunError(
            "--launcher ray needs Ray, which is not installed: pip install 'multistep-bench[ray]' on every machine,"
            " or leave out --launcher; nothing was trained"
        ) from None
    return ray


@contextmanager
def _connected(ray: Any, demand: Demand) -> Iterator[None]:
    """A connection to the cluster; one that the caller has is used, and left open."""
    address = demand.address or os.environ.get("RAY_ADDRESS") or None
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS") or "auto"
    if ray.is_initialized():
        there = ray.get_runtime_context().gcs_address
        if demand.address not in (None, "auto", there):
            raise RunError(
                f"--address {demand.address}: this process uses the Ray at {there}; call ray.shutdown() first"
            )
        yield
        return
    running = True
    if address not in (None, "auto"):
        _check_answers(address)
    else:
        running = _is_healthy()
        if address == "auto" and not running:
            raise RunError("--address auto: no Ray runs on this machine; start one with ray start; nothing was trained")
    try:
        with _quiet():
            if running:
                _init(ray, address or "auto")
            else:
                _init(ray, "local", num_cpus=demand.workers or available_cores(), include_dashboard=False)
            yield
    finally:
        ray.shutdown()


def _init(ray: Any, address: str, **options: Any) -> None:
    """Connects, and leaves the handlers of signals and warnings as they are."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ray.init(address=address, log_to_driver=False, logging_level="CRITICAL", **options)
    except (RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise RunError(f"--address {address}: Ray cannot be used there: {' '.join(str(error).split())[:400]}") from None
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


@contextmanager
def _quiet() -> Iterator[None]:
    """Ray tells of each worker that dies on the terminal, where the live table stands; we tell of it ourselves."""
    from ray._private import worker  # pyright: ignore[reportMissingImports]  # there is no public switch

    name = "print_to_stdstream"
    printing = getattr(worker, name, None)
    if printing is None:
        yield
        return
    setattr(worker, name, lambda *args, **options: None)
    try:
        yield
    finally:
        setattr(worker, name, printing)


def _check_answers(address: str) -> None:
    """Raises `RunError` unless a Ray answers soon; Ray itself would try for minutes and then end this process."""
    match = HOST_AND_PORT.fullmatch(address)
    if match is None:
        raise RunError(
            f"--address {address}: write HOST:PORT of the cluster's head, or auto, on a machine of the cluster"
        )
    try:
        place = (match["host"].strip("[]"), int(match["port"]))
        with contextlib.closing(socket.create_connection(place, CONNECT_SECONDS)):
            pass
    except (OSError, OverflowError) as error:
        raise RunError(f"--address {address}: nobody answers there ({error}); nothing was trained") from None
    if not _is_healthy("--address", address):
        raise RunError(f"--address {address}: what answers there is no Ray of this version; nothing was trained")


def _is_healthy(*address: str) -> bool:
    """Whether a Ray answers, by default the one that runs on this machine; one that died leaves its address behind."""
    command = [sys.executable, "-m", "ray.scripts.scripts", "health-check", *address]
    try:
        return subprocess.run(command, capture_output=True, timeout=HEALTH_SECONDS).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def _device(ray: Any, name: str) -> torch.device:
    """The device by its name as in `run`; on a GPU machine Ray says which GPU is meant, so it has no number."""
    if name not in ("auto", "cpu", "cuda"):
        raise RunError(f"--device {name}: on Ray it is auto, cpu or cuda, for Ray gives out the GPUs")
    has_gpu = ray.cluster_resources().get("GPU", 0) > 0
    return torch.device("cuda" if name == "cuda" or (name == "auto" and has_gpu) else "cpu")


def _check_machines(ray: Any, demand: Demand, device: torch.device) -> None:
    """Asks every machine that would train whether it can; raises `RunError` for what one of them lacks.

    One that has left the cluster meanwhile, which Ray lists for a few seconds more, is passed over.
    """
    from ray.util.scheduling_strategies import (  # pyright: ignore[reportMissingImports]
        NodeAffinitySchedulingStrategy,
    )

    kind, least = ("GPU", min(1.0, demand.gpus)) if device.type == "cuda" else ("CPU", 1.0)
    machines = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get(kind, 0) >= least]
    if not machines:
        raise RunError(
            f"the Ray cluster has no machine with a {kind} for a group of cells; give one num_{kind.lower()}s"
        )
    remote = ray.remote(why_not_here)
    asked = {}
    for node in machines:
        only = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        options = {"num_cpus": 0, "max_retries": 0, "scheduling_strategy": only}
        answer = remote.options(**options).remote(list(demand.specs), demand.data_root, installation())
        asked[answer] = f"machine {node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
    ready, silent = ray.wait(list(asked), num_returns=len(asked), timeout=PROBE_SECONDS)
    for answer in ready:
        try:
            reason = ray.get(answer)
        except ray.exceptions.TaskUnschedulableError:
            asked.pop(answer)
            continue
        except ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None) or error
            reason = f"multistep_bench does not start there: {' '.join(str(cause).split())[-300:]}"
        if reason is not None:
            raise RunError(f"{asked[answer]} of the cluster cannot train this: {reason}")
    if not asked:
        raise RunError("every machine of the Ray cluster left it; nothing was trained")
    if silent:
        raise RunError(
            f"{asked[silent[0]]} of the cluster did not answer within {PROBE_SECONDS:g} s; nothing was trained"
        )
