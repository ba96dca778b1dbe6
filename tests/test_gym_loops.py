"""Loops of reinforcement learners over the environments: CleanRL's, stable-baselines3's and the worked example."""

import importlib.util
import itertools
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.wrappers.vector import RecordEpisodeStatistics
from torch import nn

from multistep_bench.bench.gym import measure_gym
from multistep_bench.gym import NAMESPACE
from multistep_bench.gym.returns import expected_return
from multistep_bench.gym.vector import TaskVectorEnv

DIGITS = f"{NAMESPACE}/two_step_digits-v1"
EXAMPLE = Path(__file__).resolve().parents[1] / "tasks" / "examples" / "foveate_reinforce.py"


def test_the_worked_example_begins_at_chance_and_is_short() -> None:
    """Six rollouts of 4,096 steps earn what uniform actions do, 0.122; what longer runs earn is in tasks/README.md."""
    specification = importlib.util.spec_from_file_location("foveate_reinforce", EXAMPLE)
    assert specification is not None
    assert specification.loader is not None
    example = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(example)
    found = list(itertools.islice(example.train(seed=0), 6))
    assert [steps for steps, _ in found] == [4096 * count for count in range(1, 7)]
    uniform = TaskVectorEnv("two_step_digits-v1", 1, "foveate", look_cost=0.005, max_looks=6)
    assert np.mean([mean for _, mean in found]) == pytest.approx(expected_return(uniform, "random"), abs=0.015)
    assert len(EXAMPLE.read_text().splitlines()) < 80


def test_cleanrls_loop_runs_and_its_statistics_are_the_returns() -> None:
    """Rollouts as in CleanRL's ppo.py: 16 environments, buffers of 32 steps, GAE, a clipped step; NEXT_STEP autoreset.

    A look costs 1/64, exactly representable, so each recorded return is the reward of the answer less its looks.
    """
    envs = RecordEpisodeStatistics(
        gymnasium.make_vec(
            DIGITS, num_envs=16, vectorization_mode="vector_entry_point", mode="foveate", look_cost=1 / 64
        )
    )
    torch.manual_seed(0)
    agent = nn.Linear(3 * 16 * 16 + 4, 12 + 1)
    optimizer = torch.optim.Adam(agent.parameters(), 1e-3)
    observation, _ = envs.reset(seed=1)
    done, own, looks, finished = np.zeros(16), np.zeros(16), np.zeros(16, int), 0
    for _ in range(3):
        seen, logged, actions, rewards, dones = [], [], [], [], []
        for _ in range(32):
            state = torch.from_numpy(np.concatenate((observation["view"].reshape(16, -1), observation["place"]), 1))
            with torch.no_grad():
                policy = torch.distributions.Categorical(logits=agent(state.float())[:, :-1])
                action = policy.sample()
            observation, reward, terminated, truncated, info = envs.step(action.numpy())
            own, looks = np.where(done, 0, own + reward), np.where(done, 0, looks + (action.numpy() < 4))
            for kept, new in zip(
                (seen, logged, actions, rewards, dones),
                (state.float(), policy.log_prob(action), action, torch.from_numpy(reward), torch.from_numpy(done)),
                strict=True,
            ):
                kept.append(new)
            done = (terminated | truncated).astype(float)
            if "episode" in info:
                ended = info["_episode"]
                assert np.array_equal(ended, done.astype(bool))
                assert np.array_equal(info["episode"]["r"][ended], own[ended].astype(np.float32))
                assert set((own + looks / 64)[ended]) <= {0.0, 1.0}
                finished += int(ended.sum())
        advantage, ahead = [], torch.zeros(16)
        with torch.no_grad():
            values = [agent(each)[:, -1] for each in seen]
        for step in reversed(range(31)):
            alive = 1 - dones[step + 1].float()
            delta = rewards[step].float() + 0.99 * values[step + 1] * alive - values[step]
            ahead = delta + 0.99 * 0.95 * alive * ahead
            advantage.append(ahead)
        out = agent(torch.cat(seen[:-1]))
        ratio = (
            torch.distributions.Categorical(logits=out[:, :-1]).log_prob(torch.cat(actions[:-1]))
            - torch.cat(logged[:-1])
        ).exp()
        gain = torch.cat(advantage[::-1])
        loss = -torch.minimum(ratio * gain, ratio.clamp(0.8, 1.2) * gain).mean()
        loss = loss + 0.5 * (out[:, -1] - gain - torch.cat(values[:-1])).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert finished > 100
    assert all(bool(each.isfinite().all()) for each in agent.parameters())


@pytest.mark.parametrize(("mode", "policy"), [("classify", "MlpPolicy"), ("foveate", "MultiInputPolicy")])
def test_stable_baselines3_trains_on_it(mode: str, policy: str) -> None:
    library: Any = pytest.importorskip("stable_baselines3")
    env = gymnasium.make(DIGITS, mode=mode)
    model = library.PPO(policy, env, n_steps=64, batch_size=32, n_epochs=1, seed=0, device="cpu")
    model.learn(128)
    assert model.num_timesteps == 128
    action, _ = model.predict(env.reset(seed=0)[0])
    assert env.action_space.contains(int(action))


def test_the_benchmark_compares_with_as_many_and_with_more_environments() -> None:
    measured = measure_gym(0.0, torch.device("cpu"), counts=(32, 64))
    assert [row.envs for row in measured.rows] == [32, 64]
    for row in measured.rows:
        assert row.ratio == pytest.approx(row.steps_per_second / row.reference_steps_per_second)
        assert row.ratio_range[0] <= row.ratio <= row.ratio_range[1] or row.repeats > 3
