"""Groups of tokens, such as pairs, that stand in a context in random order."""

import torch

from multistep_bench.generators.sampling import shuffled


def in_random_order(groups: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Groups [B, N, w] of w tokens each, their order shuffled for each sample, one after another: [B, N·w]."""
    count, width = groups.shape[1:]
    order = shuffled(len(groups), count, rng).unsqueeze(2).expand(-1, -1, width)
    return groups.gather(1, order).flatten(1)
