"""What reaches a terminal: text that is written out and never obeyed, in any encoding, and JSON that stays JSON."""

import ast
import io
import json
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from rich.table import Table
from rich.text import Text

import multistep_bench
from multistep_bench.printable import ONE_LINE, printable
from multistep_bench.reporting import terminal
from multistep_bench.reporting.terminal import ERRORS, Terminal, print_json, say

HOSTILE = "\x1b[31m\x1b]0;title\x07\x9b2J\x85\u202e\u2066\u2028\r\b\x00\x7f\udcff"
PACKAGE = Path(multistep_bench.__file__).parent
STYLING = re.compile(r"\x1b\[[\d;]*m")  # rich's own colours


def test_control_characters_are_written_out() -> None:
    assert printable("a ★ ⅓ Δ é\nb\t") == "a ★ ⅓ Δ é\nb\t"
    assert printable("a\nb\tc", ONE_LINE) == r"a\nb\tc"
    assert printable("\x1b[31m\x9b\u202e\udcff") == r"\x1b[31m\x9b\u202e\udcff"
    assert printable(printable(HOSTILE)) == printable(HOSTILE)
    assert printable(HOSTILE).isprintable()


def shown(*renderables: object) -> str:
    console = Terminal(file=io.StringIO(), force_terminal=True, color_system="truecolor", width=120)
    for renderable in renderables:
        console.print(renderable, style="bold red")
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_terminal_obeys_nothing_that_it_is_given_to_print() -> None:
    table = Table(title=HOSTILE)
    table.add_column(HOSTILE)
    table.add_row(HOSTILE)
    table.add_row("[link=https://example.org]x[/link] :bomb: [/b]")
    text = shown(HOSTILE, Text(HOSTILE), table)
    assert STYLING.search(text)
    plain = STYLING.sub("", text)
    assert all(letter.isprintable() or letter == "\n" for letter in plain)
    assert r"\x1b[31m" in plain
    assert "[link=https://example.org]x[/link] :bomb: [/b]" in plain


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1", "gbk", "utf-8"])
def test_a_stream_takes_every_character_in_any_encoding(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    stream = io.TextIOWrapper(written, encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    terminal.prepare_streams()
    say("ΔS – ★ ▁█ ⅓ é 中 👍 \udcff")
    Terminal().print(Text("ΔS – ★ 中"))
    stream.flush()
    lines = written.getvalue().decode(encoding).splitlines()
    if encoding == "ascii":
        assert lines == [r"dS - * _# 1/3 e \u4e2d \U0001f44d \udcff", r"dS - * \u4e2d"]
    if encoding == "utf-8":
        assert lines == [r"ΔS – ★ ▁█ ⅓ é 中 👍 \udcff", "ΔS – ★ 中"]
    with pytest.raises(LookupError, match="unknown error handler"):
        b"\xff".decode("ascii", errors=f"not {ERRORS}")


def test_a_warning_is_one_line_and_obeyed_no_more_than_other_text(capsys: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        terminal.prepare_streams()
        warnings.warn(f"two\nlines {HOSTILE}", stacklevel=1)
    error = capsys.readouterr().err
    assert error.startswith(r"UserWarning: two\nlines \x1b[31m")
    assert error.rstrip("\n").isprintable()


def test_bytes_that_are_no_text_stay_an_error() -> None:
    with pytest.raises(UnicodeDecodeError):
        b"\xff".decode("ascii", errors=ERRORS)


def test_reserved_output_takes_the_json_alone_and_is_given_back(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.reserve_stdout()
    terminal.reserve_stdout()  # each nested command asks for it
    try:
        print("a model prints")
        print_json({"name": HOSTILE})
    finally:
        terminal.release_stdout()
    print("after")
    out, error = capsys.readouterr()
    assert error == "a model prints\n"
    document, _, after = out.rpartition("}\n")
    assert after == "after\n"
    assert document.isascii()
    assert json.loads(document + "}") == {"name": HOSTILE}


def test_child_processes_print_beside_reserved_output_too() -> None:
    program = (
        "import os, subprocess, sys; from multistep_bench.reporting import terminal as t\n"
        "print('before'); t.reserve_stdout(); os.write(1, b'from C\\n')\n"
        "subprocess.run([sys.executable, '-c', 'print(\"from a child\")'])\n"
        "t.print_json([1]); t.release_stdout(); print('after')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "before\n[\n 1\n]\nafter\n"
    assert done.stderr == "from C\nfrom a child\n"


def test_nothing_prints_past_the_terminal() -> None:
    past = []
    for path in PACKAGE.rglob("*.py"):
        if path.name != "terminal.py":
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call):
                    name = ast.unparse(node.func)
                    if name in ("print", "Console", "sys.stdout.write", "sys.stderr.write") or name.endswith(".echo"):
                        past.append(f"{path.relative_to(PACKAGE)}:{node.lineno} {name}")
    assert past == []
