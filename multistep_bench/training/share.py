"""A share of a run: a group of cells that some process trains, whoever starts that process."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from multistep_bench.runs.spec import Cell
from multistep_bench.training.group import Group, Job, Message, record_failure
from multistep_bench.training.relay import Relay

DEATHS = 3  # of processes that train one group, before its cells are recorded as failed; two for one reason are enough


@dataclass(frozen=True)
class Share:
    """A group of cells of a run, whom to tell what happens to them, and what to do once they have ended."""

    job: Job
    group: Group
    relay: Relay
    ended: Callable[[], None]
    deaths: tuple[str, ...] = ()  # why processes died that trained it

    def again(self, left: Collection[Cell], reason: str) -> "Share":
        """The same for those cells that have not ended, after a process died."""
        attempts = self.job.attempts | {cell: self.job.attempts.get(cell, 0) + 1 for cell in left}
        finished = self.job.finished | (set(self.group) - set(left))
        return replace(self, job=replace(self.job, attempts=attempts, finished=finished), deaths=(*self.deaths, reason))

    def retry(self, left: Collection[Cell], reason: str) -> "Share | None":
        """What to train again after a process died; None where one died for the same reason before, or too many did."""
        if reason in self.deaths or len(self.deaths) + 1 >= DEATHS:
            return None
        return self.again(left, reason)

    def fail(self, left: Collection[Cell], reason: str) -> None:
        """Records the cells that have not ended as failed, and ends with them."""
        for cell in sorted(left):
            self.relay.tell(Message(cell, record_failure(self.job, cell, reason), 0))
        self.ended()
