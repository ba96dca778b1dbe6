"""Whether a machine trains what another one planned: the same versions, code, model and data give the same curves."""

import functools
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

import multistep_bench
from multistep_bench.errors import BenchError
from multistep_bench.generators.task import batch_sha256
from multistep_bench.models.build import build, builder
from multistep_bench.models.code import code_sha256
from multistep_bench.runs import machine
from multistep_bench.runs.spec import RunSpec
from multistep_bench.training.plan import task_of
from multistep_bench.training.randomness import own_randomness, seed_everything

DECISIVE = ("multistep_bench", "torch", "timm", "numpy")  # packages whose versions have to agree
_checked: set[str] = set()  # identities of runs that this process can train

versions = functools.cache(machine.versions)  # of this process; to find the git commit takes a while


@functools.cache
def installation() -> dict[str, str]:
    """Name → version of what decides curves on this machine, and the hash of the suite's own code."""
    digest = hashlib.sha256()
    package = Path(multistep_bench.__file__).parent
    for path in sorted(package.rglob("*.py")):
        digest.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    found = {"Python": "{}.{}".format(*sys.version_info[:2])} | {name: versions()[name] for name in DECISIVE}
    return found | {"the code of multistep_bench": digest.hexdigest()[:12]}


def why_not_here(specs: Sequence[RunSpec], data_root: str | None, wanted: dict[str, str]) -> str | None:
    """Why this machine cannot train runs that were planned elsewhere, in words of that place; None if it can.

    wanted: `installation` of the machine that planned them.
    """
    differing = [
        f"{name} is {installation().get(name)} there and {its} here"
        for name, its in wanted.items()
        if installation().get(name) != its
    ]
    if differing:
        return f"{', '.join(differing)}; install the same on both, for curves depend on it"
    for spec in specs:
        if (identity := spec.identity()) not in _checked:
            if (reason := _why_not(spec, data_root)) is not None:
                return reason
            _checked.add(identity)
    return None


def _why_not(spec: RunSpec, data_root: str | None) -> str | None:
    cpu = torch.device("cpu")
    with own_randomness(cpu):
        try:
            task = task_of(spec, data_root)
            seed_everything(0)
            code = code_sha256(build(spec.model.card(), task.info), builder(spec.model.builder))
        except BenchError as error:
            return f"it cannot make {spec.model.name} for {spec.task.id}: {error}"
        if code != spec.model.code_sha256:
            return (
                f"the code of {spec.model.name} is {code[:12]} there and {spec.model.code_sha256[:12]} here;"
                " bring the same files to both"
            )
        if spec.task.batch_sha256 and batch_sha256(task) != spec.task.batch_sha256:
            return (
                f"its data files give other batches of {spec.task.id} than the card pins; bring the same files to both"
            )
    return None
