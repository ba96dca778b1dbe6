"""Exact expected returns of reference policies, and the policies themselves."""

from typing import Literal

import torch
from gymnasium import error

from multistep_bench.gym.vector import TaskVectorEnv

Policy = Literal["random", "shortcut", "oracle"]


def expected_return(env: TaskVectorEnv, policy: Policy) -> float:
    """The mean undiscounted return of an episode under a policy of `act`.

    random answers uniformly, shortcut and oracle as the levels of the task's card say (`TaskInfo.shortcut`,
    `.ceiling`); in "foveate" each of them looks once at every place first, which costs P · look_cost.
    """
    info = env.task_info
    level = {"random": 1 / info.num_classes, "shortcut": info.shortcut, "oracle": info.ceiling}[policy]
    if level is None or (policy == "random" and abs(level - info.chance) > 1e-12):
        raise error.Error(f"{info.id} has no exact return of the {policy} policy; choose another")
    return level - env.looks * env.look_cost


def act(env: TaskVectorEnv, policy: Policy, rng: torch.Generator) -> torch.Tensor:
    """The actions [B] of a policy; it reads the hidden answers and z, so it is a reference and no agent.

    The shortcut is played where the steps hold "answer_other" and "answer_same", that is on two-step image tasks.
    """
    assert env.batch is not None
    steps = env.batch.steps
    if policy == "random":
        answer = torch.randint(env.task_info.num_classes, (env.num_envs,), generator=rng)
    elif policy == "oracle":
        answer = env.right_answers
    elif {"answer_other", "answer_same"} <= set(steps):
        probability = getattr(env.task.parameters, "same_probability", 0.5)
        answer = steps["answer_same"] if probability > 0.5 else steps["answer_other"]
    else:
        raise error.Error(f"{env.task_info.id} has no shortcut policy to play; choose random or oracle")
    if env.looks == 0:
        return answer
    place = env.steps_taken
    return torch.where(place < env.looks, place, answer + env.looks)
