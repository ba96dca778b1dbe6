"""Which cells of a run train together: those of a checkpoint as they were, the others stacked where they can be."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from multistep_bench import seeds
from multistep_bench.errors import RunError
from multistep_bench.models.build import build
from multistep_bench.runs.spec import Cell
from multistep_bench.training.checkpoint import read_checkpoint_header, set_aside
from multistep_bench.training.group import Group, Job
from multistep_bench.training.optimizers import why_not_stacked
from multistep_bench.training.plan import task_of
from multistep_bench.training.randomness import own_randomness
from multistep_bench.training.stackable import why_not_stackable
from multistep_bench.training.stacked import StackedTrainer, cells_that_fit

StackSize = Callable[[Job, list[Cell], int | None], tuple[Job, int]]


def grouped(
    job: Job, todo: list[Cell], checkpoints: list[Path], stack: int | None, stack_size: StackSize
) -> tuple[Job, list[Group]]:
    """The groups to train: those of checkpoints as they were, the other cells stacked as far as they can be.

    stack_size: finds how many cells to train at once, as `stack_size_here` does where the device is in this machine.
    """
    groups: list[Group] = []
    for path in checkpoints:
        try:
            header = read_checkpoint_header(path)
        except RunError as error:  # of a finished cell it blocks nothing
            set_aside(path, error)
            continue
        group = tuple(Cell(rate_index, seed_index) for rate_index, seed_index in header.cells)
        if header.identity == job.spec.identity() and not set(group).isdisjoint(todo):
            groups.append(group)
    begun = {cell for group in groups for cell in group}
    rest = [cell for cell in todo if cell not in begun]
    on_gpu = torch.device(job.device).type == "cuda"
    size = 1
    if rest and (stack or on_gpu) and stack != 1:
        job, size = stack_size(job, rest, stack)
    each = math.ceil(len(rest) / math.ceil(len(rest) / size)) if rest else 1  # groups of about one size
    return job, groups + [tuple(rest[first : first + each]) for first in range(0, len(rest), each)]


def stack_size_here(job: Job, cells: list[Cell], stack: int | None) -> tuple[Job, int]:
    """How many cells to train at once; where a model cannot be stacked, 1, and the job says why."""
    if stack is not None and (reason := why_not_stacked(job.spec.protocol)) is not None:
        raise RunError(f"--stack {stack}: {reason}; leave --stack out, and cells train one at a time")
    device = torch.device(job.device)
    task = task_of(job.spec, job.data_root)
    inputs = task.sample(2, split="eval", rng=seeds.generator(seeds.derive("plan"), device)).inputs
    with own_randomness(device):
        reason = why_not_stackable(job.spec, build(job.spec.model.card(), task.info).to(device), inputs)
        if reason is not None:
            return replace(job, note=f"not stacked because {reason}"), 1
        if stack is not None:
            return job, stack
        probe = StackedTrainer(job.spec, cells[:2], task, lambda: build(job.spec.model.card(), task.info), device)
        return job, cells_that_fit(probe)
