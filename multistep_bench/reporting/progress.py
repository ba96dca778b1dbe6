"""The progress of a run, kept from the launcher's messages; `live` draws it."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from multistep_bench.runs.events import Evaluation, EvaluationSet, Outcome
from multistep_bench.runs.record import Curve, Record
from multistep_bench.runs.spec import Cell, RunSpec
from multistep_bench.scoring.eureka import CurveScore, curve_values, eureka_time, score_curve


class CellProgress:
    """The curve of one cell so far.

    eureka: set as soon as enough evaluations confirm the event. silent: seconds without a word, if that is long.
    """

    def __init__(self, spec: RunSpec) -> None:
        self._spec = spec
        self.evaluations: list[Evaluation] = []
        self.items = 1
        self.eureka: float | None = None
        self.outcome: Outcome | None = None
        self.silent: float | None = None

    def add(self, evaluation: Evaluation, items: int) -> None:
        self.silent = None
        if evaluation.samples == 0:  # the cell starts, perhaps anew
            self.evaluations, self.eureka, self.outcome = [], None, None
        self.evaluations.append(evaluation)
        self.items = items
        if self.eureka is None:
            task = self._spec.task
            fraction, confirmations = task.scoring.threshold_fraction, task.scoring.confirmations
            self.eureka = eureka_time(self.samples, self.accuracy, task.levels, fraction, confirmations)

    @property
    def samples(self) -> np.ndarray:
        """[evaluations] training samples seen."""
        return np.array([evaluation.samples for evaluation in self.evaluations], dtype=np.float64)

    @property
    def accuracy(self) -> np.ndarray:
        """[evaluations], NaN where one is missing; losses on a task that is scored by them."""
        curve = Curve.of(EvaluationSet(items=self.items, sha256=""), self.evaluations)
        return curve_values(curve, self._spec.task.levels.measure)

    @property
    def fraction(self) -> float:
        """Share of the budget that is done, in [0, 1]; 1 for an ended cell."""
        if self.outcome is not None:
            return 1.0
        return self.evaluations[-1].samples / self._spec.protocol.budget if self.evaluations else 0.0

    def score(self) -> CurveScore:
        """The score of an ended cell."""
        assert self.outcome is not None
        task = self._spec.task
        return score_curve(
            self.samples,
            self.accuracy,
            levels=task.levels,
            scoring=task.scoring,
            budget=self._spec.protocol.budget,
            status=self.outcome.status,
        )


class RunProgress:
    """Every cell of a run, and how fast the run goes.

    clock: seconds that never run backwards; only differences count. fraction_before: done when it began.
    """

    def __init__(
        self,
        spec: RunSpec,
        folder: Path,
        finished: Mapping[Cell, Record],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.spec = spec
        self.folder = folder
        self.cells = {cell: CellProgress(spec) for cell in spec.cells()}
        for cell, record in finished.items():
            for evaluation in record.evaluations(spec.protocol.interval):
                self.cells[cell].add(evaluation, record.curve.set.items)
            self.cells[cell].outcome = record.outcome(spec.protocol.interval)
        self.kept = self.ended
        self._clock = clock
        self._began = clock()
        self._trained_since: float | None = (
            None  # from the first evaluation of this call on, so without the time to start up
        )
        self._samples = 0
        self.fraction_before = self.fraction

    def evaluated(self, cell: Cell, evaluation: Evaluation, items: int) -> None:
        progress = self.cells[cell]
        if self._trained_since is None:
            self._trained_since = self._clock()
        if evaluation.samples and progress.evaluations:
            self._samples += evaluation.samples - progress.evaluations[-1].samples
        progress.add(evaluation, items)

    def end(self, cell: Cell, outcome: Outcome) -> None:
        self.cells[cell].outcome = outcome
        self.cells[cell].silent = None

    @property
    def ended(self) -> int:
        return sum(cell.outcome is not None for cell in self.cells.values())

    @property
    def fraction(self) -> float:
        """Share of the run that is done, in [0, 1]."""
        return sum(cell.fraction for cell in self.cells.values()) / len(self.cells)

    @property
    def seconds(self) -> float:
        """Seconds since the run was started or resumed."""
        return self._clock() - self._began

    @property
    def _seconds_trained(self) -> float:
        return 0.0 if self._trained_since is None else self._clock() - self._trained_since

    @property
    def samples_per_second(self) -> float:
        """Training samples drawn by this call over the time since its first evaluation."""
        return self._samples / self._seconds_trained if self._seconds_trained > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Expected time to the end at the pace so far; None before the first step."""
        done = self.fraction - self.fraction_before
        return self._seconds_trained * (1 - self.fraction) / done if done > 0 else None
