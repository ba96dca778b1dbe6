"""Every registered id in every mode: gymnasium's checks, spaces, seeds and the beginning of the next episode."""

import functools
import itertools
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import error
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

from multistep_bench.cards import list_tasks
from multistep_bench.errors import DataMissing
from multistep_bench.generators.base import TaskGenerator
from multistep_bench.generators.task import make_task
from multistep_bench.gym import NAMESPACE
from multistep_bench.gym.vector import MODES, TaskVectorEnv

NO_ANSWER = ("mlm_wikitext-v1",)  # scores the loss of many positions
CASES = [(task, mode) for task in list_tasks() if task not in NO_ANSWER for mode in MODES]


@functools.cache
def generator(task: str) -> TaskGenerator:
    """The task's generator, which the environments of this file share; skips where files of the task are missing."""
    try:
        return make_task(task)
    except DataMissing as missing:
        pytest.skip(str(missing))


def made(task: str, mode: str, **settings: Any) -> TaskVectorEnv:
    """Three environments by the id."""
    settings |= {"task": generator(task), "mode": mode}
    many = gymnasium.make_vec(f"{NAMESPACE}/{task}", 3, vectorization_mode="vector_entry_point", **settings)
    assert isinstance(many, TaskVectorEnv)
    return many


def rows(value: Any, index: Any) -> Any:
    """The environments `index` of batched observations, as a list of arrays."""
    if isinstance(value, dict):
        return [array for name in sorted(value) for array in rows(value[name], index)]
    return [np.asarray(value)[index]]


def equal(one: Any, other: Any, index: Any = slice(None)) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(rows(one, index), rows(other, index), strict=True))


def mixed_actions(env: TaskVectorEnv, step: int) -> np.ndarray:
    """Looks and answers in turn, other ones in each environment, so that episodes end at different steps."""
    if env.mode != "foveate":
        return np.full(3, step % env.task_info.num_classes)
    answers = (np.arange(3) + step) % 3 == 0
    return np.where(answers, env.looks, step % env.looks)


@pytest.mark.parametrize(("task", "mode"), CASES)
@pytest.mark.filterwarnings("error")
def test_gymnasiums_checks_pass(task: str, mode: str) -> None:
    settings: dict[str, Any] = {"task": generator(task), "mode": mode}
    check_env(gymnasium.make(f"{NAMESPACE}/{task}", render_mode="ansi", **settings).unwrapped)


@pytest.mark.parametrize("split", ["train", "eval"])
@pytest.mark.parametrize(("task", "mode"), CASES)
def test_observations_lie_in_their_space_and_a_seed_fixes_them(task: str, mode: str, split: str) -> None:
    one, two = made(task, mode, split=split), made(task, mode, split=split)
    first, info = one.reset(seed=4)
    again, _ = two.reset(seed=4)
    assert equal(first, again)
    assert set(info["steps"]) == set(one.task_info.steps)
    for step in range(25):
        action = mixed_actions(one, step)
        (first, *rest, info), (again, *others, _) = one.step(action), two.step(action)
        assert one.observation_space.contains(first)
        assert equal(first, again)
        assert all(np.array_equal(a, b) for a, b in zip(rest, others, strict=True))
    whole = one.batch.inputs  # type: ignore[union-attr]
    one.reset(seed=5)
    assert not equal(whole, one.batch.inputs)  # type: ignore[union-attr]


@pytest.mark.parametrize(("task", "mode"), CASES)
def test_an_ended_episode_is_followed_by_a_new_one_and_the_others_go_on(task: str, mode: str) -> None:
    env = made(task, mode)
    observation, _ = env.reset(seed=0)
    ended = np.zeros(3, bool)
    for step in range(40):
        before = [array.copy() for array in rows(env.batch.inputs, slice(None))]  # type: ignore[union-attr]
        seen, rewards, terminated, truncated, _ = env.step(mixed_actions(env, step))
        after = rows(env.batch.inputs, slice(None))  # type: ignore[union-attr]
        for index in range(3):
            new = any(not np.array_equal(a[index], b[index]) for a, b in zip(before, after, strict=True))
            assert new == ended[index], "NEXT_STEP begins an episode in the step after its end, and only then"
        assert not rewards[ended].any()
        assert not (terminated | truncated)[ended].any()
        if mode == "classify":
            assert equal(seen, observation) != ended.all()
        observation, ended = seen, terminated | truncated


@pytest.mark.parametrize(("task", "mode"), CASES)
def test_same_step_gives_the_last_observation_beside_the_first_of_the_next_episode(task: str, mode: str) -> None:
    same, spent = made(task, mode, autoreset_mode=AutoresetMode.SAME_STEP), made(task, mode)
    assert equal(same.reset(seed=0)[0], spent.reset(seed=0)[0])
    answer = np.full(3, same.looks)
    for _ in range(len(same.places) if mode == "sequential" else 1):
        observation, rewards, terminated, _, info = same.step(answer)
        last, *others, _, last_info = spent.step(answer)
    assert terminated.all()
    assert np.array_equal(rewards, others[0])
    assert equal(info["final_obs"], last)
    assert equal(info["final_info"]["steps"], last_info["steps"])
    fresh, *_, fresh_info = spent.step(answer)
    assert equal(observation, fresh)
    assert equal(info["steps"], fresh_info["steps"])


@pytest.mark.parametrize("task", NO_ANSWER)
def test_a_task_of_many_answers_says_so(task: str) -> None:
    with pytest.raises(error.UnsupportedMode, match="a sample asks for several answers; choose a task with one"):
        made(task, "classify")


def test_a_markov_sequence_without_a_most_frequent_successor_is_no_episode() -> None:
    """Three states, 300 episodes: the last state has a single most frequent successor, which alone earns the reward."""
    env = gymnasium.make_vec(f"{NAMESPACE}/markov-v1", 300, vectorization_mode="vector_entry_point")
    walks, _ = env.reset(seed=0)
    successors = np.zeros((300, 3), int)
    for walk, count in zip(walks, successors, strict=True):
        for state, following in itertools.pairwise(walk):
            count[following] += state == walk[-1]
    assert ((successors == successors.max(1, keepdims=True)).sum(1) == 1).all()
    _, rewards, *_ = env.step(successors.argmax(1))
    assert rewards.all()
    env.step(successors.argmax(1))  # NEXT_STEP: begins the next episodes


def test_every_verb_of_the_right_class_answers_a_masked_sentence_and_no_other_token() -> None:
    env = TaskVectorEnv("mlm_agreement-v1", 50)
    sentences, info = env.reset(seed=0)
    assert (sentences[:, :-1] < 72).all()  # only the verb is masked
    assert (sentences[:, -1] == 72).all()
    earned = []
    for token in range(72):
        env.reset(seed=0)
        earned.append(env.step(np.full(50, token))[1])
    verbs = env.task.verb_ids.numpy()  # type: ignore[attr-defined]  # class, member
    expected = np.zeros((72, 50))
    for number, asked in enumerate(info["steps"]["class"]):
        expected[verbs[asked], number] = 1
    assert np.array_equal(np.stack(earned), expected)
