"""Stored runs outlive the code: new keys, other words, older forms, and a process that dies while it packs."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from records import drop, flat, jump, make_record, make_run, make_spec
from test_folder import SMALL, stop_after
from test_launch import curves

from multistep_bench.errors import RunError
from multistep_bench.runs.events import event_line
from multistep_bench.runs.folder import RunFolder
from multistep_bench.runs.spec import Cell, RunSpec
from multistep_bench.runs.store import RUN_FILE, SPEC_FILE, Run, read_run, record_path
from multistep_bench.scoring.score import score
from multistep_bench.training.launch import launch
from multistep_bench.training.plan import plan

CHECKOUT = Path(__file__).resolve().parents[1]
RESULTS = sorted((CHECKOUT / "baselines" / "results").glob("*/*/*.jsonl"))


@pytest.fixture(scope="module")
def spec() -> RunSpec:
    return plan("two_step_digits-v1", "user_models:linear", "smoke", SMALL)


NEW_KEYS = {
    ("protocol.py", "class Protocol(Strict):"): "    invented: float = 0.25\n",
    ("protocol.py", "class Recipe(Strict):"): "    invented: int = 3\n",
    ("cards.py", "class TaskCard(Strict):"): "    invented: str | None = None\n",
    ("cards.py", "class BaselineCard(Strict):"): "    invented: tuple[int, ...] = (1, 2)\n",
    ("cards.py", "class Scoring(Strict):"): "    invented: bool = True\n",
}

IN_THE_FUTURE = """
import sys
from pathlib import Path
from multistep_bench import cards
from multistep_bench.leaderboard.references import references
from multistep_bench.leaderboard.verify import verify_entry
from multistep_bench.runs.store import read_run
from multistep_bench.scoring.score import score
from multistep_bench.training.launch import launch
from multistep_bench.training.plan import plan
from present_cards import present_card
assert cards.load_task("two_step_digits-v1").protocol("smoke").invented == 0.25
assert "Reworded" in cards.load_task("two_step_digits-v1").summary
for path in sys.argv[2:]:
    run = read_run(path)
    assert not run.missing
    assert run.spec.task.sha256() == present_card(run.spec).sha256()
score(sys.argv[2:4])
for entry in references()[:3]:
    verdict = verify_entry(entry, entry.name)
    assert verdict.sound, verdict.problems
spec = plan("two_step_digits-v1", "user_models:linear", "smoke", {SMALL})
launch(spec, Path(sys.argv[1]), workers=1)
"""


def test_new_keys_and_other_words_in_cards_orphan_no_run(spec: RunSpec, tmp_path: Path) -> None:
    """Every stored run is readable and scorable, entries verify, and an interrupted run resumes."""
    future = tmp_path / "future"
    for name in ("multistep_bench", "tasks", "baselines"):
        shutil.copytree(CHECKOUT / name, future / name, ignore=shutil.ignore_patterns("__pycache__"))
    for (name, heading), key in NEW_KEYS.items():
        module = future / "multistep_bench" / name
        head, found, tail = module.read_text(encoding="utf-8").partition(heading)
        assert found
        docstring_end = tail.index('"""', tail.index('"""') + 3) + 4
        module.write_text(head + found + tail[:docstring_end] + key + tail[docstring_end:], encoding="utf-8")
    card = future / "tasks" / "two_step_digits-v1.toml"
    words = card.read_text(encoding="utf-8")
    card.write_text(words.replace('summary = """', 'summary = """Reworded. ', 1), encoding="utf-8")
    assert card.read_text(encoding="utf-8") != words

    whole = launch(spec, tmp_path / "whole", workers=1)
    stop_after(spec, tmp_path / "cut", cells=1)
    code = IN_THE_FUTURE.replace("{SMALL}", repr(SMALL))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(future), str(CHECKOUT / "tests")])}
    results = [str(future / path.relative_to(CHECKOUT)) for path in RESULTS]
    command = [sys.executable, "-c", code, str(tmp_path / "cut"), *results]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first = json.loads((tmp_path / "cut" / RUN_FILE).read_text(encoding="utf-8").splitlines()[0])
    assert first["identity"] == spec.identity()
    assert "Reworded" in first["spec"]["task"]["summary"]
    assert first["spec"]["task"]["protocols"]["smoke"].pop("invented") == 0.25
    lines = (tmp_path / "cut" / RUN_FILE).read_text(encoding="utf-8").splitlines()[1:]
    resumed = [json.loads(line) for line in lines]
    for record, cell in zip(whole.records, resumed, strict=True):
        assert cell["correct"] == record.curve.correct.tolist()


def test_other_words_in_the_specification_resume_and_are_kept(spec: RunSpec, tmp_path: Path) -> None:
    stop_after(spec, tmp_path / "run", cells=1)
    reworded = spec.model_copy(update={"task": spec.task.model_copy(update={"title": "Better words"})})
    run = launch(reworded, tmp_path / "run", workers=1)
    assert run.spec.task.title == "Better words"
    assert curves(run) == curves(launch(spec, tmp_path / "whole", workers=1))


KILLED_WHILE_PACKING = """
import os, signal, sys
from pathlib import Path
import multistep_bench.runs.folder as folder
from multistep_bench.runs.store import read_spec
path, moment = Path(sys.argv[1]), int(sys.argv[2])
names = ["write", "replace", "unlink", "fsync", "rmdir", "remove"]
count = 0
def dying(function):
    def call(*arguments, **options):
        global count
        if armed:
            if count == moment:
                os.kill(os.getpid(), signal.SIGKILL)
            count += 1
        return function(*arguments, **options)
    return call
armed = False
for name in names:
    setattr(os, name, dying(getattr(os, name)))
Path.unlink, Path.rmdir = dying(Path.unlink), dying(Path.rmdir)
with folder.RunFolder(path, read_spec(path)) as held:
    armed = True
    held.pack()
print("packed")
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="kills a process")
def test_a_process_killed_at_any_step_of_packing_leaves_the_run_whole(spec: RunSpec, tmp_path: Path) -> None:
    """Between any two calls that change the disk: every record is there, and packing again ends in the same file."""
    whole = launch(spec, tmp_path / "whole", workers=1)
    pieces = tmp_path / "pieces"
    unpack(tmp_path / "whole", pieces)
    for moment in range(40):
        folder = tmp_path / f"killed{moment}"
        shutil.copytree(pieces, folder)
        command = [sys.executable, "-c", KILLED_WHILE_PACKING, str(folder), str(moment)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert read_run(folder).records == whole.records
        if done.stdout == "packed\n":
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
        with RunFolder(folder, spec) as held:
            held.pack()
        assert (folder / RUN_FILE).read_bytes() == whole.packed
        assert not (folder / SPEC_FILE).exists()
        shutil.rmtree(folder)
    assert 4 <= moment < 39, "too few steps were seen for a kill to hit one, or the last never came"


def unpack(packed: Path, folder: Path) -> None:
    """The same run in pieces, as it was before it was packed."""
    run = read_run(packed)
    (folder / "cells").mkdir(parents=True)
    (folder / SPEC_FILE).write_text(run.spec.model_dump_json(by_alias=True), encoding="utf-8")
    for record in run.records:
        header = {
            "schema": "msb.cell/2",
            "identity": run.spec.identity(),
            "cell": [record.cell.rate_index, record.cell.seed_index],
            "environment": record.environment.model_dump(),
            "evaluation": record.curve.set.model_dump(),
            "auxiliary": {name: curve.set.model_dump() for name, curve in record.auxiliary.items()},
            "attempts": record.attempts,
        }
        interval = run.spec.protocol.interval
        events = "".join(map(event_line, [*record.evaluations(interval), record.outcome(interval)]))
        record_path(folder, record.cell).write_text(json.dumps(header) + "\n" + events, encoding="utf-8")


def test_a_cell_that_stands_in_both_forms_counts_as_its_file_says(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", {(0, 0): jump(0.5), (0, 1): flat()}, seeds=2)
    other = make_run(tmp_path / "other", {(0, 0): jump(0.5), (0, 1): jump(0.3)}, seeds=2)
    drop(other, Cell(0, 0))
    unpack(other, tmp_path / "pieces")
    shutil.copytree(tmp_path / "pieces" / "cells", folder / "cells")
    records = read_run(folder).records
    assert records[1] == make_record(make_spec(seeds=2), Cell(0, 1), jump(0.3))
    assert len(records) == 2


def test_the_packed_run_is_the_same_whatever_order_its_cells_ended_in(tmp_path: Path) -> None:
    run = read_run(make_run(tmp_path / "run", {(0, 0): jump(0.5), (0, 1): flat()}, seeds=2))
    backwards = Run(run.path, run.spec, run.records[::-1])
    assert backwards.packed == run.packed
    assert backwards.sha256 == run.sha256


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda text: text[:-1], "run.jsonl line 3 is cut off"),
        (lambda text: text.replace('"budget":100000', '"budget":200000', 1), "line 1: its identity .* was edited"),
        (lambda text: text.replace('"protocol_name":"quick"', '"protocol_name":"slow"', 1), "no protocol 'slow'"),
        (lambda text: "\n".join(text.split("\n")[i] for i in (0, 2, 1)) + "\n", "rate0-seed0 is no further cell"),
    ],
)
def test_a_packed_run_that_was_cut_or_edited_is_refused(
    edit: Callable[[str], str], message: str, tmp_path: Path
) -> None:
    file = make_run(tmp_path / "run", {(0, 0): jump(0.5), (0, 1): flat()}, seeds=2) / RUN_FILE
    text = file.read_text(encoding="utf-8")
    assert edit(text) != text
    file.write_text(edit(text), encoding="utf-8")
    with pytest.raises(RunError, match=message):
        read_run(file)


def test_an_incomplete_run_is_packed_only_when_asked_and_resumes_afterwards(spec: RunSpec, tmp_path: Path) -> None:
    stop_after(spec, tmp_path / "run", cells=1)
    with RunFolder(tmp_path / "run", spec) as held:
        held.pack()
        assert not (tmp_path / "run" / RUN_FILE).exists()
        run = held.pack(incomplete=True)
    assert run.missing == [Cell(0, 1)]
    assert (tmp_path / "run" / RUN_FILE).is_file()
    done = launch(spec, tmp_path / "run", workers=1)
    assert curves(done) == curves(launch(spec, tmp_path / "whole", workers=1))


def old_form(run_folder: Path, folder: Path) -> None:
    """A run folder as versions before 0.2 wrote it."""
    run = read_run(run_folder)
    (folder / "cells").mkdir(parents=True)
    (folder / SPEC_FILE).write_text(run.spec.model_dump_json(by_alias=True), encoding="utf-8")
    interval = run.spec.protocol.interval
    for record in run.records:
        header = {
            "schema": "msb.run/1",
            "spec_sha256": "f" * 64,
            "task": {"id": run.spec.task.id, "sha256": "e" * 64, "protocol": run.spec.protocol_name},
            "protocol": {},
            "model": {},
            "cell": {"rate_index": record.cell.rate_index, "learning_rate": 1e-3, "seed_index": 0, "seed": 1},
            "evaluation": record.curve.set.model_dump(),
            "secondary": {name: curve.set.model_dump() for name, curve in record.auxiliary.items()},
            "engine": record.environment.engine,
            "versions": record.environment.versions,
            "hardware": record.environment.hardware,
            "attempts": 1,
        }
        header["cell"]["seed_index"] = record.cell.seed_index
        lines = [json.dumps(header)]
        for event in record.evaluations(interval):
            content = event.model_dump()
            content["secondary"] = content.pop("auxiliary")
            lines.append(json.dumps(content))
        lines.append(json.dumps(record.outcome(interval).model_dump()))
        record_path(folder, record.cell).write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_a_folder_of_the_old_form_is_read_with_a_message_and_packed_on_request(tmp_path: Path) -> None:
    new = make_run(tmp_path / "new", {(0, 0): jump(0.5), (0, 1): flat()}, auxiliary={"hop 1": flat()})
    old_form(new, tmp_path / "old")
    with pytest.warns(UserWarning, match=r"of the form that versions before 0.2 wrote.*`mstep-bench pack`"):
        run = read_run(tmp_path / "old")
    assert run.records == read_run(new).records
    with pytest.warns(UserWarning, match="before 0.2"):
        assert score([tmp_path / "old"]).to_dict() == score([new]).to_dict()
    with pytest.warns(UserWarning, match="before 0.2"), RunFolder(tmp_path / "old", run.spec) as held:
        held.pack()
    assert (tmp_path / "old" / RUN_FILE).read_bytes() == (new / RUN_FILE).read_bytes()


def test_an_old_file_in_another_runs_folder_is_refused(tmp_path: Path) -> None:
    new = make_run(tmp_path / "new", {(0, 0): jump(0.5), (0, 1): flat()})
    old_form(new, tmp_path / "old")
    first, second = (record_path(tmp_path / "old", Cell(0, seed)) for seed in range(2))
    second.write_bytes(first.read_bytes())
    with pytest.warns(UserWarning, match="before 0.2"), pytest.raises(RunError, match="belongs to another run or cell"):
        read_run(tmp_path / "old")
