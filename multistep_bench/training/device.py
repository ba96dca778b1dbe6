"""Devices by name, and the one thread that a cell has on a CPU."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from multistep_bench.errors import RunError


def find_device(name: str) -> torch.device:
    """The device of a name; raises `RunError` where this machine has none such."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise RunError(f"--device {name} is none of auto, cpu, cuda, cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise RunError(f"--device {name} is none of auto, cpu, cuda, cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise RunError(f"--device {name}: torch sees {torch.cuda.device_count()} GPUs here; use --device cpu")
    return device


@contextmanager
def one_thread() -> Iterator[None]:
    """torch with one thread, as every cell has it on a CPU, for the same curves everywhere."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
