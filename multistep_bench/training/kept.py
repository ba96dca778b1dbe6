"""Kept weights: a model as it was at chosen moments of its training, for looking into it afterwards.

checkpoints/kept/CELL/SAMPLES.pt in the run folder, weights and buffers alone, in the form of a checkpoint. They are no
part of a run's identity, of its records or of a leaderboard entry, and a curve is the same with and without them.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from multistep_bench.errors import RunError
from multistep_bench.models.build import build, builder, resolve_model
from multistep_bench.models.code import code_sha256
from multistep_bench.models.local import Model
from multistep_bench.runs.events import Evaluation, Outcome
from multistep_bench.runs.folder import CHECKPOINTS_FOLDER
from multistep_bench.runs.spec import Cell, RunSpec
from multistep_bench.runs.store import Run, read_run
from multistep_bench.scoring.eureka import curve_values, event_index, reached
from multistep_bench.scoring.phases import shortcut_reached
from multistep_bench.training.checkpoint import load_checkpoint, save_checkpoint
from multistep_bench.training.plan import task_of
from multistep_bench.training.progress import progress_setter
from multistep_bench.training.randomness import own_randomness
from multistep_bench.training.trainer import Trainer
from multistep_bench.training.weights import set_weights

KEPT_FOLDER = "kept"
NAMED = ("before", "after", "final")  # moments of a curve
PLATEAU = "plateau"  # of the weights that are kept, those nearest the middle of the time on the shortcut


class WeightsKeeper:
    """Writes the weights of cells at `count` evaluations evenly spaced from the first to the last, or at the last alone
    for 1, and at the two evaluations around the Eureka-moment; with `count` 0 nothing.

    Whether an evaluation at the threshold is the Eureka-moment is known only once it is confirmed, so each pair of
    evaluations below and at the threshold is written, and those of no event are removed when the cell ends.
    """

    def __init__(self, spec: RunSpec, folder: Path, count: int) -> None:
        self.spec = spec
        self.folder = folder
        last = spec.protocol.evaluations
        self.count = count
        self.spaced = set(np.linspace(0, last, count).round().astype(int).tolist()) if count > 1 else {last}
        self._below: dict[Cell, dict[str, Any]] = {}  # weights at the last evaluation, where that is below

    def evaluated(self, cell: Cell, trainer: Trainer) -> None:
        """To be called after each evaluation, while the trainer has the weights that were evaluated.

        A resumed cell begins with the evaluation that its checkpoint was taken at.
        """
        if not self.count:
            return
        evaluations = trainer.evaluations[cell]
        index, at_threshold = len(evaluations) - 1, self._reached(trainer, cell, evaluations[-1])
        settled = self._event(trainer, cell, evaluations[:-1]) is not None
        below = self._below.pop(cell, None)
        if settled and index not in self.spaced:
            return
        weights = trainer.weights(cell)
        if index in self.spaced:
            self._write(cell, index, weights)
        if settled:
            return
        if not at_threshold:
            self._below[cell] = weights
        elif below is not None:
            self._write(cell, index - 1, below)
            self._write(cell, index, weights)

    def ended(self, cell: Cell, trainer: Trainer, outcome: Outcome) -> None:
        """Removes the weights around what turned out to be no Eureka-moment."""
        self._below.pop(cell, None)
        if not self.count:
            return
        wanted = set(self.spaced)
        event = self._event(trainer, cell, trainer.evaluations[cell])
        if outcome.status == "completed" and event is not None:
            wanted |= {event - 1, event}
        samples = {index * self.spec.protocol.interval for index in wanted}
        for kept, path in kept_files(self.folder, cell).items():
            if kept not in samples:
                path.unlink()

    def _write(self, cell: Cell, index: int, weights: dict[str, Any]) -> None:
        samples = index * self.spec.protocol.interval
        path = kept_path(self.folder, cell, samples)
        path.parent.mkdir(parents=True, exist_ok=True)
        save_checkpoint(path, self.spec.identity(), [cell], {"samples": samples, **weights})

    def _reached(self, trainer: Trainer, cell: Cell, evaluation: Evaluation) -> bool:
        task = self.spec.task
        return reached(self._values(trainer, cell, [evaluation])[0], task.levels, task.scoring.threshold_fraction)

    def _event(self, trainer: Trainer, cell: Cell, evaluations: list[Evaluation]) -> int | None:
        scoring = self.spec.task.scoring
        values = self._values(trainer, cell, evaluations)
        return event_index(values, self.spec.task.levels, scoring.threshold_fraction, scoring.confirmations)

    def _values(self, trainer: Trainer, cell: Cell, evaluations: list[Evaluation]) -> np.ndarray:
        items = trainer.items[trainer.cells.index(cell)].description.items
        if self.spec.task.levels.measure == "loss":
            found = [each.loss for each in evaluations]
        else:
            found = [None if each.correct is None else each.correct / items for each in evaluations]
        return np.array([np.nan if each is None else each for each in found], dtype=np.float64)


def check_count(count: int, spec: RunSpec) -> None:
    """Raises `RunError` for more moments than there are evaluations, or fewer than none."""
    most = spec.protocol.evaluations + 1
    if not 0 <= count <= most:
        raise RunError(f"--keep-checkpoints {count}: the protocol has {most} evaluations; keep 0 to {most} of them")


def kept_path(folder: Path, cell: Cell, samples: int) -> Path:
    return folder / CHECKPOINTS_FOLDER / KEPT_FOLDER / cell.name / f"{samples:012d}.pt"


def kept_files(folder: Path, cell: Cell) -> dict[int, Path]:
    """The weights kept of a cell, by training samples."""
    paths = sorted((folder / CHECKPOINTS_FOLDER / KEPT_FOLDER / cell.name).glob("*.pt"))
    return {int(path.stem): path for path in paths if path.stem.isdigit()}


def event_samples(run: Run, cell: Cell) -> tuple[int, int] | None:
    """The samples of the evaluations just before and at a cell's Eureka-moment; None without one by the budget."""
    record = next((record for record in run.records if record.cell == cell), None)
    if record is None or record.status != "completed":
        return None
    levels, scoring = run.spec.task.levels, run.spec.task.scoring
    values = curve_values(record.curve, levels.measure)
    index = event_index(values, levels, scoring.threshold_fraction, scoring.confirmations)
    interval = run.spec.protocol.interval
    return None if index is None else ((index - 1) * interval, index * interval)


def samples_at(run: Run, cell: Cell, at: str | int) -> int:
    """The training samples of a moment: "before" or "after" the Eureka-moment, "final", "plateau", or the samples.

    On the plateau are the kept weights nearest the middle of the time between reaching the shortcut and the
    Eureka-moment, or the budget without one. Raises `RunError` for another name, for a cell without such a moment, and
    where no weights were kept.
    """
    if isinstance(at, str) and at.isdigit():
        at = int(at)
    event = event_samples(run, cell)
    if isinstance(at, int):
        samples = at
    elif at == "final":
        samples = run.spec.protocol.budget
    elif at == PLATEAU:
        return _on_plateau(run, cell)
    elif at not in NAMED:
        raise RunError(f"moment '{at}' is none of {', '.join(NAMED)}, {PLATEAU} or a number of training samples")
    elif event is None:
        raise RunError(f"{cell.name} of {run.path} has no Eureka-moment, so nothing is {at} it; ask for 'final'")
    else:
        samples = event[NAMED.index(at)]
    if samples not in (kept := kept_files(run.path, cell)):
        there = f"it has those at {', '.join(map(str, kept))}" if kept else "it has none"
        raise RunError(
            f"{run.path} keeps no weights of {cell.name} at {samples} samples ({there});"
            " train it in a new folder with --keep-checkpoints N, in Python keep_checkpoints=N"
        )
    return samples


def kept_on_plateau(run: Run, cell: Cell) -> list[int]:
    """Samples at which weights were kept while a cell was at the shortcut, those nearest the middle first."""
    record = next((record for record in run.records if record.cell == cell), None)
    begin = None if record is None else shortcut_reached(run, record)
    if record is None or begin is None:
        return []
    event = event_samples(run, cell)
    end = run.spec.protocol.interval * (len(record) - 1) if event is None else event[0]
    there = [samples for samples in kept_files(run.path, cell) if begin <= samples <= end and samples > 0]
    return sorted(there, key=lambda samples: (abs(2 * samples - begin - end), samples))


def _on_plateau(run: Run, cell: Cell) -> int:
    there = kept_on_plateau(run, cell)
    if not there:
        raise RunError(
            f"{run.path} keeps no weights of {cell.name} from its time on the shortcut; train it in a new folder with"
            " more of --keep-checkpoints N, in Python keep_checkpoints=N"
        )
    return there[0]


def load_model(
    run: Run | str | Path,
    *,
    model: Model | None = None,
    rate: float | None = None,
    seed: int | None = None,
    at: str | int = "final",
    data_root: str | Path | None = None,
) -> nn.Module:
    """The model of one cell as it was at a moment of its training, in evaluation mode, on the CPU.

    run:   a run, or its folder, trained with `keep_checkpoints`. at: as in `samples_at`.
    model: the class or function that was trained, if it is a script's or a notebook's and not known to this process.
    rate, seed: a learning rate of its grid and a seed's index; they may be left out where the run has one.
    Raises `RunError` for a cell that the run has not, or whose weights were not kept, and for another model or one of
    other code.
    """
    run = run if isinstance(run, Run) else read_run(run)
    if model is not None and resolve_model(model).model != run.spec.model.builder:
        raise _another_model(run)
    cell = find_cell(run.spec, rate, seed)
    loaded = model_at(run, cell, samples_at(run, cell, at), data_root)
    if model is not None and code_sha256(loaded, builder(run.spec.model.builder)) != run.spec.model.code_sha256:
        raise _another_model(run)
    return loaded


def _another_model(run: Run) -> RunError:
    return RunError(
        f"the model given is not the {run.spec.model.name} that {run.path} has trained, or its code has changed since;"
        " define it as it was, or train it in a new folder"
    )


def model_at(run: Run, cell: Cell, samples: int, data_root: str | Path | None = None) -> nn.Module:
    """As `load_model`, for a cell and training samples of which weights were kept."""
    state = load_checkpoint(kept_path(run.path, cell, samples), run.spec.identity())
    task = task_of(run.spec, data_root)
    with own_randomness(torch.device("cpu")):
        model = build(run.spec.model.card(), task.info)
    if samples:
        progress_setter(model)(samples / run.spec.protocol.budget)
    set_weights(model, state)
    return model.eval()


def find_cell(spec: RunSpec, rate: float | None, seed: int | None) -> Cell:
    """The cell of a learning rate and a seed's index; raises `RunError` where there is none, or several."""
    rates, seeds = spec.protocol.learning_rates, list(spec.protocol.seed_indices)
    if rate is None and len(rates) == 1:
        rate = rates[0]
    if seed is None and len(seeds) == 1:
        seed = seeds[0]
    if rate not in rates or seed not in seeds:
        raise RunError(
            f"the run has no cell of rate {rate} and seed {seed}; its rates are {', '.join(map(str, rates))},"
            f" its seeds {seeds[0]} to {seeds[-1]}"
        )
    return Cell(rates.index(rate), seed)
