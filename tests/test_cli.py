"""The command line as a user meets it, in a directory that is not the checkout; its first run is a fresh process."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from commands import bench, in_process

from multistep_bench.cards import list_models, list_tasks
from multistep_bench.errors import BenchError
from multistep_bench.reporting.plots import PLOTS

TASK = "two_step_digits-v1"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    folder = tmp_path_factory.mktemp("user")
    done = bench(
        folder, "run", "--model", "vit_normsoftmax", "--protocol", "smoke", "--out", "mine", "--workers", "1", "--json"
    )
    return folder, done


def test_run_trains_scores_and_draws(finished: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, done = finished
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["run"] == "mine"
    assert result["score"]["schema"] == "msb.score/1"
    assert (folder / result["plot"]).read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in (folder / "mine").iterdir()} == {
        "run.jsonl",
        "checkpoints",
        "lock",
        "curves.png",
    }


def test_score_repeats_what_run_printed(
    finished: tuple[Path, subprocess.CompletedProcess[str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, done = finished
    monkeypatch.chdir(folder)
    code, out, error = in_process(capsys, "score", "mine", "--json")
    assert code == 0, error
    assert json.loads(out) == json.loads(done.stdout)["score"]


def test_the_same_command_resumes_and_trains_nothing_anew(
    finished: tuple[Path, subprocess.CompletedProcess[str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(finished[0])
    before = Path("mine/run.jsonl").read_bytes()
    arguments = ["run", "--model", "vit_normsoftmax", "--protocol", "smoke", "--out", "mine"]
    code, out, error = in_process(capsys, *arguments)
    assert code == 0, error
    assert Path("mine/run.jsonl").read_bytes() == before
    assert "Eureka" in out
    assert "mine/curves.png" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "vitt"], "no model 'vitt'. Did you mean 'vit'?"),
        (["--model", "vit", "--task", "two_step_digits-v2"], "Did you mean 'two_step_digits-v1'?"),
        (["--model", "vit", "--lr", "abc"], "--lr abc: give numbers separated by commas"),
        (["--model", "vit", "--lr", "-1e-3"], "'learning_rates.0': Input should be greater than 0 (got -0.001)\n"),
        (["--model", "vit", "--budget", "-256000"], "'budget': Input should be greater than 0 (got -256000)"),
        (
            ["--model", "vit", "--precision", "half"],
            "'precision': Input should be 'float32' or 'bfloat16' (got 'half')",
        ),
        (["--model", "vit", "--set", "protocol.sedes=3"], "unknown key 'sedes', did you mean 'seeds'?"),
        (["--model", "vit", "--dry-run", "--stack", "4"], "--stack 4: a dry run times cells one at a time"),
        (["--model", "vit", "--dry-run", "--workers", "-1"], "--workers -1: at least 1 is needed"),
        (["--model", "vit", "--dry-run", "--cell-timeout", "0"], "--cell-timeout 0.0: more than 0 seconds are needed"),
        (["--model", "vit", "--dry-run", "--log", "tensorbord"], "no log 'tensorbord'. Did you mean 'tensorboard'?"),
        (["--model", "vit", "--set", "depth"], "--set depth: write KEY=VALUE"),
        (["--model", "vit", "--device", "tpu"], "--device tpu is none of auto, cpu, cuda, cuda:N"),
        (["--model", "user_models:wrong_shape"], "of shape (2, 9)"),
    ],
)
def test_bad_input_is_one_sentence_exit_2_and_nothing_written(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, error = in_process(capsys, "run", "--protocol", "smoke", *arguments)
    assert (code, out) == (2, "")
    assert message in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_another_run_is_refused_and_untouched(
    finished: tuple[Path, subprocess.CompletedProcess[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(finished[0] / "mine")
    code, _, error = in_process(capsys, "run", "--model", "vit", "--protocol", "smoke", "--out", out)
    assert code == 2
    assert "holds another run (model." in error


def test_a_model_that_fails_ends_with_exit_2_and_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out_of_luck.py").write_text(
        "from torch import nn\n"
        "class Breaks(nn.Module):\n"
        "    def __init__(self, info):\n"
        "        super().__init__()\n"
        "        self.calls, self.linear = 0, nn.Linear(768, info.num_classes)\n"
        "    def forward(self, images):\n"
        "        self.calls += 1\n"
        "        if self.calls > 20: raise RuntimeError('out of luck')\n"
        "        return self.linear(images.flatten(1))\n"
    )
    monkeypatch.chdir(tmp_path)
    arguments = ["--model", "out_of_luck:Breaks", "--protocol", "smoke", "--workers", "1"]
    code, _, error = in_process(capsys, "run", *arguments)
    assert code == 2
    assert "2 of 2 cells did not finish (RuntimeError: out of luck; tracebacks are in " in error


def test_list_names_everything_and_imports_no_torch(tmp_path: Path) -> None:
    program = "import sys; from multistep_bench.cli import app; app(['list', '--json'], standalone_mode=False);"
    done = subprocess.run(
        [sys.executable, "-c", program + "sys.exit('torch' in sys.modules)"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["tasks"] == list_tasks()
    assert found["models"] == list_models()
    assert not {"sequence", "gated_vit"}.intersection(list_models())  # they cannot be built without options
    assert found["broken"] == {}
    assert {"softmax", "normsoftmax", "heat", "uniform"} <= set(found["attention"])


def test_list_of_an_unknown_kind_names_the_kinds(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, error = in_process(capsys, "list", "modles")
    assert code == 2
    assert "tasks, models, optimizers, attention" in error


def test_a_dry_run_counts_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["run", "--model", "user_models:linear", "--protocol", "smoke", "--dry-run"]
    code, out, _ = in_process(capsys, *arguments, "--json")
    costs = json.loads(out)
    assert code == 0
    assert (costs["cells"], costs["steps_per_cell"], costs["evaluations_per_cell"]) == (2, 200, 101)
    assert costs["parameters"] == 768 * 8 + 8
    assert costs["training_flops"] == 3 * 2 * 768 * 8 * 3200 * 2
    assert costs["processes"] <= 2
    assert 0 < costs["evaluation_share"] < 1
    assert costs["seconds"] > 0 < costs["memory_bytes"]
    assert "cells" in in_process(capsys, *arguments)[1]
    assert list(tmp_path.iterdir()) == []


def test_report_and_plot_write_files(
    finished: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = str(finished[0] / "mine")
    code, out, _ = in_process(capsys, "report", run, "-o", str(tmp_path / "report.html"))
    assert (code, out.strip()) == (0, str(tmp_path / "report.html"))
    assert "vit_normsoftmax" in (tmp_path / "report.html").read_text()
    kinds = [plot.kind for plot in PLOTS]
    offered = in_process(capsys, "plot", "--help")[1]
    assert all(kind in offered for kind in kinds)
    for kind in (plot.kind for plot in PLOTS if not plot.needs and not plot.options):
        path = tmp_path / f"{kind}.svg"
        assert in_process(capsys, "plot", run, "-o", str(path), "--kind", kind)[0] == 0
        assert path.read_text().startswith("<?xml")
    code, _, error = in_process(capsys, "plot", run, "--kind", "curve")
    assert code == 2
    assert "no kind of plot 'curve'. Did you mean 'curves'?" in error


def test_compare_refuses_a_run_with_itself_under_another_budget(
    finished: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = str(finished[0] / "mine")
    code, out, _ = in_process(capsys, "compare", run, run, "--json")
    assert code == 0, out
    shorter = str(tmp_path / "shorter")
    arguments = ["run", "--model", "user_models:linear", "--protocol", "smoke", "--budget", "1600", "--out", shorter]
    assert in_process(capsys, *arguments, "--workers", "1")[0] == 0
    code, _, error = in_process(capsys, "compare", run, shorter)
    assert code == 2
    assert "budget" in error


def test_describe_a_task_and_a_model(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = in_process(capsys, "describe", TASK, "--json")
    task = json.loads(out)
    assert (code, task["levels"]["shortcut"], task["threshold"]) == (0, 0.5625, 0.78125)
    code, out, _ = in_process(capsys, "describe", "vit", "--json")
    model = json.loads(out)
    assert (code, model["options"]["attention"], model["options"]["width"]) == (0, "'softmax'", "None")
    assert model["sizes"]["tiny"].startswith("patches_per_tile 1, width 32, depth 3, heads 2")
    code, out, _ = in_process(capsys, "describe", "vit", "--task", TASK, "--json")
    model = json.loads(out)
    assert (code, model["task"]) == (0, TASK)
    assert model["parameters"] > 0 < model["flops_per_sample"]
    code, out, _ = in_process(capsys, "describe", "vit", "--task", TASK)
    assert f"{model['parameters']:,}" in out
    code, _, error = in_process(capsys, "describe", "two_step_digit-v1")
    assert code == 2
    assert "Did you mean 'two_step_digits-v1'?" in error


@pytest.mark.parametrize(
    ("name", "kind", "options"),
    [
        ("heat", "attention rule", {"start": "3.0"}),
        ("digits", "source", {}),
        ("indicator", "generator", {"indicator_source": "'mnist'", "coloured": "True"}),
    ],
    ids=["rule", "source", "generator"],
)
def test_describe_a_part(name: str, kind: str, options: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = in_process(capsys, "describe", name, "--json")
    content = json.loads(out)
    assert (code, content[kind]) == (0, name)
    assert content["description"]
    assert content["options"].items() >= options.items()
    assert not {"data_root", "self"}.intersection(content["options"])
    code, _, error = in_process(capsys, "describe", name, "--task", TASK)
    assert code == 2
    assert f"--task {TASK}: '{name}' is no model (but of kind {kind}); leave it out" in error


def test_files_of_a_source_can_be_fetched_before_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = in_process(capsys, "data", "download", "digits")
    assert (code, out.split(":")[0]) == (0, "digits")
    assert "1438 train and 359 eval images" in out
    code, _, error = in_process(capsys, "data", "download", "mnits")
    assert code == 2
    assert "no source 'mnits'. Did you mean 'mnist'?" in error
    code, _, error = in_process(capsys, "data", "download", "cifar10", "--data-root", "/nonexistent")
    assert code == 2  # the tests have no network
    assert "cifar10" in error


def test_preview_writes_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "samples.png"
    code, out, _ = in_process(capsys, "preview", TASK, "-o", str(path), "-n", "4")
    assert (code, out.strip()) == (0, str(path))
    assert path.read_bytes().startswith(b"\x89PNG")


def test_check_says_whether_a_card_is_right(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = in_process(capsys, "check", TASK, "--json")
    assert (code, json.loads(out)["problems"]) == (0, [])

    wrong = tmp_path / "mine-v1.toml"
    wrong.write_text(
        'id = "mine-v1"\nbase = "two_step_digits-v1"\ntitle = "Mine"\nbatch_sha256 = ""\n'
        "[levels]\nchance = 0.125\nshortcut = 0.5\nceiling = 1.0\n"
    )
    code, out, _ = in_process(capsys, "check", str(wrong))
    assert code == 1
    assert "levels.shortcut is 0.5 in the card, but the generator computes 0.5625" in out


def test_the_first_check_of_a_new_card_prints_what_it_lacks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    card = tmp_path / "yours-v1.toml"
    head = 'id = "yours-v1"\nbase = "two_step_digits-v1"\ntitle = "Yours"\n'
    card.write_text(f"{head}[parameters]\nlabel_noise = 0.1\n")
    code, out, _ = in_process(capsys, "check", str(card))
    assert code == 1
    assert "with these levels: 'whole table': protocols.smoke.evaluation_items 192 is below 240" in out
    items = "[parameters]\nlabel_noise = 0.1\n[protocols]\nsmoke.evaluation_items = 320\nquick.evaluation_items = 320\n"
    card.write_text(head + items)
    code, out, _ = in_process(capsys, "check", str(card))
    assert code == 0  # nothing is wrong with it
    lines = out.partition("add these lines to the card, and a change of its data will be noticed:\n")[2].splitlines()
    assert lines[1:3] == ["[levels]", "chance = 0.125"]
    card.write_text("\n".join([head, *lines, items]))
    code, out, _ = in_process(capsys, "check", str(card), "--json")
    assert (code, json.loads(out)["problems"], json.loads(out)["missing"]) == (0, [], [])
    card.write_text(card.read_text().replace("label_noise = 0.1", "label_noise = 0.2"))
    code, out, _ = in_process(capsys, "check", str(card))
    assert code == 1
    assert "levels.ceiling is 0.9 in the card, but the generator computes 0.8" in out
    assert "a task whose data change needs a new version" in out
    code, _, error = in_process(capsys, "run", "--task", str(card.rename(tmp_path / "other-v1.toml")), "--model", "vit")
    assert code == 2  # only a check takes what is unfinished
    assert "id 'yours-v1' differs from the file's name" in error


def test_the_score_is_printed_before_the_picture_is_drawn(
    finished: tuple[Path, subprocess.CompletedProcess[str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*arguments: object) -> None:
        raise BenchError("nothing can be drawn here")

    monkeypatch.setattr("multistep_bench.reporting.curve_plots.plot_curves", fail)
    arguments = ["run", "--model", "vit_normsoftmax", "--protocol", "smoke", "--out", str(finished[0] / "mine")]
    code, out, error = in_process(capsys, *arguments)
    assert (code, error) == (2, "error: nothing can be drawn here\n")
    assert "Q over 1 task" in out
    code, out, error = in_process(capsys, *arguments, "--json")
    assert code == 2
    assert json.loads(out)["score"]["schema"] == "msb.score/1"
