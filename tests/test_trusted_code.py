"""No code comes unasked: a card's import paths need trust, and the working directory shadows nothing."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

import multistep_bench as mb
from multistep_bench import cards, trusted_code
from multistep_bench.cli import app
from multistep_bench.errors import CardError

MODEL_CARD = """
name = "evil"
title = "x"
summary = "x"
source = "x"
model = "{model}"
{config}
"""
MARKER = """
from pathlib import Path
Path({mark!r}).touch()
from torch import nn
def build(task):
    return nn.Linear(1, 1)
"""


@pytest.fixture
def mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that importing `leaves_a_mark` makes; the module lies in the working directory."""
    (tmp_path / "leaves_a_mark.py").write_text(MARKER.format(mark=str(tmp_path / "mark")))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(trusted_code, "_trusted", set())
    monkeypatch.setattr(sys, "path", list(sys.path))
    sys.modules.pop("leaves_a_mark", None)
    return tmp_path / "mark"


def card(folder: Path, model: str, config: str = "") -> Path:
    path = folder / "evil.toml"
    path.write_text(MODEL_CARD.format(model=model, config=config))
    return path


@pytest.mark.parametrize(
    ("model", "config"),
    [
        ("leaves_a_mark:build", ""),
        ("vit", '[config]\nattention = "leaves_a_mark:build"'),
        ("vit", '[config]\ndeep = [{ x = ["leaves_a_mark:build"] }]'),
    ],
)
@pytest.mark.parametrize("command", [["describe"], ["run", "--protocol", "smoke", "--model"]])
def test_a_model_card_runs_nothing_that_was_not_trusted(
    mark: Path, command: list[str], model: str, config: str
) -> None:
    path = card(mark.parent, model, config)
    result = CliRunner().invoke(app, [*command, str(path)])
    assert isinstance(result.exception, CardError)
    message = f"{path} would run leaves_a_mark:build, code that the card names; read it, then add --trust"
    assert message in str(result.exception)
    assert not mark.exists()


def test_every_command_that_may_ask_for_trust_can_be_given_it() -> None:
    def commands(group: Any) -> Iterator[Any]:
        for command in group.commands.values():
            yield from commands(command) if hasattr(command, "commands") else [command]

    takes = [(each.name, {option.name for option in each.params}) for each in commands(get_command(app))]
    of_cards = [(name, options) for name, options in takes if options & {"task", "model", "card"}]
    names = {name for name, _ in of_cards}
    assert names >= {"run", "check", "describe", "preview", "play", "check-model"}
    assert [name for name, options in of_cards if "trusted" not in options] == []


def test_a_trusted_path_of_a_card_is_taken(mark: Path) -> None:
    path = card(mark.parent, "leaves_a_mark:build")
    result = CliRunner().invoke(app, ["describe", str(path), "--trust", "leaves_a_mark:build"])
    assert mark.exists()
    assert not isinstance(result.exception, CardError)
    mb.trust("other:thing")
    with pytest.raises(CardError, match="--trust no path: this is no import path"):
        mb.trust("no path")


TASK_CARD = """
id = "evil-v1"
title = "x"
summary = "x"
base = "two_step_digits-v1"
generator = "{generator}"
{parameters}
levels = {{ chance = 0.125, shortcut = 0.5625, ceiling = 1.0 }}
batch_sha256 = ""
"""


@pytest.mark.parametrize(
    ("generator", "parameters"),
    [
        ("leaves_a_mark:Generator", ""),
        ("indicator", 'parameters = { indicator_source = "leaves_a_mark:build" }'),
    ],
)
@pytest.mark.parametrize("command", ["check", "describe", "preview"])
def test_a_task_card_runs_nothing_that_was_not_trusted(
    mark: Path, command: str, generator: str, parameters: str
) -> None:
    path = mark.parent / "evil-v1.toml"
    path.write_text(TASK_CARD.format(generator=generator, parameters=parameters))
    result = CliRunner().invoke(app, [command, str(path)])
    assert isinstance(result.exception, CardError)
    assert "leaves_a_mark:" in str(result.exception)
    assert not mark.exists()


def test_what_a_user_names_directly_is_trusted(mark: Path) -> None:
    CliRunner().invoke(app, ["describe", "leaves_a_mark:build"])
    assert mark.exists()


def test_shipped_cards_need_no_trust() -> None:
    for name in cards.list_baselines():
        assert cards.load_baseline(name).name == name


COMMANDS = [
    ["list", "tasks"],
    ["describe", "two_step_digits-v1"],
    ["check", "two_step_digits-v1"],
    ["score", "RUN"],
    ["verify", "nowhere"],
    ["run", "--model", "vit", "--protocol", "smoke", "--dry-run"],
]
SHADOWS = ("numpy", "profile", "json", "torch", "timm", "pydantic", "random", "secrets")


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_files_in_the_working_directory_are_not_run(tmp_path: Path, command: list[str]) -> None:
    for name in SHADOWS:
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'mark')!r}, 'a').write({name!r})\n")
    (tmp_path / "timm").mkdir()
    (tmp_path / "timm" / "__init__.py").write_text(f"open({str(tmp_path / 'mark')!r}, 'a').write('timm')\n")
    checkout = Path(__file__).resolve().parents[1]
    run = checkout / "baselines" / "results" / "two_step_digits-v1" / "quick" / "resnet9.jsonl"
    arguments = [str(run) if part == "RUN" else part for part in command]
    program = Path(sys.executable).parent / "mstep-bench"
    done = subprocess.run(
        [program, *arguments], cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "PYTHONSAFEPATH": ""}
    )
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "mark").exists()


@pytest.mark.slow
def test_a_model_of_the_working_directory_is_still_found_by_its_workers(tmp_path: Path) -> None:
    (tmp_path / "helper.py").write_text("WIDTH = 4\n")
    (tmp_path / "numpy.py").write_text("raise SystemExit('shadowed')\n")
    (tmp_path / "mine.py").write_text(
        "from torch import nn\ndef build(task):\n    from helper import WIDTH\n"
        "    c, h, w = task.observation_space.shape\n"
        "    hidden = nn.Linear(c * h * w, WIDTH)\n"
        "    return nn.Sequential(nn.Flatten(), hidden, nn.Linear(WIDTH, task.num_classes))\n"
    )
    program = Path(sys.executable).parent / "mstep-bench"
    command = [program, "run", "--model", "mine:build", "--protocol", "smoke", "--workers", "2", "--out", "run"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "run.jsonl").is_file()
