"""What `submit` writes is complete, verified, shown, and nowhere else."""

import json
from pathlib import Path

import entries
import pytest
from commands import in_process
from entries import TASK, URL
from records import drop
from typer.testing import CliRunner

from multistep_bench.cli import app
from multistep_bench.errors import BenchError
from multistep_bench.leaderboard.references import references
from multistep_bench.leaderboard.submission import submit
from multistep_bench.leaderboard.verify import verify
from multistep_bench.runs.spec import Cell
from multistep_bench.runs.store import read_run

RESULTS = entries.ROOT / "baselines" / "results"


@pytest.fixture
def board(tmp_path: Path) -> Path:
    return entries.make_board(tmp_path / "board")


def test_an_entry_holds_the_run_byte_for_byte_and_nothing_else_is_touched(tmp_path: Path, board: Path) -> None:
    run = entries.make_run(tmp_path / "run")
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / "rate0-seed0.pt").write_bytes(b"weights")
    (run / "curves.png").write_bytes(b"a picture")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    made = submit([run], "mine", URL, board=board)
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    new = {str(path.relative_to(made.folder)) for path in set(after) - set(before)}
    assert new == {"entry.json", f"runs/{TASK}.jsonl"}
    assert {path: after[path] for path in before} == before
    assert made.folder == board / "entries" / "mine"
    assert (made.folder / "runs" / f"{TASK}.jsonl").read_bytes() == (run / "run.jsonl").read_bytes()
    assert sorted(path.name for path in (board / "entries").iterdir()) == ["mine"]  # no draft is left


def test_what_is_submitted_verifies(tmp_path: Path, board: Path) -> None:
    made = submit([entries.make_run(tmp_path / "run")], "mine", URL, board=board)
    verdict = verify(made.folder, among=board)
    assert verdict.problems == ()
    assert verdict.entry is not None
    assert (verdict.entry.url, verdict.entry.track) == (URL, "fixed")


def test_a_run_of_a_reference_is_a_copy_of_it(board: Path) -> None:
    vit = RESULTS / TASK / "quick" / "vit.jsonl"
    with pytest.raises(BenchError, match=f"{TASK}/rate0-seed0 shares a curve with vit: {TASK}/rate0-seed0"):
        submit([vit], "mine", URL, board=board)
    assert list((board / "entries").iterdir()) == []


def test_a_missing_cell_is_refused(tmp_path: Path, board: Path) -> None:
    run = entries.make_run(tmp_path / "run")
    drop(run, Cell(0, 1))
    with pytest.raises(BenchError, match="lacks 1 of 2 cells; the same `run` trains them"):
        submit([run], "mine", URL, board=board)
    assert not (board / "entries").exists()


def test_another_recipe_must_be_declared_open(tmp_path: Path, board: Path) -> None:
    run = entries.make_run(tmp_path / "run", changes={"protocol.weight_decay": 0.0, "protocol.seeds": 3})
    with pytest.raises(BenchError, match=r"open track, for protocol.weight_decay=0.0 is not"):
        submit([run], "mine", URL, board=board)
    made = submit([run], "mine", URL, declared_open=True, board=board)
    assert made.verdict.entry is not None
    assert made.verdict.entry.track == "open"


def test_more_seeds_stay_on_the_fixed_track(tmp_path: Path, board: Path) -> None:
    run = entries.make_run(tmp_path / "run", changes={"protocol.seeds": 3})
    with pytest.raises(BenchError, match="--open: these runs follow the protocol"):
        submit([run], "mine", URL, declared_open=True, board=board)
    assert submit([run], "mine", URL, board=board).verdict.sound


def test_a_recipe_of_a_model_is_open(tmp_path: Path, board: Path) -> None:
    run = entries.make_run(tmp_path / "run", model="my_card", recipe={"gradient_rescaling": "layer"})
    with pytest.raises(BenchError, match=r'recipe=\{"gradient_rescaling": "layer"\} is not the protocol\'s'):
        submit([run], "mine", URL, board=board)


def test_wrong_use_is_one_sentence(tmp_path: Path, board: Path) -> None:
    run = entries.make_run(tmp_path / "run")
    with pytest.raises(BenchError, match="--url 'ftp://x': give an https address"):
        submit([run], "mine", "ftp://x", board=board)
    with pytest.raises(BenchError, match="two of these runs are of one task"):
        submit([run, run], "mine", URL, board=board)
    with pytest.raises(BenchError, match="there is no run to submit"):
        submit([], "mine", URL, board=board)
    with pytest.raises(BenchError, match=r"there is an entry 'vit'; choose another"):
        submit([run], "vit", URL, board=board)
    with pytest.raises(BenchError, match=r"there is no folder .*; run this in a checkout"):
        submit([run], "mine", URL, board=tmp_path / "elsewhere")
    (board / "entries").touch()
    with pytest.raises(BenchError, match=r"entries cannot hold entries \(File exists\); move it away"):
        submit([run], "mine", URL, board=board)
    (board / "entries").unlink()
    submit([run], "mine", URL, board=board)
    with pytest.raises(BenchError, match=r"there is an entry 'mine'; choose another --name, or remove"):
        submit([run], "mine", URL, board=board)


def test_the_command_shows_what_will_be_published(
    tmp_path: Path, board: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = entries.make_run(tmp_path / "run")
    arguments = ["submit", str(run), "--name", "mine", "--url", URL, "--board", str(board)]
    shown = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    assert shown.exit_code == 0, shown.output
    for part in ("mine:build", URL, "fixed", "hash of all", "2 files", "Nothing else was written"):
        assert part in shown.output
    copied = CliRunner().invoke(app, [*arguments[:3], "again", *arguments[4:]])
    assert "shares a curve with mine" in str(copied.exception)
    other = entries.make_run(tmp_path / "other", noise=5)
    as_json = ["submit", str(other), "--name", "other", *arguments[4:], "--json"]
    made = json.loads(in_process(capsys, *as_json)[1])
    assert made["sound"]
    assert len(made["files"]) == 2
    assert made["bytes"] == sum(Path(path).stat().st_size for path in made["files"])


def test_references_are_the_committed_runs_under_unchanged_protocols() -> None:
    digits = RESULTS / "two_step_digits-v1" / "quick"
    shorter, barred = digits / "resnet9.jsonl", digits / "vit_oracle.jsonl"
    assert "protocol.budget" in read_run(shorter).spec.changes  # kept to show something else
    assert not read_run(barred).spec.model.leaderboard
    paths = set()
    for entry in references():
        for run in entry.runs:
            paths.add(run.path)
            assert run.spec.changes == {}
            assert len(read_run(run.path).records) == len(run.spec.cells())
    assert RESULTS / "two_step-v1" / "quick" / "resnet9.jsonl" in paths  # whole, so the same model is one there
    assert not {shorter, barred} & paths
