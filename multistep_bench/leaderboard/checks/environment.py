"""Whether what a record says of its machine and versions can be: no proof, but an invented header has to know these."""

import re
from collections.abc import Iterator
from typing import Any

from multistep_bench.leaderboard.checks.subject import Subject
from multistep_bench.runs.events import Environment

DEVICE = re.compile(r"cpu|cuda(:[0-9]{1,2})?")
VERSION = re.compile(r"[0-9]{1,4}(\.[0-9A-Za-z+_-]{1,40}){0,5}")
COMMIT = re.compile(r"[0-9a-f]{7,40}(-dirty)?|[\w.-]{1,60}-g[0-9a-f]{7,40}(-dirty)?|[\w.-]{1,60}")
NEEDED_VERSIONS = ("multistep_bench", "torch", "python")
KNOWN_VERSIONS = {*NEEDED_VERSIONS, "timm", "numpy", "git"}
KNOWN_HARDWARE = {"device", "machine", "cores", "gpu", "processor", "threads"}
ENGINE = re.compile(r"(one cell at a time|cells stacked)(: not stacked because .{1,300})?")
CORES = range(1, 100_000)


def names_a_machine(subject: Subject) -> Iterator[str]:
    """Every record names the engine, the device, and versions that are versions, as the harness writes them."""
    for run in subject.entry.runs:
        seen = {record.environment.key: record for record in run.records if record.status != "failed"}
        for record in seen.values():
            for problem in _problems(record.environment):
                yield f"{run.spec.task.id}: {record.cell.name}: {problem}"


def _problems(environment: Environment) -> Iterator[str]:
    if not ENGINE.fullmatch(environment.engine):
        yield f"its engine {environment.engine[:40]!r} is none of this suite"
    for name in NEEDED_VERSIONS:
        if name not in environment.versions:
            yield f"it names no version of {name}"
    for name, version in environment.versions.items():
        if name not in KNOWN_VERSIONS:
            yield f"it names a version of {name[:40]!r}, which the harness does not record"
        elif not (COMMIT if name == "git" else VERSION).fullmatch(version):
            yield f"its version {version[:40]!r} of {name} is none"
    yield from _hardware_problems(environment.hardware)


def _hardware_problems(hardware: dict[str, Any]) -> Iterator[str]:
    device = hardware.get("device")
    if not isinstance(device, str) or not DEVICE.fullmatch(device):
        yield f"its device {str(device)[:40]!r} is none of cpu, cuda and cuda:N"
    for name, value in hardware.items():
        if name not in KNOWN_HARDWARE:
            yield f"its hardware names {name[:40]!r}, which the harness does not record"
        elif name in ("cores", "threads"):
            if not isinstance(value, int) or isinstance(value, bool) or value not in CORES:
                yield f"its hardware has {str(value)[:40]!r} {name}"
        elif not isinstance(value, str) or not 0 < len(value) <= 200:
            yield f"its hardware's {name} is no text of at most 200 characters"
