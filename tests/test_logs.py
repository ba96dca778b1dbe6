"""`run --log`: TensorBoard's event files, and observers of the user's own, beside any run."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import in_process
from test_launch import LINEAR, TASK

import multistep_bench as mb
from multistep_bench.reporting.logs import Logs
from multistep_bench.reporting.tensorboard import TensorBoardLog
from multistep_bench.runs.events import Evaluation
from multistep_bench.runs.spec import Cell
from multistep_bench.training.launch import launch
from multistep_bench.training.plan import plan
from multistep_bench.training.schedules import learning_rate

INSTALLED = importlib.util.find_spec("tensorboard") is not None
needs_tensorboard = pytest.mark.skipif(not INSTALLED, reason="needs the extra tensorboard")
SMALL: dict[str, Any] = {"protocol.budget": 400, "protocol.batch_size": 4}
OBSERVERS = """
import multistep_bench as mb

class Writes(mb.NullObserver):
    def begin(self, spec, folder, finished):
        self.file = folder / "heard.txt"
    def ended(self, cell, outcome):
        with self.file.open("a") as file:
            file.write(f"{cell.name} {outcome.status}\\n")

class Breaks(mb.NullObserver):
    def evaluated(self, cell, evaluation, items):
        raise OSError("the disk is full")

class Mute:
    pass

def needs_more(where):
    return Writes()
"""


@pytest.fixture
def observers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module of observers in the working directory."""
    (tmp_path / "my_observers.py").write_text(OBSERVERS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "my_observers", raising=False)
    return "my_observers"


def _run(capsys: pytest.CaptureFixture[str], out: str, *more: str) -> tuple[int, str, str]:
    asked = [
        "--task",
        TASK,
        "--model",
        LINEAR,
        "--protocol",
        "smoke",
        "--budget",
        "1600",
        "--lr",
        "1e-3",
        "--workers",
        "1",
    ]
    return in_process(capsys, "run", *asked, "--out", out, *more)


def test_an_observer_of_the_users_is_told_of_every_run_of_a_sweep(
    observers: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    variants = ["--variant", "a:", "--variant", "b:protocol.seeds=1"]
    code, _, error = _run(capsys, "root", *variants, "--log", f"{observers}:Writes")
    assert code == 0, error
    heard = sorted(path.read_text() for path in tmp_path.rglob("heard.txt"))
    assert heard == ["rate0-seed0 completed\n", "rate0-seed0 completed\nrate0-seed1 completed\n"]


def test_a_log_that_breaks_is_named_and_costs_the_run_nothing(
    observers: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, error = _run(capsys, "broken", "--log", f"{observers}:Breaks", "--log", f"{observers}:Writes")
    assert code == 2
    assert f"--log {observers}:Breaks ended with OSError in evaluated: the disk is full" in error
    assert "the runs themselves are whole" in error
    assert "curves:" in out  # the score was printed first
    assert not mb.load_run(tmp_path / "broken").missing
    assert len((tmp_path / "broken" / "heard.txt").read_text().splitlines()) == 2  # the other log went on


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("tensorbord", "no log 'tensorbord'. Did you mean 'tensorboard'?"),
        ("my_observers:Mute", "gives a Mute without begin, evaluated, stalled, ended, close; derive it from"),
        ("my_observers:needs_more", "cannot be made: TypeError: needs_more() missing 1 required positional argument"),
        ("my_observers:absent", "cannot be imported: AttributeError"),
    ],
)
@pytest.mark.usefixtures("observers")
def test_what_is_no_log_is_refused_before_anything_is_trained(
    name: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, error = _run(capsys, "refused", "--log", name)
    assert code == 2
    assert sentence in error
    assert not (tmp_path / "refused").exists()


@pytest.mark.skipif(INSTALLED, reason="tensorboard is installed")
def test_without_tensorboard_the_extra_is_named() -> None:
    with pytest.raises(mb.BenchError, match=r"pip install 'multistep-bench\[tensorboard\]'"):
        Logs(["tensorboard"])


def _scalars(folder: Path) -> dict[str, dict[int, float]]:
    from tensorboard.backend.event_processing import event_accumulator  # pyright: ignore[reportMissingImports]

    events = event_accumulator.EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return {tag: {event.step: event.value for event in events.Scalars(tag)} for tag in events.Tags()["scalars"]}


@needs_tensorboard
@pytest.mark.filterwarnings("ignore")
def test_event_files_hold_the_curves_of_each_cell(tmp_path: Path) -> None:
    spec = plan(TASK, LINEAR, "smoke", SMALL | {"protocol.schedule": "linear"})
    run = launch(spec, tmp_path / "run", observer=TensorBoardLog(), workers=1)
    folders = {path.name for path in (tmp_path / "run" / "tensorboard").iterdir()}
    assert len(folders) == len(spec.cells())
    record = run.records[0]
    cell = record.cell
    scalars = _scalars(tmp_path / "run" / "tensorboard" / f"{_rate(spec, cell)}-seed{cell.seed_index}")
    steps = [spec.protocol.interval * place for place in range(len(record))]
    accuracy = record.curve.correct / record.curve.set.items
    assert list(scalars["eval/accuracy"]) == steps
    np.testing.assert_allclose(list(scalars["eval/accuracy"].values()), accuracy, rtol=1e-6)
    np.testing.assert_allclose(list(scalars["eval/loss"].values()), record.curve.loss, rtol=1e-6)
    np.testing.assert_allclose(list(scalars["train/loss"].values()), record.train_loss[1:], rtol=1e-6)
    rates = [learning_rate(spec.protocol, spec.learning_rate(cell), step) for step in steps]
    np.testing.assert_allclose(list(scalars["train/learning_rate"].values()), rates, rtol=1e-6)
    assert rates[-1] < rates[len(rates) // 2]


def _rate(spec: Any, cell: Cell) -> str:
    from multistep_bench.reporting.labels import rate_label

    return rate_label(spec.learning_rate(cell))


@needs_tensorboard
@pytest.mark.filterwarnings("ignore")
def test_cells_trained_without_a_log_are_written_when_one_begins_and_resumed_ones_are_no_double(tmp_path: Path) -> None:
    spec = plan(TASK, LINEAR, "smoke", SMALL)
    run = launch(spec, tmp_path / "run", workers=1)
    log, cell = TensorBoardLog(), spec.cells()[0]
    log.begin(spec, tmp_path / "run", {record.cell: record for record in run.records})
    log.close()
    assert len(list((tmp_path / "run" / "tensorboard").iterdir())) == len(spec.cells())
    place = tmp_path / "run" / "tensorboard" / f"{_rate(spec, cell)}-seed{cell.seed_index}"
    before = _scalars(place)
    again = TensorBoardLog()
    again.begin(spec, tmp_path / "run", {})  # as if the cell had not ended
    again.evaluated(cell, Evaluation(correct=3, loss=0.5, samples=0, train_loss=None, seconds=0.0), 4)
    again.close()
    assert len(before["eval/accuracy"]) > 1
    assert _scalars(place)["eval/accuracy"] == {0: 0.75}


@needs_tensorboard
@pytest.mark.filterwarnings("ignore")
def test_event_files_hold_diagnostics_by_layer_projection_and_region(tmp_path: Path) -> None:
    spec = plan(TASK, "vit", "smoke", SMALL | {"protocol.seeds": 1})
    kinds = "gradients,attention,logits,every=50"
    run = launch(spec, tmp_path / "run", observer=TensorBoardLog(), workers=1, diagnostics=kinds)
    (cell,) = spec.cells()
    arrays = mb.load_diagnostics(run)[cell]
    scalars = _scalars(tmp_path / "run" / "tensorboard" / f"{_rate(spec, cell)}-seed0")
    regions = arrays["regions"].tolist()
    expected = {
        "gradients.l2/1/k": arrays["gradients.l2"][:, 1, 1],
        f"gradients.regions/0/{regions[1]}": arrays["gradients.regions"][:, 0, 1],
        "attention.entropy/2": arrays["attention.entropy"][:, 2].mean(axis=1),
        f"attention.share/1/{regions[0]}": arrays["attention.share"][:, 1, :, 0].mean(axis=1),
        "logits.std/0": arrays["logits.std"][:, 0].mean(axis=1),
        "logits.residual/2": arrays["logits.residual"][:, 2],
    }
    assert arrays["samples"].tolist() == [0, 200, 400]
    for name, values in expected.items():
        assert list(scalars[f"diagnostics/{name}"]) == [0, 200, 400]
        np.testing.assert_allclose(list(scalars[f"diagnostics/{name}"].values()), values, rtol=1e-6, err_msg=name)
