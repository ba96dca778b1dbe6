"""Weights kept at moments of training: which they are, that they are those evaluated, and what is said without them."""

import shutil
from pathlib import Path

import pytest
import records
import torch
from test_launch import SMALL, TASK, Notes, curves

from multistep_bench import load_model
from multistep_bench.diagnostics.readout import cells_of
from multistep_bench.errors import BenchError, RunError
from multistep_bench.models.build import logits
from multistep_bench.runs.events import Evaluation
from multistep_bench.runs.spec import Cell, RunSpec
from multistep_bench.runs.store import Run, read_run
from multistep_bench.training.data import draw_evaluation
from multistep_bench.training.kept import event_samples, kept_files, kept_on_plateau, kept_path, samples_at
from multistep_bench.training.launch import launch
from multistep_bench.training.losses import measured
from multistep_bench.training.plan import plan, task_of

LINEAR = "user_models:linear"
CELL = Cell(0, 0)
JUMPS = {  # a linear model passes 0.14 early on; the levels are no part of what trains
    "protocol.budget": 6400,
    "protocol.batch_size": 16,
    "protocol.learning_rates": [1e-3],
    "protocol.seeds": 2,
    "model.dropout": 0.1,
}


def low_threshold(spec: RunSpec, fraction: float = 0.2) -> RunSpec:
    """The same training, whose event is at a fraction of the way from the shortcut, here chance, to the ceiling."""
    levels = spec.task.levels.model_copy(update={"shortcut": spec.task.levels.chance + 1e-6})
    scoring = spec.task.scoring.model_copy(update={"threshold_fraction": fraction})
    return spec.model_copy(update={"task": spec.task.model_copy(update={"levels": levels, "scoring": scoring})})


@pytest.fixture(scope="module")
def spec() -> RunSpec:
    return low_threshold(plan(TASK, LINEAR, "smoke", JUMPS))


@pytest.fixture(scope="module")
def kept(spec: RunSpec, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return launch(spec, tmp_path_factory.mktemp("kept"), workers=1, checkpoint_seconds=0, keep_checkpoints=5)


def files(run: Run) -> dict[str, bytes]:
    return {
        f"{cell.name}/{samples}": path.read_bytes()
        for cell in run.spec.cells()
        for samples, path in kept_files(run.path, cell).items()
    }


def test_five_moments_over_the_budget_and_two_around_the_event_are_kept(kept: Run) -> None:
    for cell in kept.spec.cells():
        event = event_samples(kept, cell)
        assert event is not None
        assert event[1] - event[0] == 64
        assert set(kept_files(kept.path, cell)) == {0, 1600, 3200, 4800, 6400, *event}
        assert samples_at(kept, cell, "before") == event[0]
        assert samples_at(kept, cell, "after") == event[1]
        assert samples_at(kept, cell, "final") == samples_at(kept, cell, "6400") == 6400


def test_a_loaded_model_has_the_accuracy_of_the_curve_exactly(kept: Run) -> None:
    task = task_of(kept.spec)
    for record in kept.records:
        items = draw_evaluation(kept.spec, record.cell, task, torch.device("cpu"))
        for samples in kept_files(kept.path, record.cell):
            model = load_model(kept, seed=record.cell.seed_index, at=samples)
            same = kept.model(record.cell, at=samples)
            assert all(map(torch.equal, model.state_dict().values(), same.state_dict().values()))
            correct, _ = measured(task, items, (logits(model, batch) for batch in items.batches))
            assert correct == record.curve.correct[samples // 64]


def test_curves_are_the_same_with_and_without_kept_weights(kept: Run, tmp_path: Path) -> None:
    plain = launch(kept.spec, tmp_path / "plain", workers=1)
    assert curves(plain) == curves(kept)
    assert plain.spec.identity() == kept.spec.identity()
    assert not files(plain)
    with pytest.raises(RunError, match=r"keeps no weights of rate0-seed1 at 6400 samples .*--keep-checkpoints"):
        load_model(plain, seed=1)


class Stops(Notes):
    """Presses Ctrl-C at one evaluation of each cell in turn, whatever stands there."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at

    def evaluated(self, cell: Cell, evaluation: Evaluation, items: int) -> None:
        super().evaluated(cell, evaluation, items)
        if len(self.evaluations[cell]) == self.at:
            raise KeyboardInterrupt


def test_an_interrupted_run_keeps_the_same_weights(kept: Run, tmp_path: Path) -> None:
    event = event_samples(kept, CELL)
    assert event is not None
    index = event[1] // 64
    for at in (index, index + 1, index + 2, 60):  # evaluations so far: before the event, at it, after it
        folder = tmp_path / str(at)
        with pytest.raises(KeyboardInterrupt):
            launch(kept.spec, folder, workers=1, checkpoint_seconds=0, keep_checkpoints=5, observer=Stops(at))
        assert files(launch(kept.spec, folder, workers=1, checkpoint_seconds=0, keep_checkpoints=5)) == files(kept)


def test_stacked_cells_keep_what_single_ones_do(tmp_path: Path) -> None:
    spec = low_threshold(plan(TASK, "vit", "smoke", {**SMALL, "protocol.seeds": 1}))
    alone = launch(spec, tmp_path / "alone", workers=1, keep_checkpoints=3)
    stacked = launch(spec, tmp_path / "stacked", stack=2, keep_checkpoints=3)
    for cell in spec.cells():
        assert {0, 800, 1600} <= set(kept_files(stacked.path, cell))
        rate = spec.learning_rate(cell)
        one, other = (load_model(run, rate=rate, seed=cell.seed_index, at=0) for run in (alone, stacked))
        assert all(
            torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True)
        )
        trained = load_model(stacked, rate=rate, seed=cell.seed_index)
        task = task_of(spec)
        items = draw_evaluation(spec, cell, task, torch.device("cpu"))
        correct, _ = measured(task, items, (logits(trained, batch) for batch in items.batches))
        record = next(record for record in stacked.records if record.cell == cell)
        assert abs(correct - record.curve.correct[-1]) <= 1  # another order of sums in the stack


def test_weights_around_a_passage_that_is_not_confirmed_are_removed(kept: Run, tmp_path: Path) -> None:
    """The threshold that the last evaluation alone reaches: below and at it, and no event."""
    correct = kept.records[0].curve.correct / kept.records[0].curve.set.items
    chance = kept.spec.task.levels.chance
    best = (correct.max() - chance) / (1 - chance)
    spec = low_threshold(kept.spec, float(best))
    run = launch(spec, tmp_path / "run", workers=1, keep_checkpoints=1)
    assert event_samples(run, CELL) is None
    assert set(kept_files(run.path, CELL)) == {6400}
    with pytest.raises(RunError, match="has no Eureka-moment, so nothing is before it; ask for 'final'"):
        samples_at(run, CELL, "before")


def test_what_cannot_be_loaded_is_named(kept: Run, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="moment 'befor' is none of before, after, final, plateau or a number"):
        samples_at(kept, CELL, "befor")
    with pytest.raises(RunError, match=r"no cell of rate 0\.001 and seed None; its rates are 0\.001, its seeds 0 to 1"):
        load_model(kept)
    with pytest.raises(RunError, match=r"at 1 samples \(it has those at 0, .*6400\)"):
        load_model(kept, seed=0, at=1)
    copy = Run(Path(shutil.copytree(kept.path, tmp_path / "copy")), kept.spec, kept.records)
    path = kept_files(copy.path, CELL)[6400]
    path.write_bytes(path.read_bytes()[:-1] + b"\x00\x01")
    with pytest.raises(RunError, match="is damaged"):
        load_model(copy, seed=0)


def touched(run: Run, cell: Cell, *samples: int) -> None:
    """Files of weights, empty: what is kept is told by their names."""
    for each in samples:
        path = kept_path(run.path, cell, each)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_on_the_plateau_are_the_weights_nearest_its_middle(tmp_path: Path) -> None:
    """The first cell is on the shortcut from 1,000 samples on and jumps between 59,000 and 60,000: middle 30,000."""
    curves = {(0, 0): records.jump(0.6), (0, 1): records.flat(), (1, 0): [100] * 101}
    run = read_run(records.make_run(tmp_path / "run", curves))
    jumping, stuck, lost = Cell(0, 0), Cell(0, 1), Cell(1, 0)
    touched(run, jumping, 0, 25_000, 50_000, 59_000, 60_000, 75_000, 100_000)
    touched(run, stuck, 0, 50_000, 100_000)
    touched(run, lost, 0, 50_000)
    assert kept_on_plateau(run, jumping) == [25_000, 50_000, 59_000]
    assert samples_at(run, jumping, "plateau") == 25_000
    assert samples_at(run, stuck, "plateau") == 50_000  # without an event the plateau lasts to the budget
    assert kept_on_plateau(run, lost) == []
    with pytest.raises(RunError, match=r"keeps no weights of rate1-seed0 from its time on the shortcut; train it in"):
        samples_at(run, lost, "plateau")
    assert cells_of(run, "all", "plateau") == [jumping, stuck]
    assert cells_of(run, "all", "final") == [jumping, stuck, lost]
    assert cells_of(run, "all", "before") == [jumping]
    with pytest.raises(BenchError, match=r"at learning rate 0.002 keeps weights from its time on the shortcut"):
        cells_of(run, 2e-3, "plateau")
    with pytest.raises(BenchError, match=r"--lr any: the run has the learning rates 0.001, 0.002; or give all"):
        cells_of(run, "any", "final")


@pytest.mark.parametrize("count", [-1, 102])
def test_more_moments_than_evaluations_are_refused(count: int, spec: RunSpec, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=f"--keep-checkpoints {count}: the protocol has 101 evaluations; keep 0 to 101"):
        launch(spec, tmp_path / "run", workers=1, keep_checkpoints=count)
