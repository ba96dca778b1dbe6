"""`mb.run` from a script or a notebook: short options, unknown keywords, progress."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import in_process
from test_launch import LINEAR, Notes

import multistep_bench as mb
from multistep_bench.cli.app import changes_from
from multistep_bench.errors import RunError

QUICK = {"model": LINEAR, "protocol": "smoke", "seeds": 1, "budget": 1600, "workers": 1}
FINE = {"protocol.batch_size": 16}


def test_short_options_are_those_of_the_command_line(tmp_path: Path) -> None:
    rates = np.array([1e-2, 1e-3])
    done = mb.run(out=tmp_path / "run", learning_rates=rates, precision="float32", changes=FINE, **QUICK)  # type: ignore[arg-type]
    options = changes_from(
        ["protocol.batch_size=16"], learning_rates="1e-2,1e-3", seeds=1, budget=1600, precision="float32"
    )
    assert done.spec.changes == options
    assert done.spec.protocol.learning_rates == (1e-3, 1e-2)
    assert [record.cell.name for record in done.records] == ["rate0-seed0", "rate1-seed0"]


def test_one_rate_is_a_number_and_a_short_option_wins_over_changes(tmp_path: Path) -> None:
    changes = {**FINE, "protocol.seeds": 3}
    done = mb.run(out=tmp_path / "run", learning_rates=0.01, changes=changes, **QUICK)  # type: ignore[arg-type]
    assert (done.spec.protocol.learning_rates, done.spec.protocol.seeds) == ((0.01,), 1)


@pytest.mark.parametrize(
    ("keyword", "message"),
    [
        ("seed", "run() has no keyword 'seed', did you mean 'seeds'?"),
        ("learning_rate", "did you mean 'learning_rates'?"),
        ("worker", "did you mean 'workers'?"),
        ("zzz", "run() has no keyword 'zzz', it takes task, model, protocol, out, seeds,"),
        ("execution", "run() has no keyword 'execution', "),
    ],
)
def test_an_unknown_keyword_is_named_with_the_closest(keyword: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(TypeError) as error:
        mb.run(out=tmp_path / "run", **{keyword: 1})  # type: ignore[arg-type]
    assert message in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_progress_is_shown_when_asked_for_or_at_a_prompt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def shown(name: str, **options: object) -> str:
        mb.run(out=tmp_path / name, learning_rates=0.01, changes=FINE, **QUICK, **options)  # type: ignore[arg-type]
        return capsys.readouterr().out

    monkeypatch.delattr(sys, "ps1", raising=False)
    assert shown("script") == ""
    assert "[1/1]" in shown("asked", progress=True)
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    assert "[1/1]" in shown("prompt")
    assert shown("silent", progress=False) == ""
    notes = Notes()
    assert shown("observed", observer=notes) == ""
    assert notes.closed == 1
    with pytest.raises(RunError, match="progress=True and observer="):
        shown("both", observer=notes, progress=True)


@pytest.mark.parametrize("rates", ["1e-3,x", [1e-3, "x"], [[1e-3]]])
def test_learning_rates_that_are_no_numbers_are_one_sentence(rates: Any) -> None:
    with pytest.raises(mb.BenchError, match=r"^learning_rates=.*: give a number or a list of numbers, as in "):
        mb.run(model=LINEAR, protocol="smoke", learning_rates=rates)


def test_a_task_that_is_built_already_is_asked_for_by_its_name() -> None:
    task: Any = mb.make_task("two_step_digits-v1")
    message = r"^a \w+ is given as the task; give a name or the path of a card, .* as changes={'task.KEY': value}$"
    for call in (mb.make_task, lambda task: mb.plan(task, LINEAR, "smoke")):
        with pytest.raises(mb.BenchError, match=message):
            call(task)


def test_the_public_names_need_no_torch_and_are_all_listed(tmp_path: Path) -> None:
    program = (
        "import sys, multistep_bench as mb; names = dir(mb); mb.list_tasks, mb.load_run, mb.list_runs, mb.Levels;"
        " mb.Strict, mb.score, mb.compare, mb.plot; print('torch' in sys.modules);"
        " print(all(getattr(mb, name) is not None for name in names)); print(names)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    torch_free, whole, names = done.stdout.splitlines()
    assert (torch_free, whole) == ("False", "True"), done.stderr
    for name in ("run", "plan", "plot", "load_run", "list_runs", "Levels", "Strict", "score", "compare"):
        assert f"'{name}'" in names


def test_plan_is_public(tmp_path: Path) -> None:
    spec = mb.plan("two_step_digits-v1", LINEAR, "smoke", {"protocol.seeds": 3})
    assert len(spec.cells()) == 3 * len(spec.protocol.learning_rates)


def test_the_command_takes_rates_in_any_order(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["run", "--model", LINEAR, "--protocol", "smoke", "--lr", "3e-3,1e-3", "--dry-run", "--json"]
    code, _, error = in_process(capsys, *arguments)
    assert code == 0, error
