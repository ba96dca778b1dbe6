"""Unigram and bigram predictors by counting: reference levels of a text that need no training."""

import numpy as np
import torch
from scipy.sparse import coo_array, csr_array

CHUNK = 2**22  # tokens counted at a time


def pair_counts(tokens: torch.Tensor, vocabulary: int) -> csr_array:
    """How often token b follows token a in a text [N] read as a ring: [V, V] int64 at (a, b)."""
    counts = csr_array((vocabulary, vocabulary), dtype=np.int64)
    for first in range(0, len(tokens), CHUNK):
        left = tokens[first : first + CHUNK].numpy()
        right = tokens[first + 1 : first + 1 + CHUNK].numpy()
        if len(right) < len(left):
            right = np.append(right, tokens[0].item())
        ones = np.ones(len(left), np.int64)
        counts = counts + coo_array((ones, (left, right)), shape=counts.shape).tocsr()
    return counts


def unigram_probabilities(counts: csr_array) -> np.ndarray:
    """p(b) = (c(b) + 1) / (N + V), [V]: frequencies with add-one (Laplace) smoothing."""
    frequency = counts.sum(0)
    return (frequency + 1) / (frequency.sum() + len(frequency))


def bigram_probabilities(counts: csr_array, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """p(b | a) = (c(a, b) + d(a)·p(b)) / (c(a) + d(a)) for each pair (a, b), where d(a) distinct tokens follow a.

    Witten–Bell smoothing (1991) towards the unigram p(b), which is used alone where a was never seen.
    """
    followers, seen = np.diff(counts.indptr)[left], counts.sum(1)[left]
    unigram = unigram_probabilities(counts)[right]
    smoothed = (counts[left, right] + followers * unigram) / np.maximum(seen + followers, 1)
    return np.where(seen > 0, smoothed, unigram)


def cross_entropies(train: torch.Tensor, held_out: torch.Tensor, vocabulary: int) -> tuple[float, float]:
    """Unigram and bigram cross-entropy in nats per token on a held-out text, from the counts of a training text.

    Both texts [N] are read as rings. The bigram predictor sees the true left neighbour of every token.
    """
    counts, pairs = pair_counts(train, vocabulary), pair_counts(held_out, vocabulary).tocoo()
    left, right = pairs.coords
    share = pairs.data / pairs.data.sum()
    unigram = unigram_probabilities(counts)[right]
    bigram = bigram_probabilities(counts, left, right)
    return -float(share @ np.log(unigram)), -float(share @ np.log(bigram))
