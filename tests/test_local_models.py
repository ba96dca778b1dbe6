"""A model given as a class or a function: it trains in processes, resumes by its source, and is no entry."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial, wraps
from pathlib import Path
from typing import Any

import pytest
import torch
import user_models
from commands import in_process
from test_launch import curves
from torch import nn

import multistep_bench as mb
from multistep_bench.errors import BenchError, ModelError, RunError
from multistep_bench.models.local import local_builder, name_of
from multistep_bench.training.launchers import Demand, find_launcher

TASK = "two_step_digits-v1"
SHORT = {
    "protocol": "smoke",
    "seeds": 2,
    "budget": 1600,
    "learning_rates": 0.01,
    "changes": {"protocol.batch_size": 16},
}

NET = """
import multistep_bench as mb
from torch import nn

WIDTH = 8


class Net(nn.Module):
    def __init__(self, task, width=WIDTH):
        super().__init__()
        pixels = task.observation_space.shape
        self.first = nn.Linear(pixels[0] * pixels[1] * pixels[2], width)
        self.last = nn.Linear(width, task.num_classes)

    def forward(self, images):
        return self.last(self.first(images.flatten(1)).relu())

"""
TRAIN = """
short = {"protocol": "smoke", "seeds": 2, "budget": 1600, "learning_rates": 0.01, "workers": 2}
run = mb.run(model=Net, changes={"protocol.batch_size": 16, "model.width": 4}, out="net", keep_checkpoints=1, **short)
print("trained", len(run.records), run.spec.model.name, run.spec.model.parameters)
"""


def script(folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    """Runs a script that has no main guard."""
    (folder / "script.py").write_text(text, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        [sys.executable, "script.py"], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which a script without a main guard trained its own class in two processes."""
    folder = tmp_path_factory.mktemp("script")
    done = script(folder, NET + TRAIN)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "trained 2 local/Net 3116\n"  # once: no worker ran the script
    return folder


def test_the_same_source_resumes_and_another_is_refused(trained: Path) -> None:
    before = (trained / "net" / "run.jsonl").read_bytes()
    done = script(
        trained,
        '"""Now with words."""\n' + NET.replace("forward(self, images):", "forward(self, images):  # on") + TRAIN,
    )
    assert (done.returncode, done.stdout) == (0, "trained 2 local/Net 3116\n"), done.stderr
    assert (trained / "net" / "run.jsonl").read_bytes() == before
    done = script(trained, NET.replace(".relu()", ".tanh()") + TRAIN)
    assert done.returncode == 1
    assert "--out net holds another run (model.builder: 'local/Net@" in done.stderr
    assert "model.code_sha256: '" in done.stderr
    assert (trained / "net" / "run.jsonl").read_bytes() == before


def test_where_the_class_is_unknown_everything_but_the_model_can_be_read(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = mb.load_run(trained / "net")
    assert repr(run).startswith("Run of local/Net (")
    assert in_process(capsys, "score", str(trained / "net"))[0] == 0
    assert in_process(capsys, "report", str(trained / "net"), "-o", str(tmp_path / "report.html"))[0] == 0
    assert in_process(capsys, "plot", str(trained / "net"), "-o", str(tmp_path / "curves.png"))[0] == 0
    _, out, _ = in_process(capsys, "runs", str(trained), "--json")
    assert json.loads(out)[0]["model"] == "local/Net"
    with pytest.raises(ModelError, match=r"model 'local/Net' is defined in a script or a notebook.* as in model=Net"):
        run.model(seed=0)
    code, _, error = in_process(capsys, "probe", str(trained / "net"), "--at", "final")
    assert (code, error.count("\n")) == (2, 1)
    assert "model 'local/Net' is defined in a script or a notebook" in error
    with pytest.raises(RunError, match="the model given is not the local/Net that"):
        run.model(seed=0, model=user_models.linear)


def test_the_trained_model_comes_back_where_the_class_is_given(trained: Path) -> None:
    load = 'model = mb.load_run("net").model(seed=1, model=Net)\nprint(*model.last.weight.shape, model.training)\n'
    done = script(trained, NET + load)
    assert done.stdout == "8 4 False\n", done.stderr
    done = script(trained, NET.replace("relu", "tanh") + load)
    assert "RunError: the model given is not the local/Net that net has trained, or its code has changed" in done.stderr


def test_it_cannot_be_submitted(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    submit = ("submit", str(trained / "net"), "--name", "net", "--url", "https://example.org", "--board", str(tmp_path))
    code, _, error = in_process(capsys, *submit)
    assert code == 2
    assert "net cannot be an entry: model 'local/Net' was defined in a script or a notebook" in error
    assert "put it in a module, run it as package.module:Name, and submit that run" in error
    assert list(tmp_path.iterdir()) == []


REGISTERED = """
@mb.register_attention("mean_of_all")
class Mean(nn.Module):
    def forward(self, q, k, v, mask=None):
        return v.mean(dim=-2, keepdim=True).expand_as(q) * WIDTH / WIDTH


@mb.register_model("registered")
def build(task):
    return Net(task)


class Locked:
    lock = threading.Lock()


@mb.register_model("locked")
def locked(task):
    return Net(task, 8 if Locked.lock else 9)


short = {"protocol": "smoke", "seeds": 2, "budget": 1600, "learning_rates": 0.01, "workers": 2, "on_failure": "keep"}
for name, changes in (("vit", {"model.attention": "mean_of_all"}), ("registered", {}), ("locked", {})):
    run = mb.run(model=name, changes={"protocol.batch_size": 16, **changes}, **short)
    print(name, [record.status for record in run.records], run.records[0].reason)
"""


@pytest.mark.slow
def test_what_a_script_registers_trains_without_a_main_guard_too(tmp_path: Path) -> None:
    done = script(tmp_path, "import threading\n" + NET + REGISTERED)
    assert done.returncode == 0, done.stderr
    vit, registered, locked = done.stdout.splitlines()
    assert vit == "vit ['completed', 'completed'] None"
    assert registered == "registered ['completed', 'completed'] None"
    assert locked.startswith(
        "locked ['failed', 'failed'] BenchError: model 'locked', which the script registered, cannot"
    )
    assert "or give workers=1" in locked


@pytest.mark.slow
def test_a_cell_of_a_notebook_trains_in_processes(tmp_path: Path) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    cells = ["%matplotlib inline\n" + NET.replace("import multi", "import os\nimport multi"), TRAIN, TRAIN]
    cells += [NET.replace("WIDTH = 8", "WIDTH = 9"), TRAIN, NET.replace(".relu()", ".tanh()"), TRAIN]
    cells += ["import threading\n" + REGISTERED.replace(', ("locked", {})', "")]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    client = nbclient.NotebookClient(
        notebook, timeout=300, allow_errors=True, resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    said = ["".join(each.get("text", "") for each in cell.outputs) for cell in notebook.cells]
    assert "[2/2]" in said[1], notebook.cells[1].outputs
    assert said[1].endswith("trained 2 local/Net 3116\n")
    assert said[2].endswith("trained 2 local/Net 3116\n")
    assert "\n[" not in said[2]  # it resumed, and no cell was trained again
    for place in (4, 6):  # another default of an argument, another activation
        (error,) = [each for each in notebook.cells[place].outputs if each.output_type == "error"]
        assert (error.ename, "holds another run (model.builder" in error.evalue) == ("RunError", True)
    for name in ("vit", "registered"):  # with a rule and a model that the last cell registered
        assert f"{name} ['completed', 'completed'] None\n" in said[7], notebook.cells[7].outputs


@pytest.mark.slow
def test_the_example_of_the_readme_is_a_script_that_trains(tmp_path: Path) -> None:
    page = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")
    (example,) = [block for block in page.split("```python\n")[1:] if "class MyNet" in block]
    done = script(tmp_path, example.partition("```")[0] + "print(run)\n")
    assert done.stdout.startswith("Run of local/MyNet on two_step_digits-v1 smoke: 2 cells\n"), done.stderr


def make(width: int) -> Callable[..., nn.Module]:
    """A builder that only the caller has."""

    def build(task: mb.TaskInfo, extra: int = 0) -> nn.Module:
        return nn.Sequential(user_models.linear(task), nn.Linear(task.num_classes, width + extra), Last(width + extra))

    class Last(nn.Linear):
        def __init__(self, inputs: int) -> None:
            super().__init__(inputs, 8)

    return build


def test_a_function_trains_the_same_curves_in_processes_and_here(tmp_path: Path) -> None:
    here = mb.run(TASK, make(8), out=tmp_path / "here", workers=1, **SHORT)  # type: ignore[arg-type]
    there = mb.run(TASK, make(8), out=tmp_path / "there", workers=2, **SHORT)  # type: ignore[arg-type]
    assert curves(here) == curves(there)
    assert here.spec.identity() == there.spec.identity()
    assert here.spec.model.name == "local/make.build"
    again = mb.run(TASK, make(8), out=tmp_path / "there", workers=2, **SHORT)  # type: ignore[arg-type]
    assert again.packed == there.packed
    with pytest.raises(RunError, match="holds another run"):
        mb.run(TASK, make(9), out=tmp_path / "there", workers=1, **SHORT)  # type: ignore[arg-type]


def test_a_sweep_takes_objects_and_names(tmp_path: Path) -> None:
    changes = {
        "protocol.budget": 1600,
        "protocol.batch_size": 16,
        "protocol.seeds": 1,
        "protocol.learning_rates": [0.01],
    }
    models = [make(8), partial(make(8), extra=1), user_models.linear, lambda task: user_models.linear(task)]
    done = mb.sweep([TASK], models, "smoke", changes=changes, workers=2)
    names = ["local/make.build", "local/make.build", "user_models:linear"]
    assert [run.spec.model.name for run in done][:3] == names
    assert done[3].spec.model.name == "local/test_a_sweep_takes_objects_and_names.lambda"
    assert len({run.spec.identity() for run in done}) == 4
    assert [record.status for run in done for record in run.records] == ["completed"] * 4


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_an_importable_object_goes_by_its_name() -> None:
    spec = mb.plan(TASK, user_models.linear, "smoke")
    assert spec == mb.plan(TASK, "user_models:linear", "smoke")
    assert spec.model.builder == "user_models:linear"
    assert not spec.model.local


def test_an_object_that_its_name_does_not_lead_to_is_local() -> None:
    twice = wraps(user_models.linear)(lambda task: nn.Sequential(user_models.linear(task), nn.Linear(8, 8)))
    assert str(name_of(twice)).startswith("local/linear@")
    model: Any = mb.make_model(twice, mb.make_task(TASK).info)
    assert len(model) == 2


def test_make_model_takes_it_with_options() -> None:
    model: Any = mb.make_model(make(8), mb.make_task(TASK).info, extra=2)
    assert model[1].out_features == 10
    with pytest.raises(ModelError, match=r"model 'local/make.build' has no option 'extr', did you mean 'extra'\?"):
        mb.make_model(make(8), mb.make_task(TASK).info, extr=2)


class Fixed(nn.Linear):
    def __init__(self) -> None:
        super().__init__(768, 8)


@pytest.mark.parametrize("model", [Fixed, lambda: Fixed(), type("Bare", (nn.Module,), {"forward": lambda self, x: x})])
def test_one_that_takes_no_task_is_told_that_it_is_given_one(model: Any) -> None:
    with pytest.raises(ModelError, match=r"takes no argument, and it is called with the task's TaskInfo.*; write def"):
        mb.plan(TASK, model, "smoke")


def locked(lock: Any) -> Callable[..., nn.Module]:
    return lambda task: user_models.linear(task, 0.0 if lock else 0.1)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            nn.Linear(2, 2),
            r"model=Linear\(\.\.\.\) is a module that is built already, .*; give the class, as in model=Lin",
        ),
        (3, "model=3 is no model; give a name, the path of a card, a class or a function"),
        (
            locked(threading.Lock()),
            r"^'lock' of locked.lambda is a _thread.lock, which can neither be hashed nor sent to another process"
            r" \(TypeError: cannot pickle '_thread.lock' object\); make it inside locked.lambda when that is called",
        ),
    ],
)
def test_what_is_no_model_is_refused_in_one_sentence(model: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message) as error:
        mb.plan(TASK, model, "smoke")
    assert "\n" not in str(error.value)


def test_what_pickles_here_and_not_there_fails_with_a_reason() -> None:
    from multistep_bench.models import local

    builder = str(name_of(make(8)))
    broken = builder + "0"
    local.take_over({builder: local.pickled_models([builder])[builder], broken: b"no pickle"})
    info = mb.make_task(TASK).info
    assert torch.is_tensor(next(local_builder(builder)(info).parameters()))  # as a worker makes it, from the bytes
    with pytest.raises(ModelError, match=r"'local/make\.build' cannot be made in a worker process: Unpickling"):
        local_builder(broken)


def test_a_cluster_is_not_asked_for_it(tmp_path: Path) -> None:
    spec = mb.plan(TASK, make(8), "smoke")
    with (
        pytest.raises(RunError, match=r"--launcher ray: model 'local/make\.build' is defined in a script or a"),
        find_launcher("ray")(Demand([spec], None, "cpu", 2, None, None, 1.0)),
    ):
        pass


def test_a_name_alone_builds_none(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, error = in_process(capsys, "run", "--model", "local/Net")
    assert (code, error.count("\n")) == (2, 1)
    assert "model 'local/Net' is defined in a script or a notebook, not in a module" in error
    with pytest.raises(BenchError, match="local/Net"):
        mb.plan(TASK, "local/Net@0123456789abcdef", "smoke")
