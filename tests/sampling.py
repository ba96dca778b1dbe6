"""How near a measured share must be, and what solvers reach."""

import torch

from multistep_bench.batch import Batch


def four_errors(share: float, n: int) -> float:
    """Four standard errors of a share of n independent items."""
    return 4 * (share * (1 - share) / n) ** 0.5


def accuracy(answers: torch.Tensor, batch: Batch) -> float:
    """How often answers, [B], are a batch's targets."""
    return float((answers == batch.targets).double().mean())


def episode(batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """The items [B, n + 1, ...] and labels [B, n] of episodes."""
    assert isinstance(batch.inputs, dict)
    return batch.inputs["items"], batch.inputs["labels"]
