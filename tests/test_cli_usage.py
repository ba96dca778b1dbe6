"""What every command has in common: options that stand anywhere, wrong arguments, JSON that stays JSON."""

import json
from pathlib import Path

import pytest
from commands import bench, in_process

from multistep_bench import __version__, cli


@pytest.mark.parametrize("arguments", [["--debug", "run", "--model", "vitt"], ["run", "--model", "vitt", "--debug"]])
def test_debug_shows_the_traceback_wherever_it_stands(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(cli.DEBUG, "")
    monkeypatch.delenv(cli.DEBUG)  # taken back to this after the test
    code, _, error = in_process(capsys, *arguments)
    assert code == 2
    assert error.startswith("Traceback")
    assert "no model 'vitt'. Did you mean 'vit'?" in error.splitlines()[-1]


@pytest.mark.parametrize("arguments", [["--version"], ["score", "--version"], ["list", "tasks", "--version"]])
def test_the_version_is_printed_wherever_it_is_asked_for(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert in_process(capsys, *arguments) == (0, f"mstep-bench {__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run"], "error: Missing option '--model'. (mstep-bench run --help)"),
        (["scoer"], "error: No such command 'scoer'. Did you mean 'score'? (mstep-bench --help)"),
        (["run", "--model", "vit", "--seeds", "two"], "error: Invalid value for '--seeds'"),
    ],
)
def test_wrong_arguments_are_one_sentence_and_exit_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, error = in_process(capsys, *arguments)
    assert (code, out) == (2, "")
    assert error.startswith(message)
    assert error.count("\n") == 1


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, error = in_process(capsys)
    assert code == 2
    assert "Usage: mstep-bench" in out + error


CHATTY = """
from torch import nn
class Chatty(nn.Sequential):
    def __init__(self, task):
        super().__init__(nn.Flatten(), nn.Linear(768, task.num_classes))
        print("built")
"""


def test_prints_of_a_model_and_a_notebooks_backend_leave_json_whole(tmp_path: Path) -> None:
    (tmp_path / "chatty.py").write_text(CHATTY)
    arguments = [
        "run",
        "--model",
        "chatty:Chatty",
        "--protocol",
        "smoke",
        "--budget",
        "1600",
        "--workers",
        "2",
        "--json",
    ]
    settings = {"MPLBACKEND": "module://matplotlib_inline.backend_inline", "PYTHONIOENCODING": "ascii"}
    done = bench(tmp_path, *arguments, **settings)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / json.loads(done.stdout)["plot"]).is_file()
    assert done.stderr.count("built\n") >= 3  # in this process and in both workers
