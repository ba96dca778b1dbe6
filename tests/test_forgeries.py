"""Ten thousand forgeries of an entry, every hash and score made to fit: refused, or open to see, and nothing breaks."""

import copy
import json
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import entries
import pytest
from entries import TASK
from pydantic import ValidationError

from multistep_bench.errors import BenchError
from multistep_bench.leaderboard.reading import read_entry
from multistep_bench.leaderboard.strict_json import Unreadable
from multistep_bench.leaderboard.verify import verify
from multistep_bench.runs.events import Environment
from multistep_bench.runs.spec import RunSpec
from multistep_bench.runs.store import Run, read_run

pytestmark = pytest.mark.slow
RUN = f"runs/{TASK}.jsonl"
ROUNDS, FORGERIES = 12, 500
STRANGE: list[Any] = [None, True, False, 0, -1, 1, 2**31, 2**53 + 1, 10**400, -0.0, 0.5, 1e-309, 1e308, float("nan")]
STRANGE += [float("inf"), -float("inf"), "", "x" * 300, "\x1b[31m", "\ud800", "../..", "<b>", [], {}, [[]], {"a": {}}]

Shapes = dict[tuple[Any, ...], list[tuple[Any, ...]]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return entries.make_entry(entries.make_board(tmp_path_factory.mktemp("made") / "board"))


def places(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where the values of plain data are."""
    inner = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in inner:
        yield (*path, key)
        yield from places(value, (*path, key))


def by_shape(content: Any) -> Shapes:
    """The same by their keys alone, so that a key of the header is as likely as all numbers of a curve."""
    found: Shapes = {}
    for place in places(content):
        found.setdefault(tuple("" if isinstance(key, int) else key for key in place), []).append(place)
    return found


def replace(parent: Any, key: Any, rng: random.Random) -> None:
    parent[key] = rng.choice(STRANGE)


def nudge(parent: Any, key: Any, rng: random.Random) -> None:
    if isinstance(parent[key], bool) or not isinstance(parent[key], int | float):
        return replace(parent, key, rng)
    parent[key] += rng.choice([-1, 1, 2, 0.5, 1e-6, -parent[key]])


def remove(parent: Any, key: Any, rng: random.Random) -> None:
    del parent[key]


def double(parent: Any, key: Any, rng: random.Random) -> None:
    if isinstance(parent, list):
        parent.insert(rng.randrange(len(parent) + 1), copy.deepcopy(parent[key]))
    else:
        parent[rng.choice(["further", str(key).upper(), ""])] = copy.deepcopy(parent[key])


def swap(parent: Any, key: Any, rng: random.Random) -> None:
    other = rng.choice(list(parent)) if isinstance(parent, dict) else rng.randrange(len(parent))
    parent[key], parent[other] = parent[other], parent[key]


CHANGES: list[Callable[[Any, Any, random.Random], None]] = [replace, nudge, nudge, remove, double, swap]


def forged(original: list[Any], shapes: Shapes, rng: random.Random) -> list[Any]:
    """The lines of a run, of these shapes, with one to three changes."""
    content = copy.deepcopy(original)
    for change in range(rng.choice([1, 1, 2, 3])):
        shapes = by_shape(content) if change else shapes
        if not shapes:
            break
        *way, key = rng.choice(shapes[rng.choice(sorted(shapes, key=str))])
        parent = content
        for step in way:
            parent = parent[step]
        rng.choice(CHANGES)(parent, key, rng)
    return content


def with_fitting_hashes(content: list[Any]) -> list[Any]:
    """The lines with the identity of their specification and the keys of their environments, where these are any."""
    head, *cells = content
    with suppress(ValidationError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        head["identity"] = RunSpec.model_validate_json(json.dumps(head["spec"])).identity()
    with suppress(ValidationError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        keys = {old: Environment.model_validate(each).key for old, each in head["environments"].items()}
        head["environments"] = {keys[old]: each for old, each in head["environments"].items()}
        for cell in cells:
            cell["environment"] = keys.get(cell["environment"], cell["environment"])
    return [head, *cells]


@pytest.mark.parametrize("round", range(ROUNDS))
def test_a_forgery_whose_hashes_all_fit_is_refused_or_shows(made: Path, tmp_path: Path, round: int) -> None:
    before = verify(made, draw_items=False)
    assert before.entry is not None
    assert before.score is not None
    original = [json.loads(line) for line in (made / RUN).read_text(encoding="utf-8").splitlines()]
    shapes = by_shape(original)
    rng = random.Random(round)
    entry = Path(shutil.copytree(made, tmp_path / "entries" / made.name))
    passed = 0
    for _ in range(FORGERIES):
        shutil.copyfile(made / "entry.json", entry / "entry.json")
        content = with_fitting_hashes(forged(original, shapes, rng))
        text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in content)
        (entry / RUN).write_bytes(text.encode("utf-8", "surrogatepass"))
        with suppress(BenchError):  # what cannot be read cannot be signed either
            run = read_run(entry / RUN)
            (entry / RUN).write_bytes(Run(entry / RUN, run.spec, run.records).packed)
        with suppress(BenchError, Unreadable, ValueError):
            entries.sign(entry)
        verdict = verify(entry, draw_items=False)
        assert verdict.sound or all(verdict.problems)
        if verdict.sound:
            passed += 1
            assert verdict.entry is not None
            assert verdict.score is not None
            same = (entry / RUN).read_bytes() == (made / RUN).read_bytes()
            assert (verdict.entry.root == before.entry.root) is same
            assert same or read_entry(entry).root != before.entry.root
            if same:
                assert verdict.score.to_dict() == before.score.to_dict()
    assert 0 < passed < FORGERIES  # some changes harm nothing, such as a version's last digit
