"""Whatever signal ends a run, and whenever: no process of ours lives on, and the resumed curves are the same."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_launch import SMALL, TASK, curves

from multistep_bench.runs.spec import RunSpec
from multistep_bench.runs.store import Run, read_run
from multistep_bench.training.launch import launch
from multistep_bench.training.plan import plan

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds processes through /proc"),
]
SIGNALS = ["TERM", "HUP", "KILL", "INT"]
MARK = "MULTISTEP_BENCH_TEST_RUN"
MOMENTS = int(os.environ.get("MULTISTEP_BENCH_SIGNAL_MOMENTS", "1"))  # 20 before a release: about a quarter of an hour
ENDED_WITHIN = 20  # seconds, until every process of a killed run is gone


@pytest.fixture(scope="module")
def spec() -> RunSpec:
    changes = {**SMALL, "model.dropout": 0.1, "protocol.budget": 16_000, "protocol.learning_rates": [1e-3, 2e-3]}
    return plan(TASK, "user_models:linear", "smoke", changes)


@pytest.fixture(scope="module")
def whole(spec: RunSpec, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return launch(spec, tmp_path_factory.mktemp("whole") / "run", workers=1)


def _hears_every_signal() -> None:
    """Under nohup, or in a script's background, the tests and what they start would not hear of HUP or INT."""
    for name in SIGNALS:
        if name != "KILL":
            signal.signal(getattr(signal, f"SIG{name}"), signal.SIG_DFL)


def start(spec: RunSpec, folder: Path, mark: str) -> subprocess.Popen:
    """The run in a process group of its own, with two workers, as a user starts it."""
    changes = [part for key, value in spec.changes.items() for part in ("--set", f"{key}={value}")]
    command = [sys.executable, "-m", "multistep_bench", "run", "--task", TASK, "--model", spec.model.name]
    command += ["--protocol", "smoke", "--workers", "2", "--checkpoint-every", "0", "--out", str(folder), *changes]
    environment = {**os.environ, MARK: mark, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=_hears_every_signal,
    )


def processes(mark: str) -> list[int]:
    """Every living process that was started for this mark."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                environment = (entry / "environ").read_bytes()
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:  # it ended meanwhile
                continue
            if f"{MARK}={mark}".encode() in environment and state != "Z":
                found.append(int(entry.name))
    return found


def wait_until(condition, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False


def end(parent: subprocess.Popen, name: str, when: random.Random) -> None:
    """Ends a run at a random moment; Ctrl-C is pressed twice, as people do."""
    time.sleep(when.uniform(0, 0.6))
    for _ in range(2 if name == "INT" else 1):
        parent.send_signal(getattr(signal, f"SIG{name}"))
        time.sleep(when.uniform(0, 0.05))
    parent.wait(60)


@pytest.mark.parametrize("name", SIGNALS)
def test_nothing_lives_on_and_the_curves_are_the_same(name: str, spec: RunSpec, whole: Run, tmp_path: Path) -> None:
    when = random.Random(name)
    folder = tmp_path / "run"
    for moment in range(MOMENTS):
        mark = f"{name}-{moment}-{os.getpid()}"
        parent = start(spec, folder, mark)
        trains = wait_until(lambda parent=parent: parent.poll() is not None or any(folder.glob("cells/*.partial")), 60)
        assert trains
        end(parent, name, when)
        assert wait_until(lambda mark=mark: not processes(mark), ENDED_WITHIN), processes(mark)
    resumed = launch(spec, folder, workers=1)
    assert curves(resumed) == curves(whole)
    assert not read_run(folder).missing


@pytest.mark.parametrize("name", SIGNALS)
def test_a_worker_in_a_step_of_a_minute_ends_with_its_parent(name: str, tmp_path: Path) -> None:
    (tmp_path / "sleepy.py").write_text(
        "import time\nfrom torch import nn\nimport user_models\n"
        "class Sleepy(nn.Module):\n"
        "    def __init__(self, info):\n        super().__init__()\n        self.net = user_models.linear(info)\n"
        "    def forward(self, x):\n"
        "        import multiprocessing\n"
        "        if self.training and multiprocessing.parent_process() is not None:\n            time.sleep(60)\n"
        "        return self.net(x)\n",
        encoding="utf-8",
    )
    for moment in range(max(1, MOMENTS // 3)):
        mark, folder = f"sleepy-{name}-{moment}-{os.getpid()}", tmp_path / f"run {moment}"
        environment = {**os.environ, MARK: mark, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
        command = [sys.executable, "-m", "multistep_bench", "run", "--model", "sleepy:Sleepy", "--protocol", "smoke"]
        parent = subprocess.Popen(
            [*command, "--workers", "2", "--out", str(folder)],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=_hears_every_signal,
        )
        assert wait_until(lambda folder=folder: len(list(folder.glob("cells/*.partial"))) == 2, 60)
        end(parent, name, random.Random(f"{name}-{moment}"))
        assert wait_until(lambda mark=mark: not processes(mark), ENDED_WITHIN), processes(mark)
