"""Every command, given names, cards, runs and reasons full of control characters: none of these reach the output."""

import io
import sys
from pathlib import Path

import entries
import pytest
import records

from multistep_bench import cli

HOSTILE = "e\x1b[31mv\x07i\x9bl\u202e\x85\rno\nerror"
CARD = r"""
id = "mine-v1"
base = "two_step_digits-v1"
title = "mine \u001b[31m\u009b\u202e[/b]"
summary = "a \u001b]0;title\u0007 [bold]b"
batch_sha256 = "\u001b[31m"
"""
MODEL = """
from torch import nn
class Breaks(nn.Linear):
    def __init__(self, task):
        super().__init__(768, task.num_classes)
    def forward(self, images):
        if self.training:
            print("\\x1b[31mtraining", flush=True)
            raise ValueError("[/b] [red]x[/red]\\n\\x1b[31m\\x07\\x9b\\u202e")
        return super().forward(images.flatten(1))
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a hostile name: two runs, a card, a board with an entry, all with hostile content."""
    place = tmp_path_factory.mktemp("hostile") / HOSTILE
    place.mkdir()
    broken = records.Ended("failed", [100, 300], reason=HOSTILE)
    curves: dict[tuple[int, int], records.Counts | records.Ended] = {(0, 0): records.jump(0.3), (0, 1): broken}
    changes = {"model.attention": HOSTILE}
    for name, model in (("a", HOSTILE), ("b", f"other {HOSTILE}")):
        further = {HOSTILE: [500] * 101} if name == "a" else None
        curves = curves if further is None else {(0, 0): records.jump(0.3)}
        records.make_run(place / name, curves, seeds=2, model=model, changes=changes, auxiliary=further)
    records.make_run(place / "c", {(0, 0): records.Ended("failed", [100], reason=HOSTILE)}, model=HOSTILE)
    records.make_run(place / "d", curves, model="\U0001f9ff\u4e2d")
    (place / "mine-v1.toml").write_text(CARD)
    (place / "hostile_model.py").write_text(MODEL)
    entries.make_board(place / "board")
    (place / "board" / "entries" / HOSTILE).mkdir(parents=True)
    (place / "board" / "entries" / HOSTILE / "entry.json").write_text('{"\\u001b[31m": 1}')
    return place


COMMANDS = {
    "score": ["score", "a", "b"],
    "score of a failed cell": ["score", "c"],
    "score as JSON": ["score", "a", "--json"],
    "score of no run": ["score", HOSTILE],
    "compare": ["compare", "a", "b"],
    "compare what differs": ["compare", "a", "c"],
    "report": ["report", "a", "-o", f"{HOSTILE}.html"],
    "report to another ending": ["report", "a", "-o", HOSTILE],
    "plot": ["plot", "a", "-o", f"{HOSTILE}.svg", "--kind", "auxiliary"],
    "plot of what no font has": ["plot", "d", "-o", "figure.svg"],
    "plot of another kind": ["plot", "a", "--kind", HOSTILE],
    "plot without measurements": ["plot", "c", "--kind", "auxiliary"],
    "run of no model": ["run", "--model", HOSTILE],
    "run of no task": ["run", "--model", "vit", "--task", HOSTILE],
    "run with a strange key": ["run", "--model", "vit", "--set", f"protocol.{HOSTILE}=1"],
    "run with a strange value": ["run", "--model", "vit", "--set", f"model.attention={HOSTILE}"],
    "run that fails": ["run", "--model", "hostile_model:Breaks", "--protocol", "smoke", "--workers", "1"],
    "dry run": ["run", "--model", "vit", "--task", "mine-v1.toml", "--protocol", "smoke", "--dry-run"],
    "list": ["list", HOSTILE],
    "describe a card": ["describe", "./mine-v1.toml"],
    "describe nothing": ["describe", HOSTILE],
    "check": ["check", "./mine-v1.toml"],
    "preview": ["preview", "./mine-v1.toml", "-n", "1", "-o", f"{HOSTILE}.png"],
    "data check": ["data", "check", "--data-root", HOSTILE],
    "submit": ["submit", "a", "--name", HOSTILE, "--url", HOSTILE, "--board", "board"],
    "verify": ["verify", f"board/entries/{HOSTILE}"],
    "verify nothing": ["verify", HOSTILE],
    "reproduce": ["reproduce", f"board/entries/{HOSTILE}", "--by", HOSTILE],
    "leaderboard build": ["leaderboard", "build", "--board", "board"],
    "leaderboard of nothing": ["leaderboard", "build", "--board", HOSTILE],
    "baselines build": ["baselines", "build", "--folder", HOSTILE],
    "bench": ["bench", HOSTILE],
    "bench to no folder": ["bench", "-o", f"{HOSTILE}/x.json"],
    "no such command": [HOSTILE],
    "no such option": ["score", f"--{HOSTILE}"],
    "too many arguments": ["compare", "a", "b", HOSTILE],
    "an error with its traceback": ["score", HOSTILE, "--debug"],
}


def called(arguments: list[str]) -> int:
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    code = stop.value.code
    return int(code or 0)


@pytest.fixture
def inside(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    monkeypatch.delenv("MULTISTEP_BENCH_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(place))
    monkeypatch.delenv(cli.DEBUG, raising=False)
    monkeypatch.setenv(cli.DEBUG, "")  # so that what --debug sets is taken back
    monkeypatch.delenv(cli.DEBUG)


@pytest.mark.usefixtures("inside")
@pytest.mark.parametrize("arguments", COMMANDS.values(), ids=list(COMMANDS))
def test_no_control_character_reaches_the_output(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    code = called(arguments)
    out, error = capfd.readouterr()
    said = (out + error).replace("\x1b[31mtraining\n", "")  # a model's own prints are its author's
    assert said
    assert [letter for letter in said if not letter.isprintable() and letter != "\n"] == []
    assert code == 2 or not error.startswith("error")
    if "--debug" not in arguments:
        assert "Traceback" not in error
        forged = [line for line in said.splitlines() if line.startswith("error") and not line.startswith("error: ")]
        assert forged == [], "a newline in a name makes a line of its own"


SPOKEN = (["score", "a", "b"], ["compare", "a", "b"], ["list"], ["describe", "vit"], ["run", "--help"], ["check", "x"])


@pytest.mark.usefixtures("inside")
@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "gbk"])
@pytest.mark.parametrize("arguments", SPOKEN, ids=" ".join)
def test_every_encoding_will_do(arguments: list[str], encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, io.TextIOWrapper(written, encoding=encoding, write_through=True))
    called(arguments)
    text = written.getvalue().decode(encoding)
    assert text
    assert "Traceback" not in text
