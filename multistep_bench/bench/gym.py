"""Steps a second of vectorised environments, beside gymnasium's `SyncVectorEnv` over the same environments."""

from dataclasses import dataclass
from statistics import median

import numpy as np
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from multistep_bench.bench.result import Measured
from multistep_bench.bench.timing import interleaved, speedup, timed
from multistep_bench.gym.single import TaskEnv
from multistep_bench.gym.vector import TaskVectorEnv

TASK = "two_step_digits-v1"
REFERENCE_ENVS = 32  # building one takes tens of milliseconds


@dataclass(frozen=True)
class GymRow:
    """One number of environments; every step of "classify" ends an episode and draws the next (SAME_STEP)."""

    mode: str
    envs: int
    threads: int
    steps_per_second: float
    reference_steps_per_second: float
    ratio: float
    ratio_range: tuple[float, float]
    repeats: int


def measure_gym(seconds: float, device: torch.device, envs: int = 512) -> Measured:
    """Environment steps a second of `classify` on two_step_digits-v1 on one CPU thread, whatever the device."""
    mode = AutoresetMode.SAME_STEP
    ours = TaskVectorEnv(TASK, envs, autoreset_mode=mode)
    reference = SyncVectorEnv([lambda: TaskEnv(TASK)] * REFERENCE_ENVS, autoreset_mode=mode)
    actions, few = np.zeros(envs, np.int64), np.zeros(REFERENCE_ENVS, np.int64)
    rounds = envs // REFERENCE_ENVS  # as many environment steps for either
    ours.reset(seed=0)
    reference.reset(seed=0)
    times = interleaved(
        {
            "suite": timed(lambda: ours.step(actions), threads=1),
            "reference": timed(lambda: [reference.step(few) for _ in range(rounds)], threads=1),
        },
        seconds,
    )
    ratio, ratio_range = speedup(times["suite"], times["reference"])
    row = GymRow(
        mode="classify",
        envs=envs,
        threads=1,
        steps_per_second=envs / median(times["suite"]),
        reference_steps_per_second=envs / median(times["reference"]),
        ratio=ratio,
        ratio_range=ratio_range,
        repeats=len(times["suite"]),
    )
    settings = {"task": TASK, "reference_envs": REFERENCE_ENVS}
    return Measured("gymnasium's SyncVectorEnv over the same environments, one at a time", settings, (row,))
