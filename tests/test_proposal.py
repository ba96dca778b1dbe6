"""What a pull request may change, its entry verified among the base's, and the workflow that asks for it."""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import entries
import pytest
from typer.testing import CliRunner

from multistep_bench.cli import app
from multistep_bench.errors import BenchError
from multistep_bench.leaderboard.proposal import LABEL, Change, Proposal, examine, read_changes

WORKFLOWS = entries.ROOT / ".github" / "workflows"
GIT = ["git", "-c", "user.name=tests", "-c", "user.email=tests@example.org", "-c", "commit.gpgsign=false"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two entries, "rival" and "fresh", on a board of their own."""
    board = entries.make_board(tmp_path_factory.mktemp("made") / "leaderboard")
    entries.make_entry(board, "rival", noise=1)
    entries.make_entry(board, "fresh", noise=2)
    return board


@pytest.fixture
def checkout(made: Path, tmp_path: Path) -> Path:
    """A repository whose board has the entry "rival"."""
    root = tmp_path / "checkout"
    shutil.copytree(made, root / "leaderboard", ignore=shutil.ignore_patterns("fresh"))
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "base"]):
        subprocess.run([*GIT, *command], cwd=root, check=True)
    return root


def add_fresh(entry: Path, made: Path) -> None:
    shutil.copytree(made / "entries" / "fresh", entry.parent / "fresh")


def add_two(entry: Path, made: Path) -> None:
    add_fresh(entry, made)
    entries.sign(Path(shutil.copytree(entry.parent / "fresh", entry.parent / "second")), name="second")


def add_code(entry: Path, made: Path) -> None:
    add_fresh(entry, made)
    (entry.parents[2] / "sitecustomize.py").write_text("raise SystemExit('the code of a pull request ran')")


def add_a_note(entry: Path, made: Path) -> None:
    add_fresh(entry, made)
    (entry.parent / "fresh" / "reproductions.jsonl").write_text("{}\n")


def add_nonsense(entry: Path, made: Path) -> None:
    (entry.parent / "nonsense").mkdir()
    (entry.parent / "nonsense" / "entry.json").write_text("{}")


def add_a_link(entry: Path, made: Path) -> None:
    (entry.parent / "linked").symlink_to(entry)


def change(entry: Path, made: Path) -> None:
    entries.edit_entry_file(entry, lambda content: content.update(url="https://example.org/elsewhere"))


def delete(entry: Path, made: Path) -> None:
    add_fresh(entry, made)
    shutil.rmtree(entry)


def steal(entry: Path, made: Path) -> None:
    entry.rename(entry.parent / "thief")
    entries.sign(entry.parent / "thief", name="thief")


Edit = Callable[[Path, Path], None]
# edit, what is said of it, and what is still said where a maintainer allows it
PULLS: dict[str, tuple[Edit, str, str]] = {
    "a new entry": (add_fresh, "", ""),
    "two entries": (add_two, "it changes 2 entries, fresh, second", "fresh: two_step_digits-v1/rate0-seed0"),
    "code beside it": (add_code, "sitecustomize.py is outside leaderboard/entries/NAME/", ""),
    "a note": (add_a_note, "holds notes of re-runs, which maintainers bring", "cannot be read"),
    "nonsense": (add_nonsense, "nonsense cannot be read", "nonsense cannot be read"),
    "a link": (add_a_link, "leaderboard/entries/linked is outside leaderboard/entries/NAME/", ""),
    "a change": (change, "entry rival is on the board already", ""),
    "a deletion": (delete, "leaderboard/entries/rival/entry.json is deleted", ""),
    "a rival's entry moved": (steal, "thief: two_step_digits-v1/rate0-seed0 shares a curve with rival", "with rival"),
}


@pytest.mark.parametrize("maintained", [False, True])
@pytest.mark.parametrize("name", PULLS)
def test_a_pull_request_may_add_one_sound_entry(
    checkout: Path, made: Path, tmp_path: Path, name: str, maintained: bool
) -> None:
    edit, alone, allowed = PULLS[name]
    proposed = Path(shutil.copytree(checkout, tmp_path / "proposed", symlinks=True))
    edit(proposed / "leaderboard" / "entries" / "rival", made)
    subprocess.run([*GIT, "add", "-A"], cwd=proposed, check=True)
    listing = ["diff", "--cached", "--no-ext-diff", "--no-textconv", "--no-renames", "--name-status", "-z", "HEAD"]
    changes = subprocess.run([*GIT, *listing], cwd=proposed, check=True, capture_output=True).stdout
    (tmp_path / "changes").write_bytes(changes)
    board = ["--proposed", str(proposed), "--board", str(checkout / "leaderboard")]
    options = ["--changes", str(tmp_path / "changes"), *board, *(["--maintained"] if maintained else [])]
    result = CliRunner().invoke(app, ["leaderboard", "check-pull", *options])
    expected = allowed if maintained else alone
    assert expected in result.output
    assert result.exit_code == (1 if expected else 0)
    if alone and not maintained and "cannot" not in alone and "shares" not in alone:
        assert f"a maintainer may allow it with the label {LABEL}" in result.output
    assert sorted(path.name for path in (checkout / "leaderboard" / "entries").iterdir()) == ["rival"]


@pytest.mark.parametrize("content", [b"", b"A\0leaderboard/x", b"A\0"])
def test_a_list_of_changes_that_says_nothing_is_no_success(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "changes").write_bytes(content)
    with pytest.raises(BenchError, match=r"cut off|empty"):
        read_changes(tmp_path / "changes")
    with pytest.raises(BenchError, match="cannot be read"):
        read_changes(tmp_path / "nowhere")


def test_a_path_of_any_bytes_is_named(made: Path, tmp_path: Path) -> None:
    (tmp_path / "changes").write_bytes(b"A\0leaderboard/entries/\xff\0")
    (change,) = read_changes(tmp_path / "changes")
    proposal = examine([change], tmp_path, made)
    assert isinstance(proposal, Proposal)
    assert proposal.problems[0].startswith("leaderboard/entries/\\udcff is outside")
    assert Change("A", "leaderboard/entries/a/entry.json").entry == "a"
    assert Change("A", "leaderboard/entries/entry.json").entry is None


@pytest.mark.parametrize("path", sorted(WORKFLOWS.glob("*.yml")), ids=lambda path: path.name)
def test_workflows_pin_their_actions_and_may_only_read(path: Path) -> None:
    text = path.read_text()
    actions = re.findall(r"uses: (\S+)", text)
    assert actions
    assert all(re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action) for action in actions)
    assert "permissions:\n  contents: read\n" in text
    assert "pull_request_target" not in text
    assert text.count("persist-credentials: false") == text.count("actions/checkout@")


def test_the_board_is_verified_by_isolated_python_from_an_empty_folder() -> None:
    text = (WORKFLOWS / "leaderboard.yml").read_text()
    assert "-euo pipefail" in text
    assert re.findall(r"python (?!-I )", text.replace("setup-python", "")) == []
    assert text.index('cd "$RUNNER_TEMP/empty"') < text.index("check-pull")
    assert f"github.event.label.name == '{LABEL}'" in text
    assert ".ci/run" in (WORKFLOWS / "tests.yml").read_text()
