"""Devices by name."""

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
