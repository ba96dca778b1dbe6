"""What spreading cells over processes costs and gains: simulated cells of known length, and real ones."""

import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from multistep_bench.bench.quick import quick_spec
from multistep_bench.bench.result import Measured
from multistep_bench.cards import DEFAULT_TASK
from multistep_bench.runs.events import Evaluation, Outcome
from multistep_bench.runs.spec import Cell, RunSpec
from multistep_bench.training.group import Group, Job, Message
from multistep_bench.training.launch import launch
from multistep_bench.training.plan import plan
from multistep_bench.training.relay import NullObserver, Relay
from multistep_bench.training.share import Share
from multistep_bench.training.workers import train_in_processes

WORKERS = 2
PLANNED, EMPTY = 1_000, 200  # simulated cells, with and without length
REAL_BUDGET = 51_200  # samples of a real cell


@dataclass(frozen=True)
class PoolRow:
    """One comparison, the start of processes left out: from the first evaluation to the last cell's end.

    ratio: of `seconds` to `reference_seconds`; of the row on two workers the other way round, as the speed-up it is.
    """

    what: str
    workers: int
    cells: int
    seconds: float
    reference_seconds: float
    ratio: float
    repeats: int = 1


class Times(NullObserver):
    """When the first evaluation came, and when the last cell ended."""

    def __init__(self) -> None:
        self.first = self.last = 0.0

    def evaluated(self, cell: Cell, evaluation: Evaluation, items: int) -> None:
        """A cell was evaluated."""
        self.first = self.first or time.perf_counter()

    def ended(self, cell: Cell, outcome: Outcome) -> None:
        """A cell ended."""
        self.last = time.perf_counter()

    @property
    def seconds(self) -> float:
        return self.last - self.first


def simulated(lengths: Mapping[Cell, float], job: Job, group: Group) -> Iterator[Message]:
    """What `group.train` yields of cells that take `lengths` seconds, without training or writing anything."""
    for cell in group:
        yield Message(cell, Evaluation(correct=0, loss=0.0, samples=0, train_loss=None, seconds=0.0), 1)
        time.sleep(lengths[cell])
        done = Outcome(status="completed", samples=job.spec.protocol.budget, seconds=lengths[cell])
        yield Message(cell, done, 1)


def measure_pool(seconds: float, device: torch.device) -> Measured:
    """Two processes on a CPU, whatever the device: against the lower bound of a plan, one process, and Ray's.

    seconds: a tenth of the length of the simulated plan; real cells are four, or two where it is below one.
    """
    cells = 4 if seconds >= 1 else 2
    changes = {"protocol.budget": REAL_BUDGET, "protocol.seeds": cells, "protocol.learning_rates": [1e-3]}
    spec = plan(DEFAULT_TASK, "vit", "quick", changes)
    total = max(10 * seconds, 0.5)
    bound, planned = _planned(total)
    one, two = _real(spec, workers=1), _real(spec, workers=WORKERS)
    quick = one / cells * quick_spec().protocol.budget / REAL_BUDGET
    empty = _simulated(dict.fromkeys((Cell(0, index) for index in range(EMPTY)), 0.0)) / EMPTY
    rows = [
        PoolRow("plan of known lengths / lower bound", WORKERS, PLANNED, planned, bound, planned / bound),
        PoolRow("pool's share of a group / a quick cell", WORKERS, EMPTY, empty, quick, empty / quick),
        PoolRow("one worker / two", WORKERS, cells, two, one, one / two),
    ]
    if find_spec("ray") is not None:
        ray = _real(spec, workers=WORKERS, launcher="ray")
        rows.append(PoolRow("ray / local", WORKERS, cells, ray, two, ray / two))
    settings: dict[str, Any] = {"simulated_seconds": total, "real_budget": REAL_BUDGET}
    if len(rows) == 3:
        settings["ray"] = "not installed"
    return Measured("the lower bound, a quick cell, one worker, the local pool", settings, tuple(rows))


def _planned(total: float) -> tuple[float, float]:
    """The lower bound, the larger of total/workers and the longest cell, and the time of a plan, longest first."""
    drawn = np.sort(np.random.default_rng(0).lognormal(0.0, 1.0, PLANNED))[::-1]
    lengths = (drawn / drawn.sum() * total).tolist()
    return max(total / WORKERS, lengths[0]), _simulated({Cell(0, index): each for index, each in enumerate(lengths)})


def _simulated(lengths: Mapping[Cell, float]) -> float:
    times = Times()
    job = Job(quick_spec(), Path("."), "cpu", None, checkpoint_seconds=30.0, versions={})
    with Relay(times) as relay:
        shares = [Share(job, (cell,), relay, lambda: None) for cell in lengths]
        train_in_processes(shares, WORKERS, work=partial(simulated, lengths))
    return times.seconds


def _real(spec: RunSpec, **place: Any) -> float:
    times = Times()
    with tempfile.TemporaryDirectory() as folder:
        launch(spec, Path(folder) / "run", observer=times, device="cpu", **place)
    return times.seconds
