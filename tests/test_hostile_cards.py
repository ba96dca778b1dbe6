"""Cards written to break their reader: each is refused in one sentence, by every command that reads it."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from multistep_bench import cards
from multistep_bench.cli import app
from multistep_bench.errors import BenchError

CARD = """
id = "hostile-v1"
title = "Hostile"
summary = "x"
base = "two_step_digits-v1"
batch_sha256 = ""
levels = {{ chance = 0.125, shortcut = 0.5625, ceiling = 1.0 }}
{line}
"""
QUICK = "[protocols.quick]\n"
DIGITS = "9" * 200_000

HOSTILE: dict[str, tuple[str, str]] = {
    "no end of samples": (QUICK + "budget = 1000000000000000000000000000000", "protocols.quick.budget"),
    "no end of items": (QUICK + "evaluation_items = 1000000000000", "protocols.quick.evaluation_items"),
    "no end of seeds": (QUICK + "seeds = 1000000000", "protocols.quick.seeds"),
    "no end of evaluations": (QUICK + "evaluations = 1000000000", "protocols.quick.evaluations"),
    "no end of batches": (QUICK + "batch_size = 1000000000000", "protocols.quick.batch_size"),
    "a rate beyond sense": (QUICK + "learning_rates = [1e308]", "protocols.quick.learning_rates"),
    "a rate that is none": (QUICK + "learning_rates = [nan]", "protocols.quick.learning_rates"),
    "no end of rates": (QUICK + f"learning_rates = [{', '.join(['1e-3'] * 2000)}]", "protocols.quick.learning_rates"),
    "no end of confirmations": ("scoring = { confirmations = 1000000000 }", "scoring.confirmations"),
    "a threshold near nothing": ("scoring = { threshold_fraction = 1e-309 }", "scoring.threshold_fraction"),
    "tiles beyond memory": ("parameters = { tile = 1000000 }", "tile"),
    "200,000 digits": (QUICK + f"seeds = {DIGITS}", "is not readable TOML"),
    "deep nesting": (f"parameters = {{ x = {'[' * 50_000}{']' * 50_000} }}", "is not readable TOML"),
    "a longer file than any card": (f'source = "{"x" * 300_000}"', "is longer than 262144 bytes"),
    "code": ('generator = "os:system"', "would run os:system"),
    "code as a source": ('parameters = { indicator_source = "shutil:rmtree" }', "would run shutil:rmtree"),
}


@pytest.mark.parametrize("command", [["check"], ["describe"], ["run", "--model", "vit", "--dry-run", "--task"]])
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_card_is_refused_in_one_sentence(tmp_path: Path, name: str, command: list[str]) -> None:
    line, expected = HOSTILE[name]
    path = tmp_path / "hostile-v1.toml"
    path.write_text(CARD.format(line=line), encoding="utf-8")
    if name == "tiles beyond memory" and command == ["describe"]:
        command = ["preview"]  # a description draws nothing, so it may show the card
    result = CliRunner().invoke(app, [*command, str(path)])
    assert isinstance(result.exception, BenchError), result.output
    assert expected in str(result.exception)
    assert len(str(result.exception)) < 5000


@pytest.mark.parametrize("content", [b"\xff\xfe", b"\x00", b"\xef\xbb\xbfid = 1", b"id = \xe9"], ids=repr)
def test_bytes_that_are_no_toml_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "hostile-v1.toml"
    path.write_bytes(content)
    with pytest.raises(BenchError, match=re.escape(str(path))):
        cards.load_task(path)


def test_a_device_or_folder_is_no_card(tmp_path: Path) -> None:
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(BenchError, match="there is no card at"):
        cards.load_task(tmp_path / "folder.toml")
