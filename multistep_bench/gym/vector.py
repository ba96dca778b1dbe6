"""Many environments of a task as one tensor program."""

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import error, spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from multistep_bench import seeds
from multistep_bench.batch import Batch
from multistep_bench.generators.base import Split, TaskGenerator
from multistep_bench.generators.task import make_task
from multistep_bench.gym.episodes import EpisodeStream, asked, rebuilt
from multistep_bench.gym.views import glimpse, glimpse_space, places

LOADED_IN = os.getpid()  # the process that started torch's threads
MODES = ("classify", "foveate", "sequential")
SURE = 100.0  # the logit of an answer given, where all others are 0: its softmax is 1 to the last bit


class TaskVectorEnv(VectorEnv):
    """B environments of one task.

    task: an id, the path of a card, or a generator, which several environments may share.
    mode: "classify": the whole sample, then one answer. "foveate": nothing is shown at first; action a < P looks at
        place a, action P + k answers k. "sequential": the places come one a step in reading order, and only the
        action at the last one counts.
    reward: 1 for a right answer, else 0; in "foveate" each look costs `look_cost`.
    max_looks: in "foveate" an episode is truncated at this look without an answer; by default 2·P.
    max_episode_steps: the same limit in gymnasium's words, over all steps, in every mode.
    tensors: observations, rewards and flags are torch tensors, not copied, instead of NumPy arrays.
    info["steps"]: the intermediate variables z by name, [B] int64.
    Raises `error.UnsupportedMode` for an unknown mode and for a task without one answer a sample.
    """

    def __init__(
        self,
        task: str | Path | TaskGenerator,
        num_envs: int = 1,
        mode: str = "classify",
        *,
        split: Split = "train",
        look_cost: float = 0.0,
        max_looks: int | None = None,
        max_episode_steps: int | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        tensors: bool = False,
        data_root: str | Path | None = None,
    ) -> None:
        name = task.id if isinstance(task, TaskGenerator) else str(task)
        if mode not in MODES:
            raise error.UnsupportedMode(f"mode '{mode}' of {name} is none of {', '.join(MODES)}; choose one of them")
        if split not in ("train", "eval"):
            raise error.Error(f"split '{split}' of {name} is neither 'train' nor 'eval'; choose one of them")
        if num_envs < 1:
            raise error.Error(f"num_envs = {num_envs} of {name}; give at least 1")
        for limit, number in (("max_looks", max_looks), ("max_episode_steps", max_episode_steps)):
            if number is not None and number < 1:
                raise error.Error(f"{limit} = {number} of {name}; give at least 1, or None")
        if mode != "foveate" and (look_cost or max_looks):
            raise error.Error(f"look_cost and max_looks of {name} have no meaning in mode '{mode}'; use mode='foveate'")
        if not 0 <= look_cost < math.inf:
            raise error.Error(f"look_cost = {look_cost} of {name}; give 0 or more")
        if os.getpid() != LOADED_IN:  # forked, as asynchronous environments are: torch's threads stayed with the parent
            torch.set_num_threads(1)
        self.task = task if isinstance(task, TaskGenerator) else make_task(task, data_root)
        self.task_info = info = self.task.info
        EpisodeStream(self.task, split, seed=0, at_once=64).take(1)  # raises where there is no one answer
        self.mode, self.look_cost, self.tensors = mode, look_cost, tensors
        self.split: Split = split
        self.places = places(info)
        self.looks = len(self.places) if mode == "foveate" else 0
        bounds = [each for each in (max_looks or 2 * self.looks, max_episode_steps) if each]
        self.limit = min(bounds) if bounds else None
        self.num_envs = num_envs
        self.metadata = {"autoreset_mode": AutoresetMode(autoreset_mode), "render_modes": []}
        self.single_observation_space = info.observation_space if mode == "classify" else glimpse_space(info)
        self.single_action_space = spaces.Discrete(self.looks + info.num_classes)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._stream: EpisodeStream | None = None
        self.batch: Batch | None = None

    def reset(self, *, seed: int | list[int] | None = None, options: dict[str, Any] | None = None) -> Any:
        """(observations, info).

        seed: one number, or a list of numbers, for all environments together: their episodes come from one stream, so
            they depend on `num_envs`, and environment i of a list is not the single environment of the i-th seed.
        options: "reset_mask" [B] bool restarts some environments; the others go on.
        """
        if isinstance(seed, (list, tuple, np.ndarray)):
            seed = seeds.derive("gym seeds", *map(int, seed))
        if seed is not None or self._stream is None:
            super().reset(seed=seed)
            number = int(self.np_random.integers(2**62)) if seed is None else seed
            self._stream = EpisodeStream(self.task, self.split, number, self.num_envs)
        mask = (options or {}).get("reset_mask")
        if mask is None or self.batch is None:
            self._start_all()
        else:
            self._start(torch.as_tensor(np.asarray(mask, bool)))
        return self._shown(self._observation()), self._info()

    def step(self, actions: Any) -> Any:
        """(observations, rewards [B] float64, terminated [B], truncated [B], info)."""
        chosen = self._checked(actions)
        autoreset = self.metadata["autoreset_mode"]
        resetting = self._done
        if autoreset is AutoresetMode.DISABLED and bool(resetting.any()):
            raise error.ResetNeeded(f"an episode of {self.task.id} has ended; call reset() before the next step")
        if bool(resetting.any()):
            self._start(resetting)
        rewards, terminated, truncated = self._advance(chosen, ~resetting)
        self._done = terminated | truncated
        info = self._info()
        if autoreset is AutoresetMode.SAME_STEP and bool(self._done.any()):
            ended = self._done
            info = {"final_obs": self._shown(self._observation()), "final_info": info}
            info |= {f"_{name}": ended.numpy() for name in tuple(info)}
            self._start(ended)
            info |= self._info()
        return (self._shown(self._observation()), *map(self._shown, (rewards, terminated, truncated)), info)

    @property
    def right_answers(self) -> torch.Tensor:
        """[B] int64: an answer of every sample that is right."""
        return asked(self._batch)

    @property
    def steps_taken(self) -> torch.Tensor:
        """[B] int64: the steps of every running episode; 0 where the next step begins a new one."""
        return torch.where(self._done, 0, self._age)

    @property
    def _batch(self) -> Batch:
        if self.batch is None:
            raise error.ResetNeeded(f"{self.task.id} has not been reset; call reset() before the first step")
        return self.batch

    def _checked(self, actions: Any) -> torch.Tensor:
        _ = self._batch
        chosen, count = torch.as_tensor(actions), int(self.single_action_space.n)  # type: ignore[attr-defined]
        if chosen.shape != (self.num_envs,) or chosen.is_floating_point():
            raise error.InvalidAction(
                f"actions of shape {tuple(chosen.shape)} and type {chosen.dtype} for {self.task.id};"
                f" give {self.num_envs} integers"
            )
        if bool(((chosen < 0) | (chosen >= count)).any()):
            worst = int(chosen[(chosen < 0) | (chosen >= count)][0])
            raise error.InvalidAction(f"action {worst} of {self.task.id} is outside 0..{count - 1}; choose one inside")
        return chosen.long()

    def _advance(self, chosen: torch.Tensor, acting: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Rewards and ends of the environments that are `acting` [B]; the others have just begun."""
        answer = chosen - self.looks
        if self.mode == "foveate":
            terminated = acting & (answer >= 0)
            self._place = torch.where(acting & (answer < 0), chosen, self._place)
        elif self.mode == "sequential":
            terminated = acting & (self._place == len(self.places) - 1)
            self._place = torch.where(acting & ~terminated, self._place + 1, self._place)
        else:
            terminated = acting
        self._age = self._age + acting
        rewards = (self._right(answer.clamp(min=0)) & terminated).double()
        if self.mode == "foveate" and self.look_cost:
            rewards = rewards - self.look_cost * (acting & ~terminated).double()
        late = torch.zeros_like(acting) if self.limit is None else self._age >= self.limit
        return rewards, terminated, acting & late & ~terminated

    def _right(self, answer: torch.Tensor) -> torch.Tensor:
        """Whether answers [B] count as right by the task's own rule, [B]."""
        return right(self.task, self._batch, answer)

    def _draw(self, n: int) -> Batch:
        assert self._stream is not None
        return self._stream.take(n)

    def _start_all(self) -> None:
        self.batch = self._draw(self.num_envs)
        self._place = torch.full((self.num_envs,), 0 if self.mode == "sequential" else -1)
        self._age = torch.zeros(self.num_envs, dtype=torch.int64)
        self._done = torch.zeros(self.num_envs, dtype=torch.bool)

    def _start(self, mask: torch.Tensor) -> None:
        """Begin an episode where `mask` [B]; tensors handed out before are not written to."""
        if bool(mask.all()):
            return self._start_all()
        if not bool(mask.any()):
            return None
        fresh = self._draw(int(mask.sum())).tensors()
        merged = {name: self._replaced(name, old, mask, fresh[name]) for name, old in self._batch.tensors().items()}
        self.batch = rebuilt(self._batch, merged)
        self._place = torch.where(mask, 0 if self.mode == "sequential" else -1, self._place)
        self._age = torch.where(mask, 0, self._age)
        self._done = self._done & ~mask
        return None

    def _replaced(self, name: str, old: torch.Tensor, mask: torch.Tensor, fresh: torch.Tensor) -> torch.Tensor:
        hidden = self.mode != "classify" and name not in self._batch.steps and name != "targets"
        return old.index_put_((mask,), fresh) if hidden else old.index_put((mask,), fresh)

    def _observation(self) -> Any:
        inputs = self._batch.inputs
        if self.mode == "classify" and not self.tensors:  # the caller may write into what it gets
            return {k: v.clone() for k, v in inputs.items()} if isinstance(inputs, dict) else inputs.clone()
        return inputs if self.mode == "classify" else glimpse(self.task_info, inputs, self._place)

    def _info(self) -> dict[str, Any]:
        return {"steps": self._shown(self._batch.steps), "_steps": np.ones(self.num_envs, bool)}

    def _shown(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: self._shown(each) for name, each in value.items()}
        return value if self.tensors else value.numpy()


def right(task: TaskGenerator, batch: Batch, answer: torch.Tensor) -> torch.Tensor:
    """Whether answers [B] to the one question of each of B samples count as right by the task's own rule, [B] bool."""
    if type(task).correct is TaskGenerator.correct:  # nothing but equality, without logits
        return answer == batch.targets if batch.targets.ndim == 1 else (answer[:, None] == batch.targets).any(1)
    logits = SURE * torch.nn.functional.one_hot(answer, task.info.num_classes).double()
    if batch.targets.ndim == 1:
        return task.correct(logits, batch)
    return task.correct(logits[:, None].expand(-1, batch.targets.shape[1], -1), batch).any(1)
