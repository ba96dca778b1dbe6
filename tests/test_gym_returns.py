"""Expected returns of reference policies, met by simulation, and refused where they are not exact."""

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import error

from multistep_bench.errors import DataMissing
from multistep_bench.generators.task import make_task
from multistep_bench.gym.returns import Policy, act, expected_return
from multistep_bench.gym.vector import MODES, TaskVectorEnv

DIGITS = "two_step_digits-v1"
N = 4096
POLICIES: tuple[Policy, ...] = ("random", "shortcut", "oracle")


def earned(env: TaskVectorEnv, policy: Policy) -> np.ndarray:
    """The returns [N] of one episode of each environment."""
    rng = torch.Generator().manual_seed(1)
    env.reset(seed=5)
    total, ended = np.zeros(env.num_envs), np.zeros(env.num_envs, bool)
    while not ended.all():
        _, rewards, terminated, truncated, _ = env.step(act(env, policy, rng))
        total += np.where(ended, 0, rewards)
        ended |= terminated | truncated
    return total


def settings(mode: str) -> dict[str, Any]:
    return {"mode": mode} | ({"look_cost": 0.02} if mode == "foveate" else {})


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("task", [DIGITS, "lookup-v1", "icl_gaussian-v1", "mlm_agreement-v1"])
def test_simulation_meets_the_exact_return(task: str, policy: Policy, mode: str) -> None:
    env = TaskVectorEnv(task, N, **settings(mode))
    total = earned(env, policy)
    assert total.mean() == pytest.approx(expected_return(env, policy), abs=4 * total.std() / N**0.5 + 1e-9)


def test_the_returns_of_the_digits_task_by_hand() -> None:
    """K = 8 answers, P = 4 places, two steps at most: 8/12 answer at once, 4/12 · 8/12 after a look."""
    env = TaskVectorEnv(DIGITS, 1, "foveate", look_cost=0.1, max_looks=2)
    assert expected_return(env, "random") == pytest.approx((2 / 3 + 2 / 9) / 8 - 0.1 * (1 / 3 + 1 / 9))
    env = TaskVectorEnv(DIGITS, 1, "foveate", look_cost=0.1)
    assert expected_return(env, "shortcut") == pytest.approx(0.5 + 0.5 / 8 - 0.4)
    assert expected_return(env, "oracle") == pytest.approx(1 - 0.4)
    assert expected_return(TaskVectorEnv(DIGITS), "random") == pytest.approx(1 / 8)


def test_any_of_four_verbs_is_right_by_chance() -> None:
    """Eight pointers, 32 nouns and 32 verbs, of which four are of the class that is asked for."""
    assert expected_return(TaskVectorEnv("mlm_agreement-v1"), "random") == pytest.approx(4 / 72)


@pytest.mark.parametrize("policy", ["shortcut", "oracle"])
def test_under_label_noise_both_policies_answer_by_the_clean_rule(policy: Policy) -> None:
    """A tenth of the labels is wrong: the ceiling is 0.9 and the shortcut 0.5 · 0.9 + 0.5/8."""
    env = TaskVectorEnv(make_task(DIGITS, label_noise=0.1), N)
    level = {"shortcut": 0.5125, "oracle": 0.9}[policy]
    assert expected_return(env, policy) == pytest.approx(level)
    assert earned(env, policy).mean() == pytest.approx(level, abs=4 * (level * (1 - level) / N) ** 0.5)


@pytest.mark.parametrize("policy", ["shortcut", "oracle"])
def test_a_noisy_chain_of_comparisons_pays_its_levels(policy: Policy) -> None:
    try:
        env = TaskVectorEnv(make_task("n_step-v1", label_noise=0.2, target_classes=(3, 1, 0)), N, split="eval")
    except DataMissing as missing:
        pytest.skip(str(missing))
    total = earned(env, policy)
    assert expected_return(env, policy) == env.task_info.shortcut if policy == "shortcut" else 0.8
    assert total.mean() == pytest.approx(expected_return(env, policy), abs=4 * total.std() / N**0.5)


def test_the_answer_that_is_asked_for_more_often_is_the_shortcut() -> None:
    env = TaskVectorEnv(make_task(DIGITS, same_probability=0.75), N)
    assert expected_return(env, "shortcut") == pytest.approx(0.75 + 0.25 / 8)
    assert earned(env, "shortcut").mean() == pytest.approx(0.78125, abs=4 * (0.78125 * 0.21875 / N) ** 0.5)


def test_the_shortcut_of_markov_is_met_within_the_error_of_its_level_too() -> None:
    env = TaskVectorEnv("markov-v1", N)
    total = earned(env, "shortcut")
    error = (total.var() / N + 0.0014**2) ** 0.5
    assert total.mean() == pytest.approx(expected_return(env, "shortcut"), abs=4 * error)


@pytest.mark.parametrize(
    ("env", "policy", "message"),
    [
        (lambda: TaskVectorEnv(DIGITS, mode="foveate", max_looks=4), "oracle", "in step 5 and episodes end at step 4"),
        (lambda: TaskVectorEnv(DIGITS, mode="sequential", max_episode_steps=3), "random", "in step 4 and episodes end"),
        (lambda: TaskVectorEnv("icl_gaussian_fixed-v1"), "shortcut", "use split='eval'"),
        (lambda: TaskVectorEnv(DIGITS), "best", "policy 'best' .* none of random, shortcut, oracle"),
    ],
)
def test_a_return_that_is_not_exact_is_refused(env: Any, policy: Policy, message: str) -> None:
    with pytest.raises(error.Error, match=message):
        expected_return(env(), policy)


def test_a_limit_that_lets_the_answer_through_is_accepted() -> None:
    assert expected_return(TaskVectorEnv(DIGITS, mode="foveate", max_looks=5), "oracle") == 1
    assert expected_return(TaskVectorEnv(DIGITS, mode="sequential", max_episode_steps=4), "oracle") == 1
    assert expected_return(TaskVectorEnv("icl_gaussian_fixed-v1", split="eval"), "shortcut") == 1 / 8


def test_a_policy_acts_after_the_first_reset() -> None:
    with pytest.raises(error.ResetNeeded, match="call reset"):
        act(TaskVectorEnv(DIGITS), "oracle", torch.Generator())
