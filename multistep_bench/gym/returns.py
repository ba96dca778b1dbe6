"""Exact expected returns of reference policies, and the policies themselves."""

from typing import Literal

import torch
from gymnasium import error

from multistep_bench.batch import Batch
from multistep_bench.gym.answers import clean_answers, levels_hold, shortcut_answers
from multistep_bench.gym.episodes import EpisodeStream
from multistep_bench.gym.vector import TaskVectorEnv, right

Policy = Literal["random", "shortcut", "oracle"]
PROBED = 64  # samples whose right answers are counted


def expected_return(env: TaskVectorEnv, policy: Policy) -> float:
    """The mean undiscounted return of an episode under a policy of `act`.

    With K answers, P places to look at, at most L steps, a cost c a look and ρ, the share of the K answers that is
    right (1/K, or more where several answers count):
    random: ρ; in "foveate" each action is an answer with probability K/(P + K), so that with q = P/(P + K)
        the return is ρ·(1 − q^L) − c·(q + q² + … + q^L).
    shortcut, oracle: `TaskInfo.shortcut`, `.ceiling` of the task's card; in "foveate" less c·P.
    Exact for every task of this suite but the shortcut of markov, whose level is measured (standard error ≤ 0.0014).
    Raises `error.Error` where it is not exact: a policy that the limit of steps cuts off, a task without that policy,
    training episodes of another kind than those that the levels are computed for.
    """
    info, count = env.task_info, env.task_info.num_classes
    if policy == "random" and env.mode == "foveate":
        assert env.limit is not None
        q = env.looks / (env.looks + count)
        looks = sum(q**step for step in range(1, env.limit + 1))
        return right_share(env) * (1 - q**env.limit) - env.look_cost * looks
    needed = len(env.places) if env.mode == "sequential" else env.looks + 1
    if env.limit is not None and env.limit < needed:
        raise error.Error(
            f"the {policy} policy answers {info.id} in step {needed} and episodes end at step {env.limit}; allow more"
        )
    if policy == "random":
        return right_share(env)
    if not levels_hold(env.task, env.split) and policy == "shortcut":
        raise error.Error(
            f"{info.id} trains on other episodes than it is scored on, so the return of its {policy} policy is not"
            " known exactly; use split='eval'"
        )
    _ = _answers(env, policy, EpisodeStream(env.task, env.split, 0, 1).take(1))  # raises where there are none
    level = info.shortcut if policy == "shortcut" else info.ceiling
    if level is None:
        raise error.Error(f"{info.id} has no shortcut; choose random or oracle")
    return level - env.looks * env.look_cost


def right_share(env: TaskVectorEnv) -> float:
    """ρ, the share of all answers that is right for a sample.

    Raises `error.Error` where it differs between `PROBED` samples: then it has no exact mean here.
    """
    probe = EpisodeStream(env.task, env.split, 0, PROBED).take(PROBED)
    count = env.task_info.num_classes
    shares = sum(right(env.task, probe, torch.full((PROBED,), k)).long() for k in range(count))
    assert isinstance(shares, torch.Tensor)
    if bool((shares != shares[0]).any()):
        raise error.Error(
            f"{env.task_info.id} has more right answers in some samples than in others; choose another policy"
        )
    return int(shares[0]) / count


def act(env: TaskVectorEnv, policy: Policy, rng: torch.Generator) -> torch.Tensor:
    """The actions [B] of a policy; shortcut and oracle read the hidden answers and z, so they are no agents.

    random draws uniformly from the action space. shortcut and oracle look once at every place before they answer.
    """
    if policy == "random":
        return torch.randint(env.looks + env.task_info.num_classes, (env.num_envs,), generator=rng)
    if env.batch is None:
        raise error.ResetNeeded(f"{env.task.id} has not been reset; call reset() before asking for a policy's actions")
    answer = _answers(env, policy, env.batch)
    place = env.steps_taken
    return torch.where(place < env.looks, place, answer + env.looks) if env.looks else answer


def _answers(env: TaskVectorEnv, policy: Policy, batch: Batch) -> torch.Tensor:
    if policy not in ("shortcut", "oracle"):
        raise error.Error(f"policy '{policy}' of {env.task.id} is none of random, shortcut, oracle; choose one of them")
    return shortcut_answers(env.task, batch) if policy == "shortcut" else clean_answers(env.task, batch)
