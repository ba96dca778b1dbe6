"""What a person sees while a run trains, word for word where they would act on it."""

import io
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
import records
from rich.console import Console

from multistep_bench.reporting.console import make_observer
from multistep_bench.reporting.labels import rate_label
from multistep_bench.reporting.live import LiveTable, PlainLines
from multistep_bench.reporting.progress import CellProgress, RunProgress
from multistep_bench.reporting.run_table import render_run, sparkline
from multistep_bench.runs.events import Evaluation, Outcome
from multistep_bench.runs.spec import Cell, RunSpec
from multistep_bench.runs.store import read_run

FOLDER = Path("runs/mine")
DONE = Outcome(status="completed", samples=records.BUDGET, seconds=38.4)
DIVERGED = Outcome(status="diverged", reason="the loss is not finite after 2000 samples", samples=2000, seconds=1)
FAILED = Outcome(status="failed", reason="ValueError: [bold]no[/bold]", samples=0, seconds=0)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def evaluation(index: int, correct: int | None) -> Evaluation:
    return Evaluation(samples=index * 1000, correct=correct, loss=None, train_loss=None, seconds=index)


def feed(observer: LiveTable | PlainLines | RunProgress, cell: Cell, counts: Sequence[int | None]) -> None:
    for index, correct in enumerate(counts):
        observer.evaluated(cell, evaluation(index, correct), records.ITEMS)


def lines_of(console: Console) -> list[str]:
    assert isinstance(console.file, io.StringIO)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", console.file.getvalue()).splitlines()


def shown(run: RunProgress, width: int = 80, height: int = 1000) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    console.print(render_run(run, width, height))
    return lines_of(console)


@pytest.fixture
def spec() -> RunSpec:
    return records.make_spec(rates=(1e-3, 3e-3), seeds=2)


def test_plain_output_is_a_line_at_the_start_and_a_line_a_cell(spec: RunSpec) -> None:
    console = Console(file=io.StringIO(), width=80)
    observer = make_observer(console)
    assert isinstance(observer, PlainLines)
    observer.begin(spec, FOLDER, {})
    feed(observer, Cell(0, 0), records.jump(0.3))
    observer.ended(Cell(0, 0), DONE)
    feed(observer, Cell(1, 0), records.flat())
    observer.ended(Cell(1, 0), DONE)
    feed(observer, Cell(0, 1), [100, None, 550])
    observer.ended(Cell(0, 1), DIVERGED)
    observer.ended(Cell(1, 1), FAILED)
    observer.close()
    assert lines_of(console) == [
        "vit on steps-v1, protocol quick: 4 cells of 10,000 steps, 100,000 samples each; run folder runs/mine",
        "rate 1e-3 seed 0: Eureka-moment at 30,000 of 100,000 samples, final accuracy 0.950 (38 s) [1/4]",
        "rate 3e-3 seed 0: no Eureka-moment by 100,000 samples, final accuracy 0.550 (38 s) [2/4]",
        "rate 1e-3 seed 1: diverged: the loss is not finite after 2000 samples (1 s) [3/4]",
        "rate 3e-3 seed 1: failed: ValueError: [bold]no[/bold] (0 s) [4/4]",
    ]


def test_a_resumed_run_says_what_was_finished_before(tmp_path: Path) -> None:
    run = read_run(records.make_run(tmp_path / "run", {(0, 0): records.flat()}, seeds=2))
    console = Console(file=io.StringIO(), width=80)
    observer = PlainLines(console)
    observer.begin(run.spec, FOLDER, {record.cell: record for record in run.records})
    feed(observer, Cell(0, 1), records.flat())
    observer.ended(Cell(0, 1), DONE)
    first, last = lines_of(console)
    assert "samples each, 1 finished before; run folder" in first
    assert last.endswith("[2/2]")


def test_the_star_appears_with_the_third_evaluation_above_the_threshold(spec: RunSpec) -> None:
    run = RunProgress(spec, FOLDER, {}, Clock())
    feed(run, Cell(0, 0), [100, 550, 950, 950])
    assert not any("★1.5k" in line for line in shown(run))
    run.evaluated(Cell(0, 0), evaluation(4, 950), records.ITEMS)
    assert any("★1.5k 4% 0.70" in line for line in shown(run))  # mean of the last five
    feed(run, Cell(0, 0), [100])  # the cell starts anew
    assert not any("★1.5k" in line for line in shown(run))


def test_broken_cells_are_marked_and_explained(spec: RunSpec) -> None:
    run = RunProgress(spec, FOLDER, {}, Clock())
    feed(run, Cell(0, 0), [None, None])
    run.cells[Cell(0, 0)].outcome = DIVERGED
    run.cells[Cell(1, 1)].outcome = FAILED
    text = shown(run)
    assert any("✗diverged" in line for line in text)
    assert "✗ rate 1e-3 seed 0: diverged: the loss is not finite after 2000 samples" in text
    assert "✗ rate 3e-3 seed 1: failed: ValueError: [bold]no[/bold]" in text


def test_broken_cells_are_marked_in_a_narrow_table_too() -> None:
    run = RunProgress(records.make_spec(seeds=10), FOLDER, {}, Clock())
    run.cells[Cell(0, 0)].outcome, run.cells[Cell(0, 9)].outcome = DIVERGED, FAILED
    assert any(line.split()[0] == "✗div." and line.split()[-1] == "✗fail" for line in shown(run) if "✗div" in line)


def test_many_broken_cells_do_not_push_the_table_off_the_screen() -> None:
    run = RunProgress(records.make_spec(seeds=12), FOLDER, {}, Clock())
    for progress in run.cells.values():
        progress.outcome = FAILED
    assert [line for line in shown(run) if line.startswith("✗ rate")][-1].startswith("✗ rate 1e-3 seed 4: failed")
    assert shown(run)[-1] == "  and 7 more"


@pytest.mark.parametrize(
    ("seeds", "first_seed", "width"), [(4, 0, 80), (10, 0, 80), (20, 0, 80), (3, 0, 30), (9, 900_000, 60)]
)
def test_every_cell_can_be_read_on_a_narrow_terminal(seeds: int, first_seed: int, width: int) -> None:
    spec = records.make_spec(rates=(1e-3, 2.5e-4 * 10), seeds=seeds, protocol={"first_seed": first_seed})
    run = RunProgress(spec, FOLDER, {}, Clock())
    for cell in run.cells:
        feed(run, cell, records.jump(0.3))
        run.cells[cell].outcome = DONE
    text = shown(run, width)
    assert max(map(len, text)) <= width
    assert sum(line.count("★30k") for line in text) == 2 * seeds
    assert not any("…" in line for line in text)
    assert all(any(f"seed {first_seed + seed}" in line for line in text) for seed in range(seeds))


def test_a_sparkline_runs_from_chance_to_the_ceiling_over_the_budget(spec: RunSpec) -> None:
    cell = CellProgress(spec)
    for index, correct in enumerate([100] * 10 + [None] * 10 + [550] * 10 + [950] * 10 + [2 * records.ITEMS] * 5):
        cell.add(evaluation(index, correct), records.ITEMS)
    line = sparkline(cell, spec, 10)
    assert line.plain == "▁·▅██·····"
    assert [span.style for span in line.spans][:5] == ["blue", "dim", "blue", "green", "green"]


def test_pace_and_time_left_count_only_what_this_call_trained(tmp_path: Path) -> None:
    run = read_run(records.make_run(tmp_path / "run", {(0, 0): records.flat(), (0, 1): records.flat()}, seeds=4))
    clock = Clock()
    progress = RunProgress(run.spec, FOLDER, {record.cell: record for record in run.records}, clock)
    assert progress.seconds_left is None
    assert any("2/4 cells  starting" in line for line in shown(progress))
    clock.now = 60.0  # imports and worker processes are not the pace of training
    feed(progress, Cell(0, 2), records.flat()[:51])  # half of a cell: an eighth of the run
    clock.now = 70.0
    assert any("2/4 cells  5,000 samples/s  30 s left" in line for line in shown(progress))
    progress.cells[Cell(0, 2)].outcome = progress.cells[Cell(0, 3)].outcome = DIVERGED  # nothing left to train
    assert any("4/4 cells  5,000 samples/s  took 1:10 min" in line for line in shown(progress))


def test_the_last_state_stays_on_the_terminal(spec: RunSpec) -> None:
    console = Console(file=io.StringIO(), width=80, force_terminal=True, _environ={"TERM": "xterm-256color"})
    observer = make_observer(console)
    assert isinstance(observer, LiveTable)
    observer.begin(spec, FOLDER, {})
    for cell in spec.cells():
        feed(observer, cell, records.jump(0.3))
        observer.ended(cell, DONE)
    observer.close()
    assert lines_of(console)[-2].startswith("below a curve")
    assert any("4/4 cells" in line for line in lines_of(console))
    observer.close()  # closing twice does no harm


def test_the_head_says_what_is_trained_against_which_threshold_and_where_it_lies() -> None:
    spec = records.make_spec(seeds=2).model_copy(update={"changes": {"protocol.seeds": 2, "model.depth": 4}})
    assert shown(RunProgress(spec, FOLDER, {}, Clock()))[:4] == [
        "vit on steps-v1, protocol quick",
        "threshold 0.750 accuracy",
        "protocol.seeds=2, model.depth=4",
        "runs/mine",
    ]


@pytest.mark.parametrize("height", [10, 16, 24, 40, 100])
def test_cells_in_training_are_in_view_whatever_the_height(height: int) -> None:
    spec = records.make_spec(rates=tuple(1e-3 * 2**power for power in range(8)), seeds=20)
    run = RunProgress(spec, FOLDER, {}, Clock())
    for cell in spec.cells()[:100]:
        feed(run, cell, records.flat())
        run.end(cell, DONE)
    busy = spec.cells()[100]
    feed(run, busy, [100, 110])
    lines = shown(run, 80, height)
    assert len(lines) < max(height, 13)  # a head, a bar, one row and the legend at the least
    labels = [line.split()[0] for line in lines if line.split() and "e-" in line.split()[0]]
    assert rate_label(spec.learning_rate(busy)) in labels
    hidden = [line for line in lines if "this terminal has no room for" in line]
    rows = 8 * 3  # seven seeds fit side by side
    assert hidden == ([f"and {rows - len(labels)} rows that this terminal has no room for"] if height < 60 else [])


def test_the_last_table_is_whole_however_low_the_terminal() -> None:
    spec = records.make_spec(rates=tuple(1e-3 * 2**power for power in range(8)), seeds=20)
    console = Console(file=io.StringIO(), width=80, height=20, force_terminal=True, _environ={"TERM": "xterm-256color"})
    observer = LiveTable(console, Clock())
    observer.begin(spec, FOLDER, {})
    observer.close()
    last = "\n".join(lines_of(console)).rpartition("vit on steps-v1")[2]
    assert last.count("seed 19") == 1
    assert last.count("1.28e-1") == 3


def test_no_color_is_honoured(spec: RunSpec) -> None:
    run = RunProgress(spec, FOLDER, {}, Clock())
    feed(run, Cell(0, 0), records.jump(0.3))
    colours = re.compile(r"\x1b\[[0-9;]*\b(3[0-7]|38;5|9[0-7])\b[0-9;]*m")
    for environment, expected in (({}, True), ({"NO_COLOR": "1"}, False)):
        environment = {"TERM": "xterm-256color", **environment}
        console = Console(file=io.StringIO(), width=80, force_terminal=True, _environ=environment)
        console.print(render_run(run, 80, 24))
        assert isinstance(console.file, io.StringIO)
        assert bool(colours.search(console.file.getvalue())) is expected


def test_a_loss_is_called_so_and_full_blocks_are_at_its_ceiling() -> None:
    spec = records.make_spec(task=records.LOSS_TASK)
    run, curve = RunProgress(spec, FOLDER, {}, Clock()), [4.0, 3.0, 2.95, 2.5, 2.0, 1.0, 1.0]
    for index, loss in enumerate(curve):
        point = Evaluation(samples=index * 1000, correct=0, loss=loss, train_loss=None, seconds=index)
        run.evaluated(Cell(0, 0), point, records.ITEMS)
    line = sparkline(run.cells[Cell(0, 0)], spec, 100)
    assert line.plain.startswith("▁▅▅▇███·")
    assert [str(span.style) for span in line.spans[:7]] == ["blue"] * 3 + ["yellow"] + ["green"] * 3
    assert any("★4.0k" in text for text in shown(run))
    assert any("latest loss" in text for text in shown(run))
    console = Console(file=io.StringIO(), width=80)
    observer = PlainLines(console)
    observer.begin(spec, FOLDER, {})
    for index, loss in enumerate(records.fall(0.3)):
        point = Evaluation(samples=index * 1000, correct=0, loss=loss / 1000, train_loss=None, seconds=index)
        observer.evaluated(Cell(0, 0), point, records.ITEMS)
    observer.ended(Cell(0, 0), DONE)
    assert "Eureka-moment at 30,000 of 100,000 samples, final loss 1.500 (38 s)" in lines_of(console)[-1]
