"""The episodes that environments play: samples with one answer each, drawn many at a time."""

import torch
from gymnasium import error

from multistep_bench import seeds
from multistep_bench.batch import IGNORED, Batch
from multistep_bench.generators.base import Split, TaskGenerator

DRAWN_AHEAD = 128  # samples of one draw at least: a draw of one costs as much as one of dozens


def joined(pieces: list[Batch]) -> Batch:
    """Batches of one task as a single one."""
    if len(pieces) == 1:
        return pieces[0]
    whole = [piece.tensors() for piece in pieces]
    return rebuilt(pieces[0], {name: torch.cat([each[name] for each in whole]) for name in whole[0]})


def rebuilt(like: Batch, tensors: dict[str, torch.Tensor]) -> Batch:
    """The batch of `tensors`, named as in `Batch.tensors` of a batch of the same task."""
    inputs = {name: tensors[name] for name in like.inputs} if isinstance(like.inputs, dict) else tensors["inputs"]
    return Batch(inputs, tensors["targets"], {name: tensors[name] for name in like.steps})


class EpisodeStream:
    """The samples of one seed in an order of their own, `TaskGenerator.questions` without those that ask nothing.

    at_once: how many samples `take` will mostly be asked for; what is drawn ahead is a multiple of it, so that they
        are handed out without a copy. The order depends on it.
    """

    def __init__(self, task: TaskGenerator, split: Split, seed: int, at_once: int) -> None:
        self.task = task
        self.split: Split = split
        self._rng = seeds.generator(seeds.derive("gym", task.id, split, seed))
        self._size = at_once * max(1, DRAWN_AHEAD // at_once)
        self._pool: Batch | None = None
        self._used = 0

    def take(self, n: int) -> Batch:
        """The next n samples; nothing else holds their tensors, save that they may share memory with later ones."""
        pieces: list[Batch] = []
        while n:
            if self._pool is None or self._used == len(self._pool.targets):
                self._pool, self._used = self._drawn(), 0
            first, last = self._used, min(self._used + n, len(self._pool.targets))
            pieces.append(self._pool.each(lambda tensor, first=first, last=last: tensor[first:last]))
            self._used = last
            n -= last - first
        return joined(pieces)

    def _drawn(self) -> Batch:
        batch = self.task.questions(self._size, split=self.split, rng=self._rng)
        answers = answers_asked(batch)
        if bool((answers == 1).all()):
            return batch
        if int(answers.max()) != 1:
            asked = "several answers" if bool((answers > 1).any()) else "no answer"
            raise error.UnsupportedMode(
                f"{self.task.id} has no environment: a sample asks for {asked}; choose a task with one answer a sample"
            )
        return batch.each(lambda tensor: tensor[answers == 1])


def answers_asked(batch: Batch) -> torch.Tensor:
    """How many positions of each sample are scored, [B] int64."""
    return (batch.targets != IGNORED).reshape(len(batch.targets), -1).sum(1)


def asked(batch: Batch) -> torch.Tensor:
    """The target of each sample, whatever its place, [B] int64."""
    targets = batch.targets.reshape(len(batch.targets), -1)
    return targets.gather(1, (targets != IGNORED).long().argmax(1, keepdim=True)).squeeze(1)
