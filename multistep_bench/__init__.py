"""multistep-bench: how fast, how well and how likely a torch model learns multi-step tasks.

The public names load on first use, so that importing the package and listing cards need no torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

if TYPE_CHECKING:
    from multistep_bench.batch import Batch, TaskInfo
    from multistep_bench.cards import Levels, list_models, list_tasks
    from multistep_bench.desk.compare import compare
    from multistep_bench.desk.figure import plot
    from multistep_bench.desk.run import run
    from multistep_bench.errors import BenchError
    from multistep_bench.generators.base import TaskGenerator
    from multistep_bench.generators.task import make_task
    from multistep_bench.models.attention.rule import make_attention
    from multistep_bench.models.build import make_model
    from multistep_bench.registry import register_attention, register_generator, register_model, register_source
    from multistep_bench.runs.diagnostics import load_diagnostics
    from multistep_bench.runs.search import list_runs, load_run
    from multistep_bench.scoring.score import score
    from multistep_bench.strict import Strict
    from multistep_bench.training.kept import load_model
    from multistep_bench.training.plan import plan
    from multistep_bench.training.relay import NullObserver, Observer
    from multistep_bench.training.sweep import sweep
    from multistep_bench.trusted_code import trust

_HOMES = {
    "Batch": "batch",
    "BenchError": "errors",
    "Levels": "cards",
    "NullObserver": "training.relay",
    "Observer": "training.relay",
    "Strict": "strict",
    "TaskGenerator": "generators.base",
    "TaskInfo": "batch",
    "compare": "desk.compare",
    "load_diagnostics": "runs.diagnostics",
    "list_models": "cards",
    "list_runs": "runs.search",
    "list_tasks": "cards",
    "load_run": "runs.search",
    "load_model": "training.kept",
    "make_attention": "models.attention.rule",
    "make_model": "models.build",
    "make_task": "generators.task",
    "plan": "training.plan",
    "plot": "desk.figure",
    "register_attention": "registry",
    "register_generator": "registry",
    "register_model": "registry",
    "register_source": "registry",
    "run": "desk.run",
    "score": "scoring.score",
    "sweep": "training.sweep",
    "trust": "trusted_code",
}

__all__ = [
    "Batch",
    "BenchError",
    "Levels",
    "NullObserver",
    "Observer",
    "Strict",
    "TaskGenerator",
    "TaskInfo",
    "compare",
    "list_models",
    "list_runs",
    "list_tasks",
    "load_diagnostics",
    "load_model",
    "load_run",
    "make_attention",
    "make_model",
    "make_task",
    "plan",
    "plot",
    "register_attention",
    "register_generator",
    "register_model",
    "register_source",
    "run",
    "score",
    "sweep",
    "trust",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'multistep_bench' has no attribute '{name}'")
    return getattr(importlib.import_module(f"multistep_bench.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
