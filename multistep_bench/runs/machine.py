"""The machine a run is on: its cores, memory and versions. Torch is imported only when it is asked about."""

import contextlib
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from multistep_bench import __version__


def available_cores() -> int:
    """Processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def peak_memory() -> int | None:
    """Bytes that this process held at most so far; None where the system does not tell (Windows)."""
    with contextlib.suppress(OSError, ValueError):
        for entry in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if entry.startswith("VmHWM:"):
                return int(entry.split()[1]) * 1024
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def killed_for_memory() -> int:
    """How many processes of this control group the system has ended for want of memory; 0 where it does not tell."""
    with contextlib.suppress(OSError, ValueError):
        for entry in Path("/sys/fs/cgroup/memory.events").read_text(encoding="utf-8").splitlines():
            if entry.startswith("oom_kill "):
                return int(entry.split()[1])
    return 0


def versions() -> dict[str, str]:
    """Versions that decide a curve: the harness (with its git commit in a checkout), torch, timm, NumPy and Python."""
    import torch

    found = {"multistep_bench": __version__, "torch": torch.__version__, "python": platform.python_version()}
    found |= {name: metadata.version(name) for name in ("timm", "numpy")}
    package = Path(__file__).resolve().parents[1]
    if (package.parent / ".git").exists():
        command = ["git", "-C", str(package), "describe", "--always", "--dirty", "--abbrev=40"]
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            found["git"] = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return found


def hardware(device: str) -> dict[str, Any]:
    """The machine a cell is trained on, as JSON; device: "cpu", "cuda" or "cuda:N"."""
    import torch

    found: dict[str, Any] = {"device": device, "machine": platform.machine(), "cores": available_cores()}
    if torch.device(device).type == "cuda":
        found["gpu"] = torch.cuda.get_device_name(device)
    else:
        found["processor"] = _processor()
        found["threads"] = torch.get_num_threads()
    return found


def _processor() -> str:
    with contextlib.suppress(OSError):
        for entry in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if entry.startswith("model name"):
                return entry.partition(":")[2].strip()
    return platform.processor() or "unknown"
