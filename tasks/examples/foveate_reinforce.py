"""REINFORCE with a learned baseline on a foveated task: the agent chooses where to look, then answers.

    python tasks/examples/foveate_reinforce.py --steps 2000000 --seed 0

Plain torch. The agent remembers on a canvas what it saw and where it looked. A line gives the mean return of the
episodes that ended in the last 100 rollouts: random answers earn 1/8, the shortcut 0.56, the rule 1, less the looks.
"""

import argparse
import sys
from collections.abc import Iterator

import gymnasium
import torch
from gymnasium.vector import AutoresetMode
from torch import nn

import multistep_bench.gym  # noqa: F401  registers the ids

STEPS, ENVS, WIDTH = 16, 256, 128  # of a rollout; environments; hidden units


def features(observation: dict[str, torch.Tensor]) -> torch.Tensor:
    """What is seen now, [B, pixels + places]: grey values and the place."""
    return torch.cat((observation["view"].mean(1).flatten(1), observation["place"].float()), 1)


def train(seed: int, lr: float = 4e-3, entropy: float = 0.01) -> Iterator[tuple[int, float]]:
    """Yields the environment steps so far and the mean return of the episodes that ended in each rollout."""
    torch.manual_seed(seed)
    settings = {"max_looks": 6, "look_cost": 0.005, "tensors": True, "autoreset_mode": AutoresetMode.SAME_STEP}
    name = "multistep_bench/two_step_digits-v1"
    env = gymnasium.make_vec(name, ENVS, vectorization_mode="vector_entry_point", mode="foveate", **settings)
    memory = features(env.reset(seed=seed)[0])
    answers = int(env.single_action_space.n)  # type: ignore[attr-defined]
    body = nn.Sequential(nn.Linear(memory.shape[1], WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU())
    agent = nn.Sequential(*body, nn.Linear(WIDTH, answers + 1))  # logits of the actions, then the value
    optimizer = torch.optim.Adam(agent.parameters(), lr)
    earned, steps = torch.zeros(ENVS), 0
    while True:
        rollout, returns = [], []
        for _ in range(STEPS):
            with torch.no_grad():
                action = torch.distributions.Categorical(logits=agent(memory)[:, :-1]).sample()
            observation, reward, terminated, truncated, _ = env.step(action)
            end = terminated | truncated
            rollout.append((memory, action, reward.float(), end))
            memory = torch.where(end[:, None], 0, memory).maximum(features(observation))  # the first view is empty
            earned += reward.float()
            returns.append(earned[end])
            earned = torch.where(end, 0, earned)
        ahead, goals = agent(memory)[:, -1].detach(), []
        for _, _, reward, end in reversed(rollout):
            ahead = reward + torch.where(end, 0, ahead)
            goals.append(ahead)
        seen, actions = (torch.cat(each) for each in list(zip(*rollout, strict=True))[:2])
        out = agent(seen)
        policy, gain = torch.distributions.Categorical(logits=out[:, :-1]), torch.cat(goals[::-1]) - out[:, -1]
        loss = -(policy.log_prob(actions) * gain.detach()).mean() + 0.5 * gain.square().mean()
        optimizer.zero_grad()
        (loss - entropy * policy.entropy().mean()).backward()
        optimizer.step()
        steps += STEPS * ENVS
        yield steps, float(torch.cat(returns).mean())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=2_000_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments, recent = parser.parse_args(), []
    for steps, mean in train(arguments.seed):
        recent = [*recent[-99:], mean]
        if steps % (100 * STEPS * ENVS) == 0:
            sys.stdout.write(f"{steps} steps: return {sum(recent) / len(recent):.3f}\n")
            sys.stdout.flush()
        if steps >= arguments.steps:
            break
