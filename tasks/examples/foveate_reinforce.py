"""REINFORCE with a learned baseline on a foveated task: the agent chooses where to look, then answers.

    python tasks/examples/foveate_reinforce.py --minutes 5 --seed 0

Plain torch. The agent remembers what it saw on a canvas, the sum of its glimpses, and where it looked. It prints the
mean return of the episodes that ended since the last line; random answers earn 1/8, the shortcut 0.56, the rule 1.
"""

import argparse
import sys
import time
from collections.abc import Iterator

import gymnasium
import torch
from gymnasium.vector import AutoresetMode
from torch import nn

import multistep_bench.gym  # noqa: F401  registers the ids

STEPS, ENVS, WIDTH = 16, 256, 128  # of a rollout; environments; hidden units


class Agent(nn.Module):
    def __init__(self, inputs: int, actions: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(inputs, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU())
        self.policy, self.value = nn.Linear(WIDTH, actions), nn.Linear(WIDTH, 1)

    def forward(self, memory: torch.Tensor) -> tuple[torch.distributions.Categorical, torch.Tensor]:
        hidden = self.body(memory)
        return torch.distributions.Categorical(logits=self.policy(hidden)), self.value(hidden).squeeze(-1)


def features(observation: dict[str, torch.Tensor]) -> torch.Tensor:
    """What is seen now, [B, pixels + places]: grey values and the place."""
    return torch.cat((observation["view"].mean(1).flatten(1), observation["place"].float()), 1)


def train(seed: int, lr: float = 1e-3, entropy: float = 0.01) -> Iterator[tuple[int, float]]:
    """Yields the environment steps so far and the mean return of the episodes that ended in each rollout."""
    torch.manual_seed(seed)
    env = gymnasium.make_vec(
        "multistep_bench/two_step_digits-v1", ENVS, vectorization_mode="vector_entry_point", mode="foveate",
        max_looks=6, look_cost=0.005, tensors=True, autoreset_mode=AutoresetMode.SAME_STEP,
    )  # fmt: skip
    memory = features(env.reset(seed=seed)[0])
    agent = Agent(memory.shape[1], int(env.single_action_space.n))  # type: ignore[attr-defined]
    optimizer = torch.optim.Adam(agent.parameters(), lr)
    earned, steps = torch.zeros(ENVS), 0
    while True:
        seen, actions, rewards, ends, returns = [], [], [], [], []
        for _ in range(STEPS):
            with torch.no_grad():
                action = agent(memory)[0].sample()
            observation, reward, terminated, truncated, _ = env.step(action)
            end = terminated | truncated
            for kept, new in zip((seen, actions, rewards, ends), (memory, action, reward.float(), end), strict=True):
                kept.append(new)
            memory = torch.where(end[:, None], 0, memory).maximum(features(observation))  # the first view is empty
            earned += reward.float()
            returns.append(earned[end])
            earned = torch.where(end, 0, earned)
        with torch.no_grad():
            ahead, goals = agent(memory)[1], []
        for reward, end in zip(reversed(rewards), reversed(ends), strict=True):
            ahead = reward + torch.where(end, 0, ahead)
            goals.append(ahead)
        policy, value = agent(torch.cat(seen))
        gain = torch.cat(goals[::-1]) - value
        loss = -(policy.log_prob(torch.cat(actions)) * gain.detach()).mean() + 0.5 * gain.square().mean()
        optimizer.zero_grad()
        (loss - entropy * policy.entropy().mean()).backward()
        optimizer.step()
        steps += STEPS * ENVS
        yield steps, float(torch.cat(returns).mean())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    begin, recent = time.perf_counter(), []
    for steps, mean in train(arguments.seed):
        recent.append(mean)
        if len(recent) == 100:
            sys.stdout.write(f"{steps} steps: return {sum(recent) / len(recent):.3f}\n")
            recent = []
        if time.perf_counter() - begin > 60 * arguments.minutes:
            break
