"""Masking for masked language modelling: which positions are selected, and what the model sees there.

Devlin et al. 2019 (BERT, section 3.1), drawn anew for every batch as in Liu et al. 2019 (RoBERTa, section 4.1).
"""

import torch

from multistep_bench.batch import IGNORED
from multistep_bench.generators.sampling import integers, uniform

MASK_NAME = "[MASK]"
SELECTED = 0.15  # of all positions
SHOW_MASK = 0.8  # of the selected positions: these show [MASK]
SHOW_RANDOM = 0.1  # of the selected positions: these show a uniform ordinary token; the rest are unchanged


def select(n: int, probabilities: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Selects positions of n sentences independently, with the probabilities [T]: bool [n, T]."""
    return uniform(n, len(probabilities), rng=rng) < probabilities.to(rng.device)


def corrupt(tokens: torch.Tensor, selected: torch.Tensor, vocabulary: int, rng: torch.Generator) -> torch.Tensor:
    """What a model sees of tokens [B, T]: of the selected, 80 % become [MASK], 10 % a random token, 10 % stay.

    vocabulary: V; ordinary tokens are 0 … V − 1, from which random ones are drawn uniformly, and [MASK] is token V.
    """
    kind = uniform(*tokens.shape, rng=rng)
    random = integers(vocabulary, *tokens.shape, rng=rng)
    shown = torch.where(kind < SHOW_MASK, vocabulary, torch.where(kind < SHOW_MASK + SHOW_RANDOM, random, tokens))
    return torch.where(selected, shown, tokens)


def targets_at(tokens: torch.Tensor, scored: torch.Tensor) -> torch.Tensor:
    """Targets [B, T]: the tokens at the scored positions, `IGNORED` elsewhere."""
    return torch.where(scored, tokens, IGNORED)
