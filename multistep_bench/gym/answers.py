"""The answers of reference policies, from what the hidden steps say: references and no agents."""

from functools import singledispatch

import torch
from gymnasium import error

from multistep_bench.batch import Batch
from multistep_bench.generators.base import Split, TaskGenerator
from multistep_bench.generators.in_context.episodes import EpisodeTask
from multistep_bench.generators.in_context.lookup import Lookup
from multistep_bench.generators.in_context.markov import Markov, state_counts
from multistep_bench.generators.masked.agreement import Agreement
from multistep_bench.generators.tiles.n_step import NStep
from multistep_bench.generators.tiles.two_step import TwoStep
from multistep_bench.gym.episodes import asked


@singledispatch
def clean_answers(task: TaskGenerator, batch: Batch) -> torch.Tensor:
    """The answers by the task's rule before label noise, [B], which are right as often as the card's ceiling says.

    Raises `error.Error` for a noisy task whose rule before the noise is not known here.
    """
    if getattr(task.parameters, "label_noise", 0):
        raise error.Error(f"{task.id} has label noise and no known rule before it; play random or shortcut")
    return asked(batch)


@clean_answers.register
def _(task: TwoStep, batch: Batch) -> torch.Tensor:
    steps = batch.steps
    return torch.where(steps["same"] == 1, steps["answer_same"], steps["answer_other"])


@clean_answers.register
def _(task: NStep, batch: Batch) -> torch.Tensor:
    location = batch.steps["target_location"] - task.leaves
    return _target_labels(task, batch).gather(1, location.unsqueeze(1)).squeeze(1)


@singledispatch
def shortcut_answers(task: TaskGenerator, batch: Batch) -> torch.Tensor:
    """The answers of the best policy that ignores z, [B], as the `levels` of the task define it.

    Raises `error.Error` for a task whose shortcut is not known here.
    """
    raise error.Error(f"{task.id} has no shortcut policy to play; play random or oracle")


@shortcut_answers.register
def _(task: TwoStep, batch: Batch) -> torch.Tensor:
    return batch.steps["answer_same" if task.parameters.same_probability > 0.5 else "answer_other"]


@shortcut_answers.register
def _(task: NStep, batch: Batch) -> torch.Tensor:
    return _target_labels(task, batch).mode(1).values


@shortcut_answers.register
def _(task: Lookup, batch: Batch) -> torch.Tensor:
    """The first key that is not the start."""
    tokens = batch.inputs
    assert isinstance(tokens, torch.Tensor)
    return torch.where(tokens[:, 0] == tokens[:, -1], tokens[:, 2], tokens[:, 0])


@shortcut_answers.register
def _(task: EpisodeTask, batch: Batch) -> torch.Tensor:
    """The first label of the context, whose items are in random order."""
    assert isinstance(batch.inputs, dict)
    return batch.inputs["labels"][:, 0]


@shortcut_answers.register
def _(task: Agreement, batch: Batch) -> torch.Tensor:
    """A verb of the nouns' most frequent class."""
    p, tokens = task.parameters, batch.inputs
    assert isinstance(tokens, torch.Tensor)
    kinds = task.kinds[tokens[:, 1:-1]] - p.nouns  # B, N: the nouns' classes
    return task.verb_ids[kinds.mode(1).values, 0]


@shortcut_answers.register
def _(task: Markov, batch: Batch) -> torch.Tensor:
    """The most frequent state; the first of several."""
    tokens = batch.inputs
    assert isinstance(tokens, torch.Tensor)
    return state_counts(tokens, task.parameters.states).argmax(1)


def levels_hold(task: TaskGenerator, split: Split) -> bool:
    """Whether the levels of the card, which are those of evaluation, are exact for a split's environments.

    Not in training where episodes repeat classes or deal labels that coincide: a pool, or fixed labels.
    """
    changed = getattr(task.parameters, "pool", 0) or getattr(task.parameters, "fixed_labels", False)
    return split == "eval" or not changed


def _target_labels(task: NStep, batch: Batch) -> torch.Tensor:
    """The label of each target tile before label noise, [B, L]."""
    classes = torch.stack([batch.steps[f"target_{i}_class"] for i in range(1, task.leaves + 1)], 1)
    order = torch.tensor(task.parameters.target_classes)
    return (classes.unsqueeze(2) == order).long().argmax(2)
