"""What is trained is what the model is: its inputs are its own, its state is whole, its faults are found at once."""

import threading
import warnings
from pathlib import Path

import pytest
import torch
from test_launch import SMALL, TASK, Notes, curves

from multistep_bench.errors import BenchError, ModelError
from multistep_bench.runs.events import Evaluation
from multistep_bench.runs.spec import Cell
from multistep_bench.runs.store import Run
from multistep_bench.training.launch import launch, launch_all, run
from multistep_bench.training.plan import plan
from multistep_bench.training.randomness import own_randomness, random_state, seed_everything, set_random_state

ONE_CELL = {**SMALL, "protocol.learning_rates": [1e-3], "protocol.seeds": 1}


def trained(model: str, folder: Path, task: str = TASK) -> dict:
    return curves(run(task, f"unusual_models:{model}", "smoke", folder, changes=ONE_CELL, workers=1))


def test_a_model_may_change_what_it_is_given(tmp_path: Path) -> None:
    assert trained("NormalizesInPlace", tmp_path / "in") == trained("Normalizes", tmp_path / "out")


def test_a_model_may_take_an_episode_apart(tmp_path: Path) -> None:
    episodes = "icl_gaussian-v1"
    assert trained("KeyPopper", tmp_path / "in", episodes) == trained("KeyKeeper", tmp_path / "out", episodes)


@pytest.mark.parametrize("model", ["CachesATable", "Lazy"])
def test_what_the_first_evaluation_makes_serves_in_training(model: str, tmp_path: Path) -> None:
    (curve,) = trained(model, tmp_path / "run").values()
    assert len(curve) == 101
    assert curve[-1][2] < curve[0][2]


class StopsAtForty(Notes):
    def evaluated(self, cell: Cell, evaluation: Evaluation, items: int) -> None:
        super().evaluated(cell, evaluation, items)
        if len(self.evaluations[cell]) == 40:
            raise KeyboardInterrupt


@pytest.mark.parametrize("model", ["LateBuffer", "DrawsWithNumpy", "Lazy", "CachesATable"])
def test_state_outside_state_dict_is_resumed_too(model: str, tmp_path: Path) -> None:
    spec = plan(TASK, f"unusual_models:{model}", "smoke", ONE_CELL)
    with pytest.raises(KeyboardInterrupt):
        launch(spec, tmp_path / "run", workers=1, checkpoint_seconds=0, observer=StopsAtForty())
    resumed = launch(spec, tmp_path / "run", workers=1)
    assert resumed.records[0].attempts == 2
    assert curves(resumed) == curves(launch(spec, tmp_path / "whole", workers=1))


def test_models_that_draw_with_numpy_are_the_same_every_time_and_differ_between_seeds(tmp_path: Path) -> None:
    spec = plan(TASK, "unusual_models:DrawsWithNumpy", "smoke", {**ONE_CELL, "protocol.seeds": 2})
    first, second = (curves(launch(spec, tmp_path / name, workers=1)) for name in ("first", "second"))
    assert first == second
    assert first[Cell(0, 0)][0] != first[Cell(0, 1)][0]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("CountsInAnAttribute", "CountsInAnAttribute trains on differently once it is restored"),
        ("OwnGenerator", "OwnGenerator trains on differently once it is restored"),
        ("CountsInItsModule", "CountsInItsModule trains on differently once it is restored"),
        ("TupleInTraining", r"answers with a tuple in training mode; return logits, a tensor of shape \(16, 8\)"),
        ("TwiceInTraining", r"of shape \(32, 8\) in training mode; logits of floating point and shape \(16, 8\)"),
        ("DetachedInTraining", "answers in training mode without a gradient"),
        ("FailsInTraining", "cannot take a batch of 16 samples .* in training mode: ValueError: only eight at a time"),
        ("Complex", "cannot be trained by one step of the harness: .*complex64"),
        ("Sparse", "cannot be trained by one step of the harness: .*sparse gradients"),
        ("Frozen", "has no parameter to train"),
        ("LateParameter", r"makes parameters while it trains \(scale\)"),
    ],
)
def test_what_would_fail_in_every_cell_is_refused_once(model: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        plan(TASK, f"unusual_models:{model}", "smoke", SMALL)


def test_seeds_that_are_none_are_said() -> None:
    with pytest.warns(UserWarning, match="every seed of 'unusual_models:SeedsItself' starts from the same weights"):
        plan(TASK, "unusual_models:SeedsItself", "smoke", SMALL)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plan(TASK, "unusual_models:Plain", "smoke", SMALL)


def test_planning_leaves_the_callers_random_states_alone() -> None:
    torch.manual_seed(3)
    before = random_state(torch.device("cpu"))
    plan(TASK, "unusual_models:DrawsWithNumpy", "smoke", SMALL)
    after = random_state(torch.device("cpu"))
    assert torch.equal(before["torch"], after["torch"])
    assert torch.equal(before["numpy"][0], after["numpy"][0])
    assert torch.equal(before["python"][1], after["python"][1])


def test_random_states_go_into_a_checkpoint_and_come_back(tmp_path: Path) -> None:
    import random

    import numpy as np

    def draws() -> tuple:
        return torch.rand(3).tolist(), np.random.randn(3).tolist(), random.random(), random.gauss(0, 1)

    cpu = torch.device("cpu")
    with own_randomness(cpu):
        seed_everything(2**62 + 5)
        np.random.randn()  # of a pair of normals the second is kept in the state
        random.gauss(0, 1)
        torch.save(random_state(cpu), tmp_path / "state.pt")
        first = draws()
        set_random_state(torch.load(tmp_path / "state.pt", weights_only=True), cpu)
        assert draws() == first


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Notes, Run]]:
    """Runs of models that end their process or break at one of two rates, trained by two workers as one pool."""
    folder = tmp_path_factory.mktemp("ended")
    changes = {**SMALL, "protocol.learning_rates": [1e-4, 0.3], "protocol.seeds": 1}
    notes = {name: Notes() for name in ("Exits", "ExitsAtOnce", "FailsWithBytes")}
    runs = [(plan(TASK, f"unusual_models:{name}", "smoke", changes), folder / name) for name in notes]
    done = launch_all(runs, observers=list(notes.values()), workers=2)
    return {name: (notes[name], run) for name, run in zip(notes, done, strict=True)}


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ("Exits", "SystemExit: that is enough"),
        ("ExitsAtOnce", "its process ended with exit code 0 in the middle of the cell"),
        ("FailsWithBytes", r"ValueError: \udcff\udcfe\x1b[31mred\x07".replace("\\u", "\\\\u")),
    ],
)
def test_whatever_ends_a_cell_is_a_failed_cell_with_its_reason(
    model: str, reason: str, ended: dict[str, tuple[Notes, Run]]
) -> None:
    notes, done = ended[model]
    outcomes = notes.outcomes
    assert outcomes[Cell(0, 0)].status == "completed"
    assert outcomes[Cell(1, 0)].status == "failed"
    said = outcomes[Cell(1, 0)].reason or ""
    assert said.isprintable()
    if model != "FailsWithBytes":
        assert reason in said
    else:
        assert "red" in said
    assert [record.reason for record in done.failed] == [said]


def test_a_second_run_in_another_thread_is_refused(tmp_path: Path) -> None:
    spec = plan(TASK, "unusual_models:Plain", "smoke", SMALL)
    refused: list[str] = []

    class StartsAnother(Notes):
        def evaluated(self, cell: Cell, evaluation: Evaluation, items: int) -> None:
            super().evaluated(cell, evaluation, items)
            if not refused:
                thread = threading.Thread(target=other)
                thread.start()
                thread.join()

    def other() -> None:
        try:
            launch(spec, tmp_path / "other", workers=1)
        except BenchError as error:
            refused.append(str(error))

    done = launch(spec, tmp_path / "run", workers=1, observer=StartsAnother())
    assert len(refused) == 1
    assert "another run trains in this process" in refused[0]
    assert curves(done) == curves(launch(spec, tmp_path / "alone", workers=1))


def test_a_cell_that_cannot_be_built_keeps_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = plan(TASK, "unusual_models:Plain", "smoke", ONE_CELL)

    def broken(*arguments: object) -> None:
        raise RuntimeError("no room for these weights")

    monkeypatch.setattr("multistep_bench.training.group.build", broken)
    done = launch(spec, tmp_path / "run", workers=1)
    assert [(record.status, record.reason) for record in done.records] == [
        ("failed", "RuntimeError: no room for these weights")
    ]
    monkeypatch.undo()
    assert launch(spec, tmp_path / "run", workers=1).records[0].status == "completed"
