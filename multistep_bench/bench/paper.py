"""The paper's recipe on this machine: its speed, where the time goes, and how much of the hardware it uses."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import torch

from multistep_bench.bench.quick import single_trainer
from multistep_bench.bench.result import Measured
from multistep_bench.bench.timing import interleaved, timed
from multistep_bench.cards import load_task
from multistep_bench.runs.spec import RunSpec
from multistep_bench.sources.check import check_data
from multistep_bench.training.data import training_batches
from multistep_bench.training.plan import plan
from multistep_bench.training.trainer import SingleTrainer

NEEDED = {"mnist", "fashion_mnist"}
# On a CPU an interval of the recipe would take most of an hour: two short steps are timed, and fewer items.
SHORT = {
    "protocol.batch_size": 32,
    "protocol.evaluations": 280_800,
    "protocol.evaluation_items": 192,
    "protocol.precision": "float32",
}


@dataclass(frozen=True)
class PaperRow:
    """One cell of the recipe with data and evaluation; `floating_point` rates are operations a second.

    A step and an item are timed, and shares and hours put together as the recipe does. `training_operations` are
    three forward passes a sample, without those of the evaluations; `share_of_matrix_rate` is what they make of the
    rate of one large product of matrices.
    """

    steps_per_second: float
    samples_per_second: float
    data_share: float
    evaluation_share: float
    hours_per_cell: float
    training_operations: float
    matrix_operations: float
    share_of_matrix_rate: float
    repeats: int


def measure_paper(seconds: float, device: torch.device, changes: Mapping[str, Any] | None = None) -> Measured:
    """Steps a second of the paper's ViT under protocol "paper", on drawn images where MNIST is absent.

    On a GPU in its own precision and batch size. On a CPU with one thread, as a worker has, in float32.
    """
    spec = paper_spec(device, changes)
    trainer = single_trainer(spec, device)
    size = 8192 if device.type == "cuda" else 1024
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    calls = {
        "train": partial(trainer.train_interval, 0),
        "evaluate": trainer.evaluate,
        "data": partial(_draw, trainer),
        "matrix": lambda: left @ right,
    }
    times = interleaved({name: timed(call, device, threads=1) for name, call in calls.items()}, seconds)
    row = _row(spec, {name: median(found) for name, found in times.items()}, 2 * size**3, len(times["train"]))
    return Measured(
        reference=f"a product of two {size}×{size} matrices in {str(dtype).removeprefix('torch.')}, timed in turn",
        settings={
            "task": spec.task.id,
            "timed_batch_size": spec.protocol.batch_size,
            "timed_steps": spec.protocol.steps_per_evaluation,
            "timed_evaluation_items": spec.protocol.evaluation_items,
            "precision": spec.protocol.precision,
            "parameters": spec.model.parameters,
            "flops_per_sample": spec.model.flops_per_sample,
        },
        rows=(row,),
    )


def paper_spec(device: torch.device, changes: Mapping[str, Any] | None = None) -> RunSpec:
    """The recipe as it is on a GPU, and with `SHORT` intervals on a CPU."""
    found = {check.source for check in check_data() if check.status == "ok"}
    task = "two_step-v1" if found >= NEEDED else "two_step_glyphs-v1"
    return plan(task, "vit", "paper", {**({} if device.type == "cuda" else SHORT), **(changes or {})})


def _draw(trainer: SingleTrainer) -> None:
    for _ in training_batches(trainer.task, trainer.spec.protocol, trainer.rngs[0]):
        pass


def _row(spec: RunSpec, seconds: dict[str, float], matrix_operations: int, repeats: int) -> PaperRow:
    recipe = load_task(spec.task.id).protocol("paper")
    timed_protocol = spec.protocol
    training = seconds["train"] / timed_protocol.interval * recipe.interval
    evaluation = seconds["evaluate"] / timed_protocol.evaluation_items * recipe.evaluation_items
    whole = training + evaluation
    samples_per_second = recipe.interval / whole
    assert spec.model.flops_per_sample is not None  # it is known for the model "vit"
    operations = 3 * spec.model.flops_per_sample * samples_per_second
    matrix_rate = matrix_operations / seconds["matrix"]
    return PaperRow(
        steps_per_second=samples_per_second / recipe.batch_size,
        samples_per_second=samples_per_second,
        data_share=seconds["data"] / timed_protocol.interval * recipe.interval / whole,
        evaluation_share=evaluation / whole,
        hours_per_cell=whole * recipe.evaluations / 3600,
        training_operations=operations,
        matrix_operations=matrix_rate,
        share_of_matrix_rate=operations / matrix_rate,
        repeats=repeats,
    )
