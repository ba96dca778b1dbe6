"""Two runs of one model whose code changed in between: both are scored, and labels say so."""

import re
from pathlib import Path

import pytest
from commands import in_process
from records import jump, make_run, write_run

from multistep_bench.errors import RunError
from multistep_bench.runs.store import read_run
from multistep_bench.scoring.names import overall_labels, run_labels
from multistep_bench.scoring.score import score


def run_of(folder: Path, code: str, *times: float, **spec: object) -> Path:
    """A run of a model with that code; a cell jumps at each of the times."""
    made = read_run(make_run(folder, {(0, seed): jump(at) for seed, at in enumerate(times)}, **spec))  # type: ignore[arg-type]
    model = made.spec.model.model_copy(update={"code_sha256": code * 64})
    return write_run(folder, made.spec.model_copy(update={"model": model}), made.records)


OLD, NEW = "vit · code aaaaaaaa", "vit · code bbbbbbbb"


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    return [run_of(tmp_path / "runs" / "old", "a", 0.2), run_of(tmp_path / "runs" / "new", "b", 0.5, 0.6)]


def test_each_code_has_a_row_a_label_and_its_own_q(runs: list[Path]) -> None:
    both = score(runs)
    assert run_labels(both.runs) == overall_labels(both) == [OLD, NEW]
    assert [entry.code for entry in both.overall] == ["a" * 64, "b" * 64]
    for entry, run in zip(both.overall, runs, strict=True):
        alone = score(run)
        assert entry.grid == alone.overall[0].grid
        assert alone.overall[0].code is None  # there is nothing to tell it from
        assert run_labels(alone.runs) == ["vit"]


def test_a_folder_with_both_is_shown_everywhere(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(runs[0].parent)
    code, out, error = in_process(capsys, "score", folder)
    assert (code, error) == (0, "")
    flat_text = " ".join(out.split())
    assert OLD in flat_text
    assert NEW in flat_text
    details = in_process(capsys, "score", folder, "--verbose")[1]
    assert re.findall(r"^(.*): Q over", details, re.MULTILINE) == [f"{NEW} quick", f"{OLD} quick"]
    assert in_process(capsys, "report", folder, "-o", str(tmp_path / "r.html"))[0] == 0
    page = (tmp_path / "r.html").read_text(encoding="utf-8").replace("<wbr>", "")
    assert f'<th scope="row">{OLD}' in page
    assert f'<th scope="row">{NEW}' in page
    code, out, _ = in_process(capsys, "compare", *map(str, runs))
    assert code == 0
    assert f"{OLD} (A) against {NEW} (B)" in out


def test_runs_on_other_tasks_stay_with_their_code(runs: list[Path], tmp_path: Path) -> None:
    other = run_of(tmp_path / "other", "b", 0.1, task={"id": "other-v1"})
    scored = score([runs[0], other, runs[1]])
    assert [(entry.tasks, entry.code) for entry in scored.overall] == [
        (("steps-v1",), "a" * 64),
        (("other-v1", "steps-v1"), "b" * 64),
    ]
    assert overall_labels(scored) == [OLD, NEW]
    assert run_labels(scored.runs) == [OLD, "vit", NEW]
    assert overall_labels(score([*runs, other])) == [OLD, NEW]


def test_a_model_that_is_other_code_on_each_task_is_one_model(runs: list[Path], tmp_path: Path) -> None:
    other = run_of(tmp_path / "other", "b", 0.1, task={"id": "other-v1"})
    scored = score([runs[0], other])
    assert [(entry.tasks, entry.code) for entry in scored.overall] == [(("steps-v1", "other-v1"), None)]
    assert overall_labels(scored) == run_labels(scored.runs)[:1] == ["vit"]


def test_changes_tell_runs_apart_before_code_does(runs: list[Path], tmp_path: Path) -> None:
    deeper = run_of(tmp_path / "deeper", "c", 0.2, changes={"model.depth": 4})
    assert run_labels(score([runs[0], deeper]).runs) == ["vit", "vit · depth=4"]
    again = run_of(tmp_path / "again", "d", 0.2, changes={"model.depth": 4})
    labels = run_labels(score([runs[0], deeper, again]).runs)
    assert labels == ["vit", "vit · depth=4, code cccccccc", "vit · depth=4, code dddddddd"]


def test_two_runs_of_one_code_are_still_refused(runs: list[Path], tmp_path: Path) -> None:
    third = run_of(tmp_path / "third", "b", 0.3)
    with pytest.raises(RunError, match=r"new and .*third are two runs of vit on steps-v1 quick; score one of them"):
        score([*runs, third])
