"""Ray: the curves of this machine from a cluster of several nodes, whatever dies in it."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from test_launch import SMALL, TASK, Notes, curves
from test_signals import wait_until

from multistep_bench.errors import BenchError, RunError
from multistep_bench.runs.diagnostics import load_diagnostics
from multistep_bench.runs.events import Evaluation
from multistep_bench.runs.spec import Cell, RunSpec
from multistep_bench.runs.store import Run, read_run
from multistep_bench.training.kept import kept_files
from multistep_bench.training.launch import launch
from multistep_bench.training.plan import plan

ray = pytest.importorskip("ray", reason="the extra ray is not installed")
pytestmark = pytest.mark.slow

MODELS = """
import os, signal, sys, time
from pathlib import Path
from torch import nn
import user_models
HERE = Path(__file__).parent

class Linear(nn.Module):
    def __init__(self, info):
        super().__init__()
        self.net, self.steps = user_models.linear(info), 0
    def forward(self, x):
        self.steps += self.training
        if self.training and sys.argv[0].endswith("default_worker.py"):  # on a node
            self.act()
        return self.net(x)

class Dies(Linear):
    def act(self):
        if self.steps == 40 and not (HERE / "died").exists():
            (HERE / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)

class DiesAlways(Linear):
    def act(self):
        with (HERE / "deaths").open("a") as file:
            file.write("x")
        os.kill(os.getpid(), signal.SIGKILL)

class Hangs(Linear):
    def act(self):
        (HERE / f"pid-{os.getpid()}").touch()
        time.sleep(600)
"""


class Acts(Notes):
    """Does something once, when so many evaluations were heard of."""

    def __init__(self, after: int, act: Callable[[], Any]) -> None:
        super().__init__()
        self.left, self.act = after, act

    def evaluated(self, cell: Cell, evaluation: Evaluation, items: int) -> None:
        super().evaluated(cell, evaluation, items)
        self.left -= 1
        if not self.left:
            self.act()


def interrupt() -> None:
    raise KeyboardInterrupt


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of modules that the nodes and this process can import."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "fragile.py").write_text(MODELS, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        patch.setenv("PYTHONPATH", os.pathsep.join([str(folder), *filter(None, sys.path)]))
        yield folder


@pytest.fixture(scope="module")
def cluster(models: Path) -> Iterator[Any]:
    from ray.cluster_utils import Cluster  # pyright: ignore[reportMissingImports]

    node: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    cluster.add_node(**node)
    yield cluster
    cluster.shutdown()


@pytest.fixture(scope="module")
def spec() -> RunSpec:
    return plan(TASK, "vit", "smoke", SMALL)


@pytest.fixture(scope="module")
def whole(spec: RunSpec, tmp_path_factory: pytest.TempPathFactory) -> Run:
    options: dict[str, Any] = {"keep_checkpoints": 2, "diagnostics": "gradients,every=50"}
    return launch(spec, tmp_path_factory.mktemp("whole") / "run", workers=1, **options)


def test_a_run_that_starts_here_goes_on_with_ray_and_comes_back(
    spec: RunSpec, whole: Run, cluster: Any, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"keep_checkpoints": 2, "diagnostics": "gradients,every=50", "checkpoint_seconds": 0}
    folder = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        launch(spec, folder, workers=1, observer=Acts(60, interrupt), **options)
    handler = signal.getsignal(signal.SIGTERM)
    notes = Acts(250, interrupt)
    with pytest.raises(KeyboardInterrupt):
        launch(spec, folder, launcher="ray", address=cluster.address, observer=notes, **options)
    assert signal.getsignal(signal.SIGTERM) is handler
    assert not ray.is_initialized()
    there = sum(path.stat().st_size for path in (folder / "checkpoints").glob("*.pt"))
    assert there > 0
    done = launch(spec, folder, workers=1, **options)
    assert curves(done) == curves(whole)
    for cell in spec.cells():
        assert kept_files(folder, cell).keys() == kept_files(whole.path, cell).keys()
    mine, its = load_diagnostics(done), load_diagnostics(whole)
    assert {c: a["samples"].tolist() for c, a in mine.items()} == {c: a["samples"].tolist() for c, a in its.items()}


def test_a_node_that_leaves_in_the_middle_costs_no_cell_and_changes_no_curve(
    spec: RunSpec, whole: Run, cluster: Any, tmp_path: Path
) -> None:
    extra = cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20)
    leaves = Acts(100, lambda: cluster.remove_node(extra, allow_graceful=False))
    done = launch(spec, tmp_path / "run", launcher="ray", address=cluster.address, observer=leaves)
    assert leaves.left <= 0
    assert curves(done) == curves(whole)


def test_a_process_that_dies_is_tried_again_and_one_that_dies_twice_has_failed(cluster: Any, tmp_path: Path) -> None:
    changes = {**SMALL, "protocol.learning_rates": [1e-3], "protocol.seeds": 1}
    options: dict[str, Any] = {"launcher": "ray", "address": cluster.address, "checkpoint_seconds": 0}
    once = launch(plan(TASK, "fragile:Dies", "smoke", changes), tmp_path / "once", **options)
    here = launch(plan(TASK, "fragile:Dies", "smoke", changes), tmp_path / "here", workers=1)
    assert curves(once) == curves(here)
    assert [record.attempts for record in once.records] == [2]
    always = launch(plan(TASK, "fragile:DiesAlways", "smoke", changes), tmp_path / "always", **options)
    assert [record.reason for record in always.records] == [
        "its process on the cluster ended in the middle of the cell"
    ]


def test_a_cell_that_hangs_is_ended_as_failed(cluster: Any, models: Path, tmp_path: Path) -> None:
    changes = {**SMALL, "protocol.learning_rates": [1e-3], "protocol.seeds": 1}
    options: dict[str, Any] = {"launcher": "ray", "address": cluster.address, "cell_timeout": 2.0}
    done = launch(plan(TASK, "fragile:Hangs", "smoke", changes), tmp_path / "run", **options)
    assert "nothing was heard of it for 2 s" in (done.records[0].reason or "")
    assert wait_until(lambda: not living(models), 20)


def living(models: Path) -> list[int]:
    """Processes in which `Hangs` hangs."""
    pids = [int(path.name.partition("-")[2]) for path in models.glob("pid-*")]
    return [pid for pid in pids if Path(f"/proc/{pid}/environ").exists()]


@pytest.mark.parametrize("name", ["KILL", "INT"])
def test_no_process_outlives_the_command(name: str, cluster: Any, models: Path, tmp_path: Path) -> None:
    before = set(models.glob("pid-*"))
    command = [sys.executable, "-m", "multistep_bench", "run", "--model", "fragile:Hangs", "--protocol", "smoke"]
    parent = subprocess.Popen(
        [*command, "--launcher", "ray", "--address", cluster.address, "--out", str(tmp_path / "run")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler) and None,
    )
    assert wait_until(lambda: len(set(models.glob("pid-*")) - before) >= 1, 90)
    parent.send_signal(getattr(signal, f"SIG{name}"))
    parent.wait(60)
    assert wait_until(lambda: not living(models), 30), living(models)
    assert not read_run(tmp_path / "run").failed


def test_a_machine_of_other_versions_or_without_the_model_is_refused(
    spec: RunSpec, cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"launcher": "ray", "address": cluster.address}
    (tmp_path / "only_here.py").write_text("from user_models import linear\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    unknown = plan(TASK, "only_here:linear", "smoke", SMALL)
    with pytest.raises(
        RunError, match=r"machine .* cannot train this: it cannot make only_here:linear .*ModuleNotFound"
    ):
        launch(unknown, tmp_path / "run", **options)
    monkeypatch.setattr(
        "multistep_bench.training.launchers.ray_cluster.installation", lambda: {"torch": "1.13", "Python": "3.8"}
    )
    with pytest.raises(RunError, match=r"torch is \S+ there and 1.13 here, Python is 3\.\d+ there and 3.8 here"):
        launch(spec, tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_an_address_that_does_not_answer_is_said_soon_and_nothing_is_written(spec: RunSpec, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        addresses = ["127.0.0.1:1", f"127.0.0.1:{silent.getsockname()[1]}", "ray://127.0.0.1:10001", "nowhere"]
        for address in addresses:
            with pytest.raises(BenchError, match=f"--address {address}: "):
                launch(spec, tmp_path / "run", launcher="ray", address=address)
    assert not (tmp_path / "run").exists()
