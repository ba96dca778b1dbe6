"""One environment of a task: the batched one with a single row."""

from pathlib import Path
from typing import Any

import gymnasium
import torch
from gymnasium import error
from gymnasium.vector import AutoresetMode

from multistep_bench.generators.base import TaskGenerator
from multistep_bench.gym.pictures import as_picture, as_text
from multistep_bench.gym.vector import TaskVectorEnv


class TaskEnv(gymnasium.Env):
    """One environment of a task, with the arguments of `TaskVectorEnv` save `num_envs` and `autoreset_mode`.

    render_mode: "rgb_array" ([H, W, 3] uint8) or "ansi": what the agent sees now, never more.
    """

    metadata = {"render_modes": ["rgb_array", "ansi"], "render_fps": 2}  # noqa: RUF012

    def __init__(
        self,
        task: str | Path | TaskGenerator,
        mode: str = "classify",
        *,
        render_mode: str | None = None,
        **settings: Any,
    ) -> None:
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise error.UnsupportedMode(f"render_mode '{render_mode}' of {task}; choose rgb_array or ansi")
        self.core = TaskVectorEnv(task, 1, mode, autoreset_mode=AutoresetMode.DISABLED, **settings)
        self.render_mode = render_mode
        self.observation_space = self.core.single_observation_space
        self.action_space = self.core.single_action_space
        self._seen: Any = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """(observation, info); info["steps"] holds the intermediate variables z as numbers."""
        super().reset(seed=seed)
        observation, info = self.core.reset(seed=seed)
        self._seen = _first(observation)
        return self._seen, {"steps": _numbers(info)}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """(observation, reward, terminated, truncated, info)."""
        observation, reward, terminated, truncated, info = self.core.step(torch.as_tensor(action).reshape(1))
        self._seen = _first(observation)
        return self._seen, float(reward[0]), bool(terminated[0]), bool(truncated[0]), {"steps": _numbers(info)}

    def render(self) -> Any:
        """The picture or the text of what the agent sees; None without a render mode."""
        if self.render_mode is None:
            return None
        if self._seen is None:
            raise error.ResetNeeded(f"{self.core.task.id} has nothing to render yet; call reset() first")
        view = self._seen if self.core.mode == "classify" else self._seen["view"]
        return (as_text if self.render_mode == "ansi" else as_picture)(self.core.task, view)


def _first(value: Any) -> Any:
    return {name: _first(each) for name, each in value.items()} if isinstance(value, dict) else value[0]


def _numbers(info: dict[str, Any]) -> dict[str, int]:
    return {name: int(value[0]) for name, value in info["steps"].items()}
