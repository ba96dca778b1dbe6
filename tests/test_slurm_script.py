"""The SLURM script, with stand-ins for the scheduler that start everything on this machine."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from test_launch import SMALL
from test_signals import processes, wait_until

from multistep_bench.runs.store import read_run

SCRIPT = Path(__file__).resolve().parents[1] / "tasks" / "examples" / "slurm_ray.sh"
BASH = "#!/bin/bash\n"
STAND_INS = {
    "scontrol": f"{BASH}printf '%s\\n' ${{3//,/ }}\n",
    "srun": f'{BASH}echo "$@" >> srun.log\nwhile [[ $1 == --* ]]; do shift 2; done\nexec "$@"\n',
    "mstep-bench": f'{BASH}exec {sys.executable} -m multistep_bench "$@"\n',
    "ray": f'{BASH}exec {sys.executable} -m ray.scripts.scripts "$@"\n',
    "python": f'{BASH}exec {sys.executable} "$@"\n',
}
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds processes through /proc"),
]


def test_the_script_starts_ray_trains_and_leaves_nothing_behind(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the extra ray is not installed")
    (tmp_path / "bin").mkdir()
    for name, text in STAND_INS.items():
        (tmp_path / "bin" / name).write_text(text, encoding="utf-8")
        (tmp_path / "bin" / name).chmod(0o755)
    mark = f"slurm-{os.getpid()}"
    environment = {
        **os.environ,
        "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_JOB_NODELIST": f"{socket.gethostname()},other",
        "SLURM_CPUS_PER_TASK": "1",
        "MULTISTEP_BENCH_TEST_RUN": mark,
    }
    changes = [part for key, value in SMALL.items() for part in ("--set", f"{key}={value}")]
    options = ["--model", "user_models:linear", "--protocol", "smoke", "--out", "run", *changes]
    with (tmp_path / "out").open("w") as out:
        code = subprocess.run([str(SCRIPT), *options], cwd=tmp_path, env=environment, stdout=out, stderr=out).returncode
    assert code == 0, (tmp_path / "out").read_text()
    assert not read_run(tmp_path / "run").missing
    head, other = (tmp_path / "srun.log").read_text().splitlines()
    assert f"--nodes 1 --ntasks 1 --nodelist {socket.gethostname()} ray start --head" in head
    assert f"--nodes 1 --ntasks 1 --exclude {socket.gethostname()} ray start --address" in other
    assert wait_until(lambda: not processes(mark), 30), processes(mark)
