"""The traceback of a cell whose program broke stands beside its record, and the error says where."""

from pathlib import Path

import pytest
from commands import in_process
from test_launch import TASK

import multistep_bench as mb
from multistep_bench.errors import RunError
from multistep_bench.runs.folder import traceback_path
from multistep_bench.runs.spec import Cell

ASKED = ["--task", TASK, "--model", "user_models:raises", "--protocol", "smoke", "--budget", "1600"]


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_traceback_is_kept_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], workers: str) -> None:
    out = tmp_path / "run"
    code, _, error = in_process(capsys, "run", *ASKED, "--lr", "10", "--workers", workers, "--out", str(out))
    assert code == 2
    assert f"ArithmeticError: the weights went too far; tracebacks are in {out / 'failures'}" in error
    for cell in (Cell(0, 0), Cell(0, 1)):
        text = traceback_path(out, cell).read_text()
        assert text.startswith("Traceback (most recent call last):")
        assert 'raise ArithmeticError("the weights went too far")' in text
        assert "user_models.py" in text


def test_a_cell_that_no_longer_breaks_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changes = {"protocol.budget": 1600, "protocol.learning_rates": [10.0], "protocol.seeds": 1}
    options = {"changes": changes, "workers": 1}
    with pytest.raises(RunError, match=r"the weights went too far; tracebacks are in .*failures\); the same call"):
        mb.run(TASK, "user_models:raises", "smoke", tmp_path / "run", **options)  # pyright: ignore[reportArgumentType]
    assert traceback_path(tmp_path / "run", Cell(0, 0)).exists()
    monkeypatch.setattr("user_models.Fragile.forward", lambda self, images: self.linear(images))
    mb.run(TASK, "user_models:raises", "smoke", tmp_path / "run", **options)  # pyright: ignore[reportArgumentType]
    assert not traceback_path(tmp_path / "run", Cell(0, 0)).exists()
