"""A sweep trains every combination as one pool, with the curves that each has alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from test_launch import LINEAR, SMALL, TASK, curves

from multistep_bench.errors import BenchError, RunError
from multistep_bench.runs.events import Outcome
from multistep_bench.runs.record import Record
from multistep_bench.runs.spec import Cell, RunSpec
from multistep_bench.runs.store import read_run
from multistep_bench.training.launch import launch, launch_all
from multistep_bench.training.plan import plan
from multistep_bench.training.relay import NullObserver
from multistep_bench.training.sweep import Sweep, launch_sweep, plan_sweeps, read_sweeps, sweep

WIDTHS = {"plain": {}, "eight": {"protocol.batch_size": 8}}


class Ends(NullObserver):
    """Writes the end of each cell into a list that several runs share, and what was packed by then."""

    def __init__(self, name: str, ends: list[tuple[str, Cell]], folders: Mapping[str, Path] | None = None) -> None:
        self.name, self.ends, self.folders = name, ends, folders or {}
        self.packed: set[str] = set()

    def begin(self, spec: RunSpec, folder: Path, finished: Mapping[Cell, Record]) -> None:
        self.finished = dict(finished)

    def ended(self, cell: Cell, outcome: Outcome) -> None:
        self.ends.append((self.name, cell))
        self.packed |= {name for name, folder in self.folders.items() if (folder / "run.jsonl").is_file()}


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory):
    root = tmp_path_factory.mktemp("sweep")
    asked = Sweep(tasks=(TASK,), models=(LINEAR,), protocol="smoke", variants=WIDTHS, changes=SMALL)
    return plan_sweeps([asked], root), root


def test_each_combination_has_its_folder_and_the_curves_of_a_run_alone(members, tmp_path: Path) -> None:
    runs, root = members
    assert [member.folder for member in runs] == [
        root / TASK / "user_models-linear-plain" / "smoke",
        root / TASK / "user_models-linear-eight" / "smoke",
    ]
    done = launch_sweep(runs, workers=2)
    assert [run.spec.protocol.batch_size for run in done] == [16, 8]
    for member, run in zip(runs, done, strict=True):
        alone = launch(member.spec, tmp_path / member.folder.parent.name, workers=1)
        assert curves(run) == curves(alone)
        assert len(curves(run)) == 4
    again: list[tuple[str, Cell]] = []
    launch_sweep(runs, observers=[Ends("plain", again), Ends("eight", again)])
    assert not again  # all was done


def test_the_longest_cells_go_first_and_a_run_is_packed_when_its_last_cell_ends(members, tmp_path: Path) -> None:
    short, long = (plan(TASK, LINEAR, "smoke", {**SMALL, "protocol.budget": budget}) for budget in (1600, 3200))
    folders = {"short": tmp_path / "short", "long": tmp_path / "long"}
    ends: list[tuple[str, Cell]] = []
    observers = [Ends("short", ends, folders), Ends("long", ends, folders)]
    launch_all([(short, folders["short"]), (long, folders["long"])], observers=observers, workers=1)
    assert [name for name, _ in ends] == ["long"] * 4 + ["short"] * 4
    assert observers[0].packed == {"long"}  # while the short one still trained


def test_a_model_that_breaks_stops_no_other(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"changes": {**SMALL, "protocol.learning_rates": [1e-4, 0.3], "protocol.seeds": 1}}
    with pytest.raises(RunError, match=r"cells did not finish .*; the same call tries them again"):
        sweep((TASK,), ("user_models:raises", LINEAR), "smoke", tmp_path / "raised", workers=2, **settings)
    assert not read_run(tmp_path / "raised" / TASK / "user_models-linear" / "smoke").missing
    broken, whole = sweep(
        (TASK,), ("user_models:raises", LINEAR), "smoke", tmp_path / "kept", on_failure="keep", workers=1, **settings
    )
    assert broken.failed
    assert not whole.failed
    assert len(whole.records) == 2


def test_nothing_is_trained_where_one_combination_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"gpt on two_step_digits-v1 cannot be part of the sweep.*reads tokens"):
        sweep((TASK,), (LINEAR, "gpt"), "smoke", tmp_path / "root", changes=SMALL)
    assert not (tmp_path / "root").exists()
    with pytest.raises(RunError, match=r"vti on two_step_digits-v1 cannot be part.*Did you mean 'vit'\?"):
        sweep((TASK,), ("vti",), "smoke", tmp_path / "root")
    asked = Sweep(tasks=(TASK,), models=(LINEAR, LINEAR), protocol="smoke", changes=SMALL)
    with pytest.raises(RunError, match="two runs of the sweep would share the folder"):
        plan_sweeps([asked], tmp_path / "root")
    with pytest.raises(BenchError, match="variant 'a/b': letters, digits"):
        plan_sweeps([asked.model_copy(update={"variants": {"a/b": {}}})], tmp_path / "root")


def test_a_root_that_holds_another_sweep_is_left_as_it_is(members, tmp_path: Path) -> None:
    runs, _ = members
    other = plan(TASK, LINEAR, "smoke", {**SMALL, "protocol.seeds": 1})
    moved = [type(runs[0])(member.spec, member.name, tmp_path / name) for member, name in zip(runs, "ab", strict=True)]
    launch(other, tmp_path / "b", workers=1)
    with pytest.raises(RunError, match="b holds another run"):
        launch_sweep(moved)
    assert not (tmp_path / "a").exists()


def test_a_file_names_sweeps(tmp_path: Path) -> None:
    path = tmp_path / "sweep.toml"
    path.write_text(
        '[[sweep]]\ntasks = ["mlm_agreement-v1"]\nmodels = ["bert", "bert_tau"]\nprotocol = "standard"\n'
        '[[sweep]]\nmodels = ["vit"]\n[sweep.variants.wide]\n"model.width" = 64\n',
        encoding="utf-8",
    )
    first, second = read_sweeps(path)
    assert (first.tasks, first.models, first.protocol) == (("mlm_agreement-v1",), ("bert", "bert_tau"), "standard")
    assert (second.tasks, second.protocol) == (("two_step_digits-v1",), "quick")
    assert second.variants == {"wide": {"model.width": 64}}
    path.write_text("[[sweep]]\nmodels = []\nmodel = 'vit'\n", encoding="utf-8")
    with pytest.raises(BenchError, match=r"sweep\.toml.*did you mean 'models'"):
        read_sweeps(path)
