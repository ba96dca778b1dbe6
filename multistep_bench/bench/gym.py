"""Steps a second of vectorised environments, beside gymnasium's `SyncVectorEnv` over the same environments."""

from dataclasses import dataclass
from statistics import median

import numpy as np
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from multistep_bench.bench.result import Measured
from multistep_bench.bench.timing import Measure, interleaved, speedup, timed
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


def measure_gym(seconds: float, device: torch.device, counts: tuple[int, ...] = (REFERENCE_ENVS, 512)) -> Measured:
    """Environment steps a second of `classify` on two_step_digits-v1 on one CPU thread, whatever the device.

    counts: numbers of environments of a row; the reference has `REFERENCE_ENVS` in every row.
    """
    mode = AutoresetMode.SAME_STEP
    reference = SyncVectorEnv([lambda: TaskEnv(TASK)] * REFERENCE_ENVS, autoreset_mode=mode)
    reference.reset(seed=0)
    few = np.zeros(REFERENCE_ENVS, np.int64)
    measures: dict[int, Measure] = {0: timed(lambda: reference.step(few), threads=1)}
    for envs in counts:
        ours = TaskVectorEnv(TASK, envs, autoreset_mode=mode)
        ours.reset(seed=0)
        actions, steps = np.zeros(envs, np.int64), 512 // envs or 1  # so that no round is too short to time
        measures[envs] = timed(lambda ours=ours, a=actions, k=steps: [ours.step(a) for _ in range(k)], threads=1)
    times = interleaved(measures, seconds)
    theirs = [each / REFERENCE_ENVS for each in times[0]]  # seconds of an environment step
    rows = []
    for envs in counts:
        each = [spent / (envs * (512 // envs or 1)) for spent in times[envs]]
        ratio, ratio_range = speedup(each, theirs)
        rows.append(
            GymRow(
                mode="classify",
                envs=envs,
                threads=1,
                steps_per_second=1 / median(each),
                reference_steps_per_second=1 / median(theirs),
                ratio=ratio,
                ratio_range=ratio_range,
                repeats=len(each),
            )
        )
    settings = {"task": TASK, "reference_envs": REFERENCE_ENVS}
    note = f"gymnasium's SyncVectorEnv over {REFERENCE_ENVS} of the same environments, one at a time"
    return Measured(note, settings, tuple(rows))
