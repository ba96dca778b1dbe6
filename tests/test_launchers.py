"""Launchers without a cluster: what is refused, and what a machine of one would send."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from test_launch import LINEAR, SMALL, TASK, curves

from multistep_bench.errors import BenchError, RunError
from multistep_bench.runs.folder import RecordWriter, RunFolder
from multistep_bench.runs.spec import Cell, RunSpec
from multistep_bench.training.checkpoint import load_checkpoint
from multistep_bench.training.group import Job
from multistep_bench.training.kept import kept_files
from multistep_bench.training.launch import launch
from multistep_bench.training.launchers import Demand, ray_cluster
from multistep_bench.training.launchers.installation import installation, why_not_here
from multistep_bench.training.launchers.node import FileChange, files_of, train_and_send
from multistep_bench.training.plan import plan

ONE = {**SMALL, "protocol.learning_rates": [1e-3], "protocol.seeds": 1}
CELL = Cell(0, 0)


@pytest.fixture(scope="module")
def spec() -> RunSpec:
    return plan(TASK, LINEAR, "smoke", ONE)


def test_what_cannot_be_is_refused_and_nothing_is_written(
    spec: RunSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # as where it is not installed
    cases: list[tuple[dict[str, Any], str]] = [
        ({"launcher": "ray"}, r"needs Ray, which is not installed: pip install 'multistep-bench\[ray\]'"),
        ({"launcher": "rya"}, r"no launcher 'rya'\. Did you mean 'ray'\?"),
        ({"address": "auto"}, "--address auto: that is for --launcher ray"),
    ]
    for options, sentence in cases:
        with pytest.raises(BenchError, match=sentence):
            launch(spec, tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def job(spec: RunSpec, folder: Path, keep: int = 0) -> Job:
    return Job(spec, folder, "cpu", None, 0.0, {"git": "of the driver"}, keep=keep)


def receive(spec: RunSpec, folder: Path, keep: int = 0, stop_after: int | None = None) -> list:
    """Does with what a machine sends as the process that started the run does."""
    updates = []
    writer = None
    (folder / "cells").mkdir(parents=True, exist_ok=True)
    for update in train_and_send(job(spec, folder, keep), (CELL,), files_of(folder, (CELL,)), installation()):
        updates.append(update)
        if update.message is None:
            continue
        for change in update.files:
            change.apply(folder)
        if update.header is not None:
            writer = RecordWriter(folder, CELL, update.header)
        assert writer is not None
        writer.write(update.message.event)
        if len(updates) == stop_after:
            break
    return updates


def test_what_a_machine_sends_makes_the_same_run_and_resumes(spec: RunSpec, tmp_path: Path) -> None:
    whole = launch(spec, tmp_path / "whole", workers=1, keep_checkpoints=3)
    folder = tmp_path / "sent"
    with RunFolder(folder, spec):
        begun = receive(spec, folder, keep=3, stop_after=40)
        again = receive(spec, folder, keep=3)
    seconds = [[update.message.event.seconds for update in updates[1:36]] for updates in (begun, again)]
    assert seconds[0] == seconds[1]  # taken over from the checkpoint that was sent last, not trained anew
    assert len([update for update in again if update.header is not None]) == 1
    assert again[0].message is None
    assert again[1].header.environment.versions["torch"] == torch.__version__
    with RunFolder(folder, spec) as held:
        done = held.pack()
    assert curves(done) == curves(whole)
    assert kept_files(folder, CELL).keys() == kept_files(whole.path, CELL).keys()
    for path in kept_files(folder, CELL).values():
        assert load_checkpoint(path, spec.identity())["samples"] == int(path.stem)


def test_a_machine_says_that_weights_of_no_event_are_removed(spec: RunSpec, tmp_path: Path) -> None:
    stray = tmp_path / "checkpoints" / "kept" / CELL.name / "000000000016.pt"
    stray.parent.mkdir(parents=True)
    stray.write_bytes(b"of a moment that was no Eureka-moment")
    receive(spec, tmp_path, keep=2)
    assert sorted(kept_files(tmp_path, CELL)) == [0, 1600]


def test_a_machine_that_would_give_other_curves_refuses(spec: RunSpec) -> None:
    assert why_not_here([spec], None, installation()) is None
    reason = why_not_here([spec], None, installation() | {"torch": "1.13", "Python": "3.8"})
    assert reason is not None
    assert f"Python is {sys.version_info[0]}.{sys.version_info[1]} there and 3.8 here" in reason
    assert f"torch is {torch.__version__} there and 1.13 here" in reason
    model = spec.model.model_copy(update={"code_sha256": "0" * 64})
    assert "there and 000000000000 here" in (why_not_here([replace_model(spec, model)], None, installation()) or "")
    task = spec.task.model_copy(update={"batch_sha256": "0" * 64})
    other = spec.model_copy(update={"task": task})
    assert "other batches of two_step_digits-v1" in (why_not_here([other], None, installation()) or "")
    updates = list(train_and_send(job(other, Path("/nowhere")), (CELL,), (), installation()))
    assert len(updates) == 1
    assert "other batches" in (updates[0].refusal or "")


def replace_model(spec: RunSpec, model) -> RunSpec:
    return spec.model_copy(update={"model": model})


def test_a_change_writes_and_removes(tmp_path: Path) -> None:
    FileChange("checkpoints/a.pt", b"new").apply(tmp_path)
    assert (tmp_path / "checkpoints" / "a.pt").read_bytes() == b"new"
    FileChange("checkpoints/a.pt", None).apply(tmp_path)
    FileChange("checkpoints/a.pt", None).apply(tmp_path)  # it is gone already
    assert not (tmp_path / "checkpoints" / "a.pt").exists()


def test_a_group_is_not_tried_again_after_two_deaths_for_one_reason_or_three(spec: RunSpec, tmp_path: Path) -> None:
    from multistep_bench.training.relay import NullObserver, Relay
    from multistep_bench.training.share import Share

    first = Share(job(spec, tmp_path), (CELL, Cell(0, 1)), Relay(NullObserver()), lambda: None)
    second = first.retry([CELL], "node a was lost")
    assert second is not None
    assert second.job.unfinished(second.group) == (CELL,)
    assert second.job.attempts == {CELL: 1}
    assert second.retry([CELL], "node a was lost") is None
    third = second.retry([CELL], "node b was lost")
    assert third is not None
    assert third.retry([CELL], "node c was lost") is None


def test_groups_on_gpus_take_the_share_of_one_that_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    from multistep_bench.training.launchers import ray_tasks

    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert ray_tasks.resources(cuda, 0.25) == {"num_cpus": 1, "num_gpus": 0.25}
    assert ray_tasks.resources(cpu, 0.25) == {"num_cpus": 1}
    there = {"CPU": 8.0, "GPU": 2.0}
    monkeypatch.setattr(ray_tasks.ray, "cluster_resources", lambda: there)
    rooms = [(cuda, 0.5, None, 4), (cuda, 0.1, None, 8), (cuda, 0.5, 3, 3), (cuda, 2.0, None, 1), (cpu, 1.0, None, 8)]
    for device, gpus, workers, room in rooms:
        assert ray_tasks.RayPool(device, gpus, workers, None)._room() == room
    there.clear()  # every machine is gone; one may come back
    assert ray_tasks.RayPool(cuda, 1.0, None, None)._room() == 1


def test_the_device_on_a_cluster_is_what_its_machines_have() -> None:
    def cluster(**resources: float) -> Any:
        return SimpleNamespace(cluster_resources=lambda: resources)

    assert ray_cluster._device(cluster(CPU=4, GPU=1), "auto").type == "cuda"
    assert ray_cluster._device(cluster(CPU=4), "auto").type == "cpu"
    assert ray_cluster._device(cluster(CPU=4, GPU=1), "cpu").type == "cpu"
    with pytest.raises(RunError, match="--device cuda:1: on Ray it is auto, cpu or cuda"):
        ray_cluster._device(cluster(CPU=4, GPU=1), "cuda:1")


@pytest.mark.parametrize(("running", "asked"), [(True, "auto"), (False, "local")])
def test_a_ray_that_died_and_left_its_address_is_none_that_runs(
    running: bool, asked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray_cluster, "_is_healthy", lambda *address: running)
    addresses: list[str] = []
    monkeypatch.setattr(ray_cluster, "_init", lambda ray, address, **options: addresses.append(address))
    ray: Any = SimpleNamespace(is_initialized=lambda: False, shutdown=lambda: None)
    with ray_cluster._connected(ray, Demand([], None, "cpu", 2, None, None, 1.0)):
        assert addresses == [asked]
    if not running:
        with pytest.raises(RunError, match="--address auto: no Ray runs on this machine; start one with ray start"):  # noqa: SIM117
            with ray_cluster._connected(ray, Demand([], None, "cpu", 2, None, "auto", 1.0)):
                pass
