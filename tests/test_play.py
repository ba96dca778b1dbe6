"""A person plays a task in the terminal."""

import io

import pytest

from multistep_bench.gym.vector import TaskVectorEnv
from tests.commands import in_process


def played(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, text: str, *more: str) -> str:
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    code, out, err = in_process(capsys, "play", "two_step_digits-v1", *more)
    assert (code, err) == (0, "")
    return " ".join(out.split())


def test_a_right_answer_scores_beside_shortcut_and_ceiling(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    env = TaskVectorEnv("two_step_digits-v1", 1, "foveate")
    env.reset(seed=3)
    out = played(capsys, monkeypatch, f"look target_a\n{int(env.right_answers[0])}\n", "--seed", "3", "-n", "1")
    assert "Two-step task on scikit-learn" in out
    assert "Your mean return: 1.00 over 1 episodes." in out
    assert "the shortcut reaches 0.56, the ceiling is 1.00" in out


def test_the_end_of_the_input_ends_politely_and_a_wrong_line_is_explained(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = played(capsys, monkeypatch, "look nowhere\n")
    assert "'look nowhere' is no action." in out
    assert "Goodbye. Your mean return: no episode finished." in out


def test_an_unknown_mode_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = in_process(capsys, "play", "two_step_digits-v1", "--mode", "guess")
    assert code == 2
    assert "mode 'guess'" in err


def test_the_mean_is_over_all_episodes_and_each_is_a_new_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    env = TaskVectorEnv("two_step_digits-v1", 1)
    env.reset(seed=3)
    first = int(env.right_answers[0])
    env.reset()
    second = int(env.right_answers[0])
    text = f"{first}\n{(second + 1) % 8}\n"
    out = played(capsys, monkeypatch, text, "--seed", "3", "-n", "2", "--mode", "classify")
    assert "Type an answer's number." in out
    assert f"Return 1; the answer was {first}." in out
    assert f"Return 0; the answer was {second}." in out
    assert "Your mean return: 0.50 over 2 episodes." in out


def test_enter_goes_on_in_sequential_until_the_last_place(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    env = TaskVectorEnv("two_step_digits-v1", 1, "sequential")
    env.reset(seed=3)
    text = f"\n\n\n{int(env.right_answers[0])}\n"
    out = played(capsys, monkeypatch, text, "--seed", "3", "-n", "1", "--mode", "sequential")
    assert "Your mean return: 1.00 over 1 episodes." in out
