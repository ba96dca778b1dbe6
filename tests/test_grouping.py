"""Which cells of a run train together."""

from dataclasses import replace
from pathlib import Path

import pytest
import records

from multistep_bench.errors import RunError
from multistep_bench.runs.spec import Cell
from multistep_bench.training.checkpoint import save_checkpoint
from multistep_bench.training.group import Job
from multistep_bench.training.grouping import StackSize, grouped, stack_size_here

SEVEN = [Cell(0, seed) for seed in range(7)]


def job_in(folder: Path, device: str = "cpu") -> Job:
    return Job(records.make_spec(seeds=7), folder, device, None, 0.0, {})


def fits(size: int, asked: list[tuple[list[Cell], int | None]]) -> StackSize:
    """So many cells at once, with a note that says so; writes down what it was asked."""

    def find(job: Job, cells: list[Cell], stack: int | None) -> tuple[Job, int]:
        asked.append((cells, stack))
        return replace(job, note=f"{size} fit"), size

    return find


@pytest.mark.parametrize(
    ("device", "stack", "sizes"),
    [
        ("cpu", None, [1] * 7),
        ("cpu", 1, [1] * 7),
        ("cuda", 1, [1] * 7),
        ("cpu", 3, [3, 3, 1]),
        ("cuda", None, [3, 3, 1]),
        ("cuda:1", 3, [3, 3, 1]),
    ],
)
def test_cells_are_stacked_where_it_is_asked_for_and_on_a_gpu(
    device: str, stack: int | None, sizes: list[int], tmp_path: Path
) -> None:
    asked: list[tuple[list[Cell], int | None]] = []
    job, groups = grouped(job_in(tmp_path, device), SEVEN, [], stack, fits(3, asked))
    assert [len(group) for group in groups] == sizes
    assert [cell for group in groups for cell in group] == SEVEN
    assert asked == ([] if sizes[0] == 1 else [(SEVEN, stack)])
    assert job.note == ("3 fit" if asked else None)


@pytest.mark.parametrize(("room", "sizes"), [(6, [4, 3]), (4, [4, 3]), (2, [2, 2, 2, 1]), (7, [7]), (100, [7])])
def test_groups_are_of_about_one_size(room: int, sizes: list[int], tmp_path: Path) -> None:
    _, groups = grouped(job_in(tmp_path), SEVEN, [], 100, fits(room, []))
    assert [len(group) for group in groups] == sizes


def test_cells_of_a_checkpoint_stay_together_and_come_first(tmp_path: Path) -> None:
    job, path = job_in(tmp_path), tmp_path / "rate0-seed4.pt"
    save_checkpoint(path, job.spec.identity(), [Cell(0, 4), Cell(0, 2)], {})
    asked: list[tuple[list[Cell], int | None]] = []
    _, groups = grouped(job, SEVEN[1:], [path], 3, fits(3, asked))
    assert groups == [(Cell(0, 4), Cell(0, 2)), (Cell(0, 1), Cell(0, 3)), (Cell(0, 5), Cell(0, 6))]
    assert asked == [([Cell(0, 1), Cell(0, 3), Cell(0, 5), Cell(0, 6)], 3)]


def test_with_every_cell_in_a_checkpoint_nothing_is_sized(tmp_path: Path) -> None:
    job, path = job_in(tmp_path, "cuda"), tmp_path / "rate0-seed0.pt"
    save_checkpoint(path, job.spec.identity(), SEVEN, {})
    asked: list[tuple[list[Cell], int | None]] = []
    assert grouped(job, SEVEN[:2], [path], 3, fits(3, asked))[1] == [tuple(SEVEN)]
    assert not asked


def test_checkpoints_of_other_runs_and_of_finished_cells_are_no_groups(tmp_path: Path) -> None:
    job = job_in(tmp_path)
    foreign, finished = tmp_path / "rate0-seed1.pt", tmp_path / "rate0-seed0.pt"
    save_checkpoint(foreign, "0" * 64, [Cell(0, 2), Cell(0, 1)], {})
    save_checkpoint(finished, job.spec.identity(), [Cell(0, 0)], {})
    _, groups = grouped(job, SEVEN[1:3], [foreign, finished], None, fits(3, []))
    assert groups == [(Cell(0, 1),), (Cell(0, 2),)]
    assert foreign.is_file()
    assert finished.is_file()


def test_garbage_is_set_aside_and_the_checkpoints_after_it_are_read(tmp_path: Path) -> None:
    job = job_in(tmp_path)
    garbage, good = tmp_path / "rate0-seed0.pt", tmp_path / "rate0-seed1.pt"
    garbage.write_bytes(b"garbage")
    save_checkpoint(good, job.spec.identity(), [Cell(0, 1), Cell(0, 0)], {})
    with pytest.warns(UserWarning, match=r"rate0-seed0\.pt is no checkpoint of this suite; it was renamed"):
        _, groups = grouped(job, SEVEN[:2], [garbage, good], None, fits(3, []))
    assert groups == [(Cell(0, 1), Cell(0, 0))]
    assert (tmp_path / "rate0-seed0.pt.unusable").read_bytes() == b"garbage"


def test_a_stack_that_the_optimizer_cannot_have_is_refused(tmp_path: Path) -> None:
    spec = records.make_spec(protocol={"optimizer": "timm/lamb"})
    job = replace(job_in(tmp_path), spec=spec)
    with pytest.raises(RunError, match=r"--stack 2: .*; leave --stack out, and cells train one at a time"):
        stack_size_here(job, [Cell(0, 0)], 2)
