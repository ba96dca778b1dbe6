"""The machine a run is on: its devices, its cores, and the versions that decide a curve."""

import contextlib
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

from multistep_bench import __version__
from multistep_bench.errors import RunError


def available_cores() -> int:
    """Processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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


def versions() -> dict[str, str]:
    """Versions that decide a curve: of the harness (with its git commit in a checkout), torch and Python."""
    found = {"multistep_bench": __version__, "torch": torch.__version__, "python": platform.python_version()}
    package = Path(__file__).resolve().parents[1]
    if (package.parent / ".git").exists():
        command = ["git", "-C", str(package), "describe", "--always", "--dirty", "--abbrev=40"]
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            found["git"] = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return found


def hardware(device: str) -> dict[str, Any]:
    """The machine a cell is trained on."""
    found: dict[str, Any] = {"device": device, "machine": platform.machine(), "cores": available_cores()}
    if torch.device(device).type == "cuda":
        found["gpu"] = torch.cuda.get_device_name(device)
    else:
        found["processor"] = _processor()
        found["threads"] = torch.get_num_threads()
    return found


def _processor() -> str:
    with contextlib.suppress(OSError):
        for entry in Path("/proc/cpuinfo").read_text().splitlines():
            if entry.startswith("model name"):
                return entry.partition(":")[2].strip()
    return platform.processor() or "unknown"
