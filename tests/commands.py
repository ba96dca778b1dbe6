"""Calling the command line: in a fresh process, or in this one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from multistep_bench import cli


def bench(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from multistep_bench.cli import main; main()", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env={**os.environ, **environment})


def in_process(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        cli.main(list(arguments))
    code = stop.value.code
    captured = capsys.readouterr()
    return int(code or 0), captured.out, captured.err
