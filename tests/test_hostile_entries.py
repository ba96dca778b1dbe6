"""Entries written to break the reader: each is refused in one sentence, none crashes, runs or reaches outside."""

import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import entries
import pytest
from entries import TASK, URL
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from multistep_bench.errors import BenchError
from multistep_bench.leaderboard import reading
from multistep_bench.leaderboard.entry import is_entry_name, is_url
from multistep_bench.leaderboard.strict_json import Unreadable, strict_json
from multistep_bench.leaderboard.submission import submit
from multistep_bench.leaderboard.verify import verify

RUN = f"runs/{TASK}.jsonl"
FILES = ("entry.json", RUN)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return entries.make_entry(entries.make_board(tmp_path_factory.mktemp("made") / "board"))


@pytest.fixture
def entry(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "entries" / "mine"))


def refused(entry: Path) -> str:
    """The problems of an entry that cannot be read."""
    verdict = verify(entry)
    assert not verdict.readable
    return "; ".join(verdict.problems)


def replaced(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


NESTED = "[" * 200_000 + "]" * 200_000
HEAVY = "".join(f'"v{number}":"{"x" * 3000}",' for number in range(6))
HOSTILE_JSON: dict[str, tuple[str, str, str, str]] = {
    "deep": ("entry.json", '"runs": [', f'"runs": {NESTED}, "x": [', "RecursionError"),
    "rather deep": ("entry.json", '"runs": [', f'"x": {"[" * 20}{"]" * 20}, "runs": [', "nested more than 12 deep"),
    "deep in a record": (RUN, '"seconds":[0.0', f'"seconds":[{NESTED},0.0', "nested too deep"),
    "rather deep in a record": (
        RUN,
        '"seconds":[0.0',
        f'"seconds":[{"[" * 20}{"]" * 20}',
        "more than numbers and null",
    ),
    "NaN": (RUN, '"seconds":[0.0', '"seconds":[NaN', "seconds holds null or a negative number"),
    "infinity": (RUN, '"seconds":[0.0', '"seconds":[Infinity', "too large to be one"),
    "a number beyond floats": (RUN, '"seconds":[0.0', '"seconds":[1e999', "too large to be one"),
    "NaN in the specification": (RUN, '"weight_decay":0.05', '"weight_decay":NaN', "NaN is no number"),
    "infinity in free text": (RUN, '"hardware":{', '"hardware":{"x":1e999,', "too large"),
    "a key twice": (RUN, '"seconds":[', '"seconds":[9.0],"seconds":[', "is not written as the harness writes it"),
    "a key twice in disguise": (RUN, '"seconds":[', '"second\\u0073":[9.0],"seconds":[', "not written as the harness"),
    "a key twice in the specification": (RUN, '"seeds":2', '"seeds":3,"seeds":2', "a key occurs twice"),
    "another spelling of a number": (RUN, '"seconds":[0.0', '"seconds":[0.00', "not written as the harness writes it"),
    "a space": (RUN, '"seconds":[0.0', '"seconds": [0.0', "not written as the harness writes it"),
    "a space in the specification": (RUN, '"seeds":2', '"seeds": 2', "not written as the harness writes it"),
    "a number as text": (RUN, '"seconds":[0.0', '"seconds":["0.0"', "more than numbers and null"),
    "a negative count": (RUN, '"correct":[', '"correct":[-1,', "are no two arrays of one length"),
    "a count of 5,000 digits": (RUN, '"attempts":1', f'"attempts":{"9" * 5000}', "line 2"),
    "a count of 400 digits": (RUN, '"attempts":1', f'"attempts":{"9" * 400}', "attempts: Input should be less than"),
    "5,000 digits in the specification": (RUN, '"seeds":2', f'"seeds":{"9" * 5000}', "a number of 5000 digits"),
    "truth for a number": (RUN, '"seconds":[0.0', '"seconds":[false', "more than numbers and null"),
    "an unknown key": ("entry.json", '"url"', '"code": "import os", "url"', "Extra inputs are not permitted"),
    "an unknown key in a record": (RUN, '"attempts":1', '"attempts":1,"code":"import os"', "Extra inputs are not"),
    "an unknown key in the specification": (RUN, '"seeds":2', '"seeds":2,"code":"x"', "Extra inputs are not permitted"),
    "not UTF-8": ("entry.json", '"mine"', '"m\\ud800ne"', "characters that do not show"),
    "text from right to left": (RUN, '"one cell at a time"', '"\\u202etests"', "characters that do not show"),
    "an escape code": (RUN, '"one cell at a time"', '"\\u001b[31mred"', "characters that do not show"),
    "an escape code as a reason": (
        RUN,
        '"attempts":1',
        '"reason":"\\u001b[31m","attempts":1',
        "its reason does not show",
    ),
    "a long text": (RUN, '"one cell at a time"', f'"{"x" * 5000}"', "5000 characters, more than 4000"),
    "a hash that is none": ("entry.json", '"root": "', '"root": "z', "should match pattern"),
    "another schema": ("entry.json", "msb.entry/2", "msb.entry/3", "Input should be 'msb.entry/2'"),
    "no track": ("entry.json", '"track": "fixed"', '"track": "gold"', "Input should be 'fixed' or 'open'"),
    "more cells than can be": (RUN, '"seeds":2,', '"seeds":99999,', "asks for more than 2000 cells"),
    "more evaluations than can be": (RUN, '"evaluations":100', '"evaluations":20000000', "line 1"),
    "a threshold near nothing": (RUN, '"threshold_fraction":0.5', '"threshold_fraction":1e-309', "line 1"),
    "another task than its file": (RUN, f'"id":"{TASK}"', '"id":"two_step-v1"', "is of task two_step-v1"),
    "no such protocol": (RUN, '"protocol_name":"smoke"', '"protocol_name":"quick"', "holds no protocol 'quick'"),
    "another identity": (RUN, '"identity":"', '"identity":"0', "its identity is not that of its specification"),
    "a heavy environment": (RUN, '"versions":{', f'"versions":{{{HEAVY}', "has more than 16384 bytes"),
}


@pytest.mark.parametrize("name", HOSTILE_JSON)
def test_hostile_json_is_refused(entry: Path, name: str) -> None:
    file, old, new, expected = HOSTILE_JSON[name]
    replaced(entry / file, old, new)
    assert expected in refused(entry)


def link(entry: Path) -> None:
    (entry / RUN).unlink()
    (entry / RUN).symlink_to("/etc/hostname")


def link_to_folder(entry: Path) -> None:
    outside = entry.parent.parent / "outside"
    (entry / "runs").rename(outside)
    (entry / "runs").symlink_to(outside)


def named_pipe(entry: Path) -> None:
    (entry / RUN).unlink()
    os.mkfifo(entry / RUN)


def adding(name: str, size: int = 1) -> Callable[[Path], None]:
    def add(entry: Path) -> None:
        (entry / name).parent.mkdir(parents=True, exist_ok=True)
        (entry / name).write_bytes(b"x" * size)

    return add


HOSTILE_TREES: dict[str, tuple[Callable[[Path], None], str]] = {
    "a link": (link, "is no plain file"),
    "a linked folder": (link_to_folder, "'runs' is no plain file"),
    "a pipe": (named_pipe, "is no plain file"),
    "code": (adding("model.py"), "'model.py' is no file of an entry"),
    "an archive": (adding("runs/all.zip"), "'runs/all.zip' is no file of an entry"),
    "a large manifest": (adding("entry.json", reading.FILE_BYTES + 1), f"more than {reading.FILE_BYTES}"),
    "a pickle": (adding("runs/checkpoints/rate0-seed0.pt"), "is no plain file"),
    "a device's name": (adding("nul"), "'nul' is no file of an entry"),
    "upper case": (adding("Entry.json"), "'Entry.json' is no file of an entry"),
    "a name of other letters": (adding("runs/ｔwo-v1.jsonl"), "is no file of an entry"),
    "a name with a newline": (adding("entry.json\n"), r"'entry.json\n' is no file of an entry"),
    "a hidden file": (adding(".git"), "'.git' is no file of an entry"),
    "a large file": (adding(RUN, reading.ENTRY_BYTES + 1), f"more than 64 files or {reading.ENTRY_BYTES} bytes"),
    "a run that is none": (adding("runs/two_step-v1.jsonl"), "is not a whole run"),
    "a folder of cells": (adding(f"runs/{TASK}/cells/rate0-seed0.jsonl"), "is no plain file"),
    "an empty folder": (lambda entry: (entry / "runs" / "x").mkdir(), "is no plain file"),
    "no entry.json": (lambda entry: (entry / "entry.json").unlink(), "entry.json is missing"),
}


@pytest.mark.parametrize("name", HOSTILE_TREES)
def test_a_hostile_tree_is_refused(entry: Path, name: str) -> None:
    change, expected = HOSTILE_TREES[name]
    change(entry)
    assert expected in refused(entry)


def test_too_many_files_are_not_all_read(entry: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "ENTRY_FILES", 50)
    for number in range(60):
        adding(f"junk{number}")(entry)
    monkeypatch.setattr(reading, "_bytes", None)  # nothing is opened
    assert "more than 50 files" in refused(entry)


def test_an_entry_that_is_a_link_is_refused(entry: Path) -> None:
    linked = entry.parent / "linked"
    linked.symlink_to(entry)
    assert "is no folder" in refused(linked)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "A",
        "..",
        ".",
        "a/b",
        "/etc",
        "a b",
        "con",
        "nul",
        "com1",
        "lpt9",
        "vіt",
        "a" * 65,
        "a\n",
        "-a",
        "_a",
        "é",
        "a.",
    ],
)
def test_names_that_are_no_folder_everywhere_are_refused(name: str) -> None:
    assert not is_entry_name(name)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org",
        "javascript:alert(1)",
        "https://",
        "https://user:word@example.org",
        "https://example.org/\"onclick='x'",
        "https://example.org/<script>",
        "https://exаmple.org",  # a Cyrillic а
        "https://example.org/ x",
        "https://example.org/\n",
        "https://example.org/" + "x" * 200,
        "data:text/html,x",
    ],
)
def test_addresses_that_are_not_plain_https_are_refused(url: str) -> None:
    assert not is_url(url)
    assert is_url("https://github.com/someone/some-model/tree/v1.0#readme")


@pytest.mark.parametrize("name", ["../escaped", "/tmp/escaped", "CON", "a\u202eb"])
def test_nothing_is_written_for_a_hostile_name(tmp_path: Path, name: str) -> None:
    board = entries.make_board(tmp_path / "board")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(BenchError, match="--name"):
        submit([], name, URL, board=board)
    assert sorted(tmp_path.rglob("*")) == before


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_json_or_refused(content: bytes) -> None:
    with suppress(Unreadable):
        strict_json(content, "here")


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=20),
    st.just([]),
    st.just({}),
    st.just("<script>alert(1)</script>"),
)
STEPS = st.lists(st.integers(0, 10**6), min_size=1, max_size=8)


def leaves(content: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The places of all values in plain data."""
    inner = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    return (
        [path, *(leaf for key, value in inner for leaf in leaves(value, (*path, key)))]
        if path
        else [leaf for key, value in inner for leaf in leaves(value, (key,))]
    )


def mutate(content: Any, data: st.DataObject) -> Any:
    """Plain data with one value replaced, removed or doubled; never the same data."""
    place = data.draw(st.sampled_from(leaves(content)), "place")
    changed = json.loads(json.dumps(content))
    parent = changed
    for key in place[:-1]:
        parent = parent[key]
    kind = data.draw(st.sampled_from(["replace", "remove", "nudge"]), "kind")
    if kind == "remove":
        del parent[place[-1]]
    elif kind == "nudge" and type(parent[place[-1]]) in (int, float):
        parent[place[-1]] += data.draw(st.sampled_from([-1, 1, 0.5, 1e-6]), "step")
    else:
        parent[place[-1]] = data.draw(SCALARS, "value")
    return changed


def text_of(content: Any, lines: bool) -> str:
    if not lines:
        return json.dumps(content)
    return "".join(json.dumps(each, separators=(",", ":")) + "\n" for each in content)  # NaN and infinity too


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_every_mutation_of_a_valid_entry_is_rejected(made: Path, tmp_path_factory: Any, data: st.DataObject) -> None:
    """Files changed without their hashes: nothing passes, nothing crashes."""
    entry = Path(shutil.copytree(made, tmp_path_factory.mktemp("fuzz") / "mine"))
    path = entry / data.draw(st.sampled_from(FILES), "file")
    original = path.read_bytes()
    if data.draw(st.booleans(), "as data"):
        lines = path.suffix == ".jsonl"
        content = [json.loads(each) for each in original.splitlines()] if lines else json.loads(original)
        changed = mutate(content, data)
        if json.dumps(changed) == json.dumps(content):
            return
        path.write_text(text_of(changed, lines))
    else:
        place = data.draw(st.integers(0, len(original) - 1), "byte")
        cut = data.draw(st.integers(0, 40), "bytes removed")
        changed = original[:place] + data.draw(st.binary(max_size=5), "put there") + original[place + cut :]
        if changed == original or (path.suffix == ".json" and same_json(changed, original)):
            return
        path.write_bytes(changed)
    verdict = verify(entry, draw_items=False)
    shutil.rmtree(entry.parent)
    assert not verdict.sound
    assert verdict.score is None


def same_json(one: bytes, other: bytes) -> bool:
    try:
        return json.loads(one) == json.loads(other)
    except ValueError:
        return False


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_every_forgery_with_fitting_hashes_is_rejected_or_shows(
    made: Path, tmp_path_factory: Any, data: st.DataObject
) -> None:
    """A record changed and every hash and score made to fit again: rejected, or what the board shows has changed."""
    before = verify(made, draw_items=False)
    entry = Path(shutil.copytree(made, tmp_path_factory.mktemp("forged") / "mine"))
    path = entry / RUN
    content = [json.loads(each) for each in path.read_text().splitlines()]
    changed = mutate(content, data)
    if json.dumps(changed) == json.dumps(content):
        return
    path.write_text(text_of(changed, lines=True))
    with suppress(BenchError, ValueError):  # not even the forger can read or score it
        entries.sign(entry)
    verdict = verify(entry, draw_items=False)
    shutil.rmtree(entry.parent)
    if verdict.sound:
        assert verdict.entry is not None
        assert before.entry is not None
        assert verdict.entry.root != before.entry.root
