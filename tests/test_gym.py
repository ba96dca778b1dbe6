"""Environments: what an agent sees, what it is paid, and when an episode ends."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import error
from gymnasium.vector import AutoresetMode

import multistep_bench as mb
from multistep_bench.cards import list_tasks
from multistep_bench.gym.pictures import as_picture, as_text
from multistep_bench.gym.vector import TaskVectorEnv

DIGITS = "two_step_digits-v1"


def test_the_id_can_name_the_module_and_every_card_has_an_id_without_torch() -> None:
    code = (
        "import sys, json, gymnasium; import multistep_bench.gym;"
        "ids = [each for each in gymnasium.registry if each.startswith('multistep_bench/')];"
        "print(json.dumps([ids, 'torch' in sys.modules]))"
    )
    make = (
        "import gymnasium, json; name = 'multistep_bench.gym:multistep_bench/two_step_digits-v1';"
        "print(json.dumps(gymnasium.make(name).reset(seed=0)[0].shape))"
    )
    ids, torch_was_loaded = _printed(code)
    assert sorted(ids) == sorted(f"multistep_bench/{task}" for task in list_tasks())
    assert not torch_was_loaded
    assert _printed(make) == [3, 16, 16]


def _printed(code: str) -> Any:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_foveate_shows_one_tile_charges_for_the_look_and_pays_for_the_answer() -> None:
    env = TaskVectorEnv(DIGITS, 2, "foveate", look_cost=0.1)
    observation, _ = env.reset(seed=3)
    assert env.batch is not None
    assert not observation["view"].any()
    assert not observation["place"].any()
    whole = env.batch.inputs.numpy()  # type: ignore[union-attr]
    observation, rewards, terminated, _, _ = env.step(np.array([1, 2]))
    assert np.array_equal(observation["view"][0, :, :8, 8:], whole[0, :, :8, 8:])  # top right
    assert np.array_equal(observation["view"][1, :, 8:, :8], whole[1, :, 8:, :8])  # bottom left
    assert observation["view"][0, :, 8:].max() == 0 == observation["view"][0, :, :, :8].max()
    assert observation["place"].tolist() == [[0, 1, 0, 0], [0, 0, 1, 0]]
    assert rewards.tolist() == [-0.1, -0.1]
    assert not terminated.any()
    right = env.batch.targets
    _, rewards, terminated, _, _ = env.step(torch.stack((4 + right[0], 4 + (right[1] + 1) % 8)))
    assert rewards.tolist() == [1, 0]
    assert terminated.all()


def test_sequential_shows_each_token_in_order_and_counts_the_last_action_alone() -> None:
    env = TaskVectorEnv("lookup-v1", 3, "sequential")
    observation, _ = env.reset(seed=0)
    assert env.batch is not None
    for place in range(12):
        assert (observation["view"][:, place] == env.batch.inputs[:, place].numpy()).all()  # type: ignore[index]
        assert (np.delete(observation["view"], place, 1) == -1).all()
        action = env.batch.targets if place == 11 else (env.batch.targets + 1) % 16
        observation, rewards, terminated, _, _ = env.step(action)
        assert terminated.all() == (place == 11)
        assert rewards.tolist() == [float(place == 11)] * 3


def test_looking_for_ever_is_truncated() -> None:
    env = TaskVectorEnv(DIGITS, 1, "foveate", max_looks=3)
    env.reset(seed=0)
    ends = [(bool(done[0]), bool(late[0])) for _ in range(3) for *_, done, late, _ in [env.step([0])]]
    assert ends == [(False, False), (False, False), (False, True)]


def test_an_answer_in_the_last_allowed_step_ends_the_episode_and_is_not_cut_off() -> None:
    env = TaskVectorEnv(DIGITS, 1, "foveate", max_looks=2)
    env.reset(seed=0)
    env.step([0])
    _, rewards, terminated, truncated, _ = env.step(4 + env.right_answers)
    assert (rewards.tolist(), terminated.tolist(), truncated.tolist()) == ([1], [True], [False])


def test_writing_into_an_observation_changes_no_later_one() -> None:
    env = TaskVectorEnv(DIGITS, 2, autoreset_mode=AutoresetMode.SAME_STEP)
    observation, _ = env.reset(seed=0)
    kept = observation.copy()
    observation[:] = 0
    *_, info = env.step([0, 0])
    assert np.array_equal(info["final_obs"], kept)


def test_a_mask_restarts_some_environments_and_leaves_what_was_handed_out() -> None:
    env = TaskVectorEnv(DIGITS, 2, tensors=True)
    observation, info = env.reset(seed=0)
    kept, z = observation.clone(), info["steps"]["target_a_image"].clone()
    new, _ = env.reset(options={"reset_mask": np.array([True, False])})
    assert torch.equal(observation, kept)
    assert torch.equal(info["steps"]["target_a_image"], z)
    assert torch.equal(new[1], kept[1])
    assert not torch.equal(new[0], kept[0])


def test_episodes_come_once_each_in_one_order_whatever_is_drawn_ahead() -> None:
    """Three environments play 100 rounds: 300 episodes, no two of them alike, as pictures are noisy."""
    env = TaskVectorEnv(DIGITS, 3, autoreset_mode=AutoresetMode.SAME_STEP)
    rounds = [env.reset(seed=0)[0], *(env.step([0, 0, 0])[0] for _ in range(99))]
    assert len(np.unique(np.concatenate(rounds).reshape(300, -1), axis=0)) == 300


def test_next_step_spends_a_step_on_the_reset_and_same_step_returns_the_final_observation() -> None:
    env = TaskVectorEnv(DIGITS, 2)
    first, _ = env.reset(seed=0)
    assert env.batch is not None
    answers = env.batch.targets
    last, rewards, terminated, *_ = env.step(answers)
    assert rewards.tolist() == [1, 1]
    assert terminated.all()
    assert np.array_equal(first, last)
    fresh, rewards, terminated, *_ = env.step(answers)
    assert rewards.tolist() == [0, 0]
    assert not terminated.any()
    assert not np.array_equal(fresh, last)
    same = TaskVectorEnv(DIGITS, 2, autoreset_mode=AutoresetMode.SAME_STEP)
    assert np.array_equal(same.reset(seed=0)[0], first)
    new, rewards, terminated, _, info = same.step(answers)
    assert rewards.tolist() == [1, 1]
    assert terminated.all()
    assert np.array_equal(info["final_obs"], first)
    assert np.array_equal(new, fresh)


def test_only_the_ended_episodes_begin_anew() -> None:
    env = TaskVectorEnv(DIGITS, 2, "foveate")
    env.reset(seed=0)
    assert env.batch is not None
    before: Any = env.batch.inputs.clone()  # type: ignore[union-attr]
    env.step([4, 0])
    env.step([0, 0])
    after: Any = env.batch.inputs
    assert not torch.equal(after[0], before[0])
    assert torch.equal(after[1], before[1])


def test_a_seed_fixes_the_episodes_and_the_split_changes_them() -> None:
    one, two, held_out = (TaskVectorEnv(DIGITS, 4, split=split) for split in ("train", "train", "eval"))
    first = one.reset(seed=7)[0]
    assert np.array_equal(first, two.reset(seed=7)[0])
    assert not np.array_equal(first, two.reset(seed=8)[0])
    assert not np.array_equal(first, held_out.reset(seed=7)[0])


def test_the_intermediate_variable_is_in_the_info_and_tensors_come_without_a_copy() -> None:
    env = TaskVectorEnv(DIGITS, 4, tensors=True)
    observation, info = env.reset(seed=0)
    assert env.batch is not None
    assert observation is env.batch.inputs
    assert info["steps"]["same"] is env.batch.steps["same"]


def test_pictures_show_only_what_the_agent_sees() -> None:
    env = gymnasium.make(f"multistep_bench/{DIGITS}", mode="foveate", render_mode="rgb_array")
    env.reset(seed=0)
    env.step(3)
    picture: Any = env.render()
    assert picture.shape == (16, 16, 3)
    assert picture[8:, 8:].max() > 200
    assert picture[:8].max() == 0
    text = gymnasium.make("multistep_bench/lookup-v1", mode="foveate", render_mode="ansi")
    text.reset(seed=0)
    text.step(0)
    shown: Any = text.render()
    assert shown.split().count("?") == 11


def test_an_image_is_drawn_upright_in_its_colours() -> None:
    task = mb.make_task(DIGITS)
    image = np.zeros((3, 16, 16), np.float32)
    image[0, 2, 9], image[2, 12, 1] = 1.0, 0.5  # red in row 2, blue in row 12
    picture = as_picture(task, image)
    assert picture[2, 9].tolist() == [255, 0, 0]
    assert picture[12, 1].tolist() == [0, 0, 128]
    assert as_text(task, image).splitlines()[2].index("@") == 18  # two characters a pixel


def test_points_of_an_episode_are_grey_around_one_half_and_hidden_ones_black() -> None:
    task = mb.make_task("icl_gaussian-v1")
    space: Any = task.info.observation_space
    items: Any = np.zeros(space["items"].shape, np.float32)
    labels = np.full(space["labels"].shape, -1)
    items[0, 0], items[0, 1] = 1.0, -1.0
    picture = as_picture(task, {"items": items, "labels": labels})
    reach = 255 * items.shape[1] ** 0.5 / 6  # three standard deviations, each 1/√d, up and down from 127.5
    assert picture[0, 0, 0] == min(255, round(127.5 + reach))
    assert picture[0, 1, 0] == max(0, round(127.5 - reach))
    assert picture[0, 2 : items.shape[1], 0].tolist() == [128] * (items.shape[1] - 2)
    assert not picture[1 : len(items)].any()
    assert set(as_text(task, {"items": items, "labels": labels}).splitlines()[-1].split()[1:]) == {"?"}


def test_tokens_are_written_ten_to_a_line() -> None:
    task = mb.make_task("lookup-v1")  # of 12 tokens
    tokens = np.zeros(12, np.int64)
    wide = 1 + max(len(task.token_name(token)) for token in range(int(task.info.observation_space.high.max()) + 1))  # pyright: ignore
    assert as_picture(task, tokens).shape == (2 * 12 + 4, 10 * 6 * wide + 4, 3)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: TaskVectorEnv(DIGITS, mode="guess"), error.UnsupportedMode, "mode 'guess'"),
        (
            lambda: TaskVectorEnv(DIGITS, look_cost=0.1),
            error.Error,
            "no meaning in mode 'classify'",
        ),
        (lambda: TaskVectorEnv(DIGITS, mode="sequential", max_looks=3), error.Error, "no meaning in mode 'sequential'"),
        (lambda: TaskVectorEnv(DIGITS, mode="foveate", look_cost=-1.0), error.Error, "look_cost = -1.0"),
        (lambda: TaskVectorEnv(DIGITS, mode="foveate", look_cost=float("nan")), error.Error, "look_cost = nan"),
        (lambda: TaskVectorEnv(DIGITS, mode="foveate", max_looks=0), error.Error, "max_looks = 0"),
        (lambda: TaskVectorEnv(DIGITS, max_episode_steps=-1), error.Error, "max_episode_steps = -1"),
        (lambda: TaskVectorEnv(DIGITS, 0), error.Error, "num_envs = 0"),
        (lambda: TaskVectorEnv(DIGITS, 2).step([0.0, 1.0]), error.ResetNeeded, "reset"),
        (lambda: _started().step(0.5), error.InvalidAction, "give 1 integers"),
        (lambda: TaskVectorEnv(DIGITS, split="test"), error.Error, "split 'test'"),  # type: ignore[arg-type]
        (lambda: TaskVectorEnv(DIGITS).step([0]), error.ResetNeeded, "reset"),
        (lambda: _started().step(8), error.InvalidAction, "action 8 .* outside 0..7"),
        (lambda: _started().step(-1), error.InvalidAction, "action -1"),
        (lambda: [env.step(0) for env in [_started()] * 2], error.ResetNeeded, "has ended"),
    ],
)
def test_bad_input_raises_gymnasiums_errors(call: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        call()


ASYNCHRONOUS = """
import gymnasium, torch, multistep_bench.gym
torch.set_num_threads(2)
torch.ones(1000, 1000) @ torch.ones(1000, 1000)
if __name__ == "__main__":
    envs = gymnasium.make_vec("multistep_bench/two_step_digits-v1", 2, vectorization_mode="async")
    print(envs.reset(seed=0)[0].shape[0], torch.get_num_threads())
    envs.close()
"""


def test_asynchronous_environments_do_not_wait_for_threads_that_their_parent_kept(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(ASYNCHRONOUS, encoding="utf-8")
    done = subprocess.run([sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.stdout == "2 2\n", done.stderr


def _started() -> gymnasium.Env:
    env = gymnasium.make(f"multistep_bench/{DIGITS}").unwrapped
    env.reset(seed=0)
    return env
