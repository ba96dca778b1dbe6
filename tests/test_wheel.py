"""What is built is what users get: the wheel lists its cards in an environment that is not the checkout."""

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from multistep_bench.cards import list_baselines, list_tasks

CHECKOUT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=CHECKOUT, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_the_cards_and_no_tests(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {f"multistep_bench/_cards/tasks/{name}.toml" for name in list_tasks()} <= set(names)
    assert {f"multistep_bench/_cards/baselines/{name}.toml" for name in list_baselines()} <= set(names)
    assert {name.split("/")[0] for name in names} == {"multistep_bench", wheel.name.rsplit("-py3", 1)[0] + ".dist-info"}


def test_results_stay_out_of_the_wheel(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert not [name for name in names if name.endswith((".jsonl", ".png"))]
    assert wheel.stat().st_size <= 2**20


@pytest.mark.slow
def test_the_wheel_installed_in_a_bare_environment_lists_its_tasks_from_the_root(wheel: Path, tmp_path: Path) -> None:
    environment = tmp_path / "bare"
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    # listing needs no torch: the light dependencies are enough, and the heavy ones are not installed
    packages = ["pydantic", "typer", "rich"]
    subprocess.run([python, "-m", "pip", "install", "-q", *packages], check=True)
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", str(wheel)], check=True)
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    listed = subprocess.run(
        [environment / "bin" / "mstep-bench", "list", "tasks"], cwd="/", env=clean, capture_output=True, text=True
    )
    assert listed.returncode == 0, listed.stderr
    for name in list_tasks():
        assert name in listed.stdout
