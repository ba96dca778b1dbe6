"""Sweeps from the command line: which runs the options ask for, what is priced, trained and refused."""

import json
from pathlib import Path

import pytest
from commands import in_process
from test_launch import LINEAR, SMALL, TASK

from multistep_bench.cli.sweep import sweeps_from
from multistep_bench.errors import BenchError
from multistep_bench.runs.store import read_run

FILE = """
[[sweep]]
models = ["user_models:linear"]
protocol = "smoke"
changes = {"protocol.seeds" = 1, "protocol.batch_size" = 8}
[sweep.variants]
plain = {}
long = {"protocol.budget" = 3200}
"""
SETTINGS = [part for key, value in SMALL.items() for part in ("--set", f"{key}={value}")]


def test_a_file_is_trained_with_the_changes_of_the_command_above_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sweep.toml").write_text(FILE, encoding="utf-8")
    root = tmp_path / "root"
    arguments = ["run", "--sweep", str(tmp_path / "sweep.toml"), "--out", str(root), *SETTINGS, "--json"]
    code, out, _ = in_process(capsys, *arguments, "--dry-run")
    assert code == 0
    assert not root.exists()
    priced = json.loads(out)
    folders = [root / TASK / f"user_models-linear-{name}" / "smoke" for name in ("plain", "long")]
    assert [run["folder"] for run in priced["runs"]] == [str(folder) for folder in folders]
    assert [(run["cells"], run["samples_per_cell"]) for run in priced["runs"]] == [(2, 1600), (2, 3200)]
    assert priced["cells"] == 4
    code, out, _ = in_process(capsys, *arguments, "--workers", "1")
    assert code == 0
    assert json.loads(out)["runs"] == [str(folder) for folder in folders]
    plain, long = (read_run(folder).spec.protocol for folder in folders)
    assert (plain.batch_size, plain.budget, len(plain.seed_indices)) == (
        16,
        1600,
        1,
    )  # the command's 16 over the file's 8
    assert (long.batch_size, long.budget) == (16, 3200)  # but a variant keeps what it is named for


def test_a_file_of_one_run_is_a_sweep_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """So that files of one run and of several may share a root."""
    (tmp_path / "sweep.toml").write_text(FILE.partition("[sweep.variants]")[0], encoding="utf-8")
    root = tmp_path / "root"
    arguments = ["run", "--sweep", str(tmp_path / "sweep.toml"), "--out", str(root), *SETTINGS, "--json", "--dry-run"]
    code, out, _ = in_process(capsys, *arguments)
    assert code == 0
    assert [run["folder"] for run in json.loads(out)["runs"]] == [str(root / TASK / "user_models-linear" / "smoke")]


def test_scores_come_before_what_did_not_finish(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "root"
    arguments = ["run", "--model", "user_models:raises", "--model", LINEAR, "--protocol", "smoke", "--out", str(root)]
    settings = [
        "--workers",
        "1",
        "--lr",
        "1e-4,0.3",
        "--seeds",
        "1",
        "--budget",
        "1600",
        "--set",
        "protocol.batch_size=16",
    ]
    code, out, error = in_process(capsys, *arguments, *settings)
    assert code == 2
    assert "Score of 2 runs: 4 cells (1 failed)" in out
    assert f"runs: {root / TASK}\n" in out
    assert error.startswith(f"error: cells did not finish (user_models:raises on {TASK}: 1 of 2), because Arithmetic")
    assert error.endswith("the same command tries them again\n")
    folder = root / TASK / "user_models-raises" / "smoke"
    assert f"{folder / 'failures'}" in error
    code, out, _ = in_process(capsys, *arguments, *settings, "--json")
    assert code == 2
    assert [Path(run).parts[-2] for run in json.loads(out)["runs"]] == ["user_models-raises", "user_models-linear"]


def test_settings_of_the_command_are_above_those_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "sweep.toml").write_text(FILE, encoding="utf-8")
    changes = {"protocol.seeds": 3, "model.dropout": 0.1}
    (sweep,) = sweeps_from(None, None, None, None, tmp_path / "sweep.toml", None, changes)
    assert sweep.changes == {"protocol.seeds": 3, "protocol.batch_size": 8, "model.dropout": 0.1}


def test_a_variant_without_settings_is_the_model_as_it_is() -> None:
    asked = ["plain:", "hot:model.tau=2", "plain:model.depth=1", "plain:"]
    (sweep,) = sweeps_from(["a-v1", "b-v1"], ["vit"], "smoke", None, None, asked, {})
    assert sweep.variants == {"plain": {"model.depth": 1}, "hot": {"model.tau": 2}}
    assert (sweep.tasks, sweep.protocol) == (("a-v1", "b-v1"), "smoke")


def test_a_suite_names_tasks_and_protocol() -> None:
    (sweep,) = sweeps_from(
        None, ["gpt", "gpt_tau"], None, "in_context", None, ["hot:model.tau=2", "hot:model.depth=1"], {}
    )
    assert (sweep.protocol, sweep.models) == ("quick", ("gpt", "gpt_tau"))
    assert {"icl_gaussian-v1", "lookup-v1", "markov-v1"} < set(sweep.tasks)
    assert sweep.variants == {"hot": {"model.tau": 2, "model.depth": 1}}


def test_one_model_on_the_default_task_is_asked_for_without_more() -> None:
    (sweep,) = sweeps_from(None, [LINEAR], None, None, None, None, {"protocol.seeds": 2})
    assert (sweep.tasks, sweep.protocol, sweep.variants) == ((TASK,), "quick", {})
    assert sweep.changes == {"protocol.seeds": 2}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--suite", "in_contxt", "--model", LINEAR], "no suite 'in_contxt'. Did you mean 'in_context'?"),
        (["--suite", "two_step", "--task", TASK, "--model", LINEAR], "names tasks and protocol, so leave out --task"),
        (["--suite", "two_step", "--protocol", "smoke", "--model", LINEAR], "so leave out --task and --protocol"),
        (["--sweep", "a.toml", "--model", LINEAR, "--protocol", "smoke"], "so leave out --model, --protocol"),
        (["--suite", "two_step"], "Missing option '--model'"),
        (["--model", LINEAR, "--variant", "cold"], "--variant cold: write NAME:KEY=VALUE"),
        (["--model", LINEAR, "--variant", ":model.depth=2"], "--variant :model.depth=2: write NAME:KEY=VALUE"),
        (
            ["--model", LINEAR, "--launcher", "ray", "--dry-run"],
            "--launcher ray: a dry run times a cell on this machine",
        ),
        (["--model", LINEAR, "--launcher", "slurm"], "no launcher 'slurm'"),
    ],
)
def test_what_cannot_be_meant_is_said_in_a_sentence(
    arguments: list[str],
    sentence: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, error = in_process(capsys, "run", *arguments)
    assert code == 2
    assert sentence in " ".join(error.split())
    assert not any(tmp_path.iterdir())


def test_two_runs_of_one_folder_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["run", "--model", LINEAR, "--model", LINEAR, "--protocol", "smoke", "--out", str(tmp_path / "root")]
    code, _, error = in_process(capsys, *arguments, *SETTINGS)
    assert code == 2
    assert "two runs of the sweep would share the folder" in error
    assert not (tmp_path / "root").exists()


def test_a_file_that_is_not_there_is_said() -> None:
    with pytest.raises(BenchError, match=r"nowhere\.toml"):
        sweeps_from(None, None, None, None, Path("nowhere.toml"), None, {})
