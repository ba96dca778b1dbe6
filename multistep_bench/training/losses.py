"""Losses and counts of logits against targets, in training and at evaluations."""

from collections.abc import Iterable

import torch
from torch.nn.functional import cross_entropy

from multistep_bench.batch import IGNORED
from multistep_bench.generators.base import TaskGenerator
from multistep_bench.training.data import EvaluationBatches


def training_loss(logits: torch.Tensor, targets: torch.Tensor, label_smoothing: float) -> torch.Tensor:
    """Mean cross-entropy over what is scored; 0 for a batch without, which masking gives when it is small."""
    loss = flat_cross_entropy(logits, targets, label_smoothing=label_smoothing)
    return torch.where((targets != IGNORED).any(), loss, torch.zeros_like(loss))


def flat_cross_entropy(logits: torch.Tensor, targets: torch.Tensor, **options: object) -> torch.Tensor:
    """Cross-entropy of logits [..., K] against targets [...], ignoring what is not scored."""
    return cross_entropy(logits.flatten(0, -2), targets.flatten(), ignore_index=IGNORED, **options)  # type: ignore[arg-type]


def at_least_float32(logits: torch.Tensor) -> torch.Tensor:
    """Logits in a type that a loss can be summed in: mixed precision gives bfloat16."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def measured(task: TaskGenerator, items: EvaluationBatches, answers: Iterable[torch.Tensor]) -> tuple[int, float]:
    """The count of correct answers and the mean cross-entropy of the logits for each batch of a set of items."""
    device = items.batches[0].targets.device
    correct = torch.zeros((), dtype=torch.int64, device=device)
    loss = torch.zeros((), dtype=torch.float64, device=device)
    for answer, batch in zip(answers, items.batches, strict=True):
        correct += task.correct(answer, batch).sum()
        loss += flat_cross_entropy(answer, batch.targets, reduction="sum")
    return int(correct), loss.item() / items.description.items
