"""Draws that rules of several families share, and the odds that follow from them."""

import math

import torch
from numpy.polynomial import polynomial


def uniform(*shape: int, rng: torch.Generator) -> torch.Tensor:
    """Uniform numbers in [0, 1), float64 on the device of `rng`."""
    return torch.rand(shape, generator=rng, device=rng.device, dtype=torch.float64)


def integers(high: int, *shape: int, rng: torch.Generator) -> torch.Tensor:
    """Uniform integers 0 … high − 1, int64 on the device of `rng`."""
    return torch.randint(high, shape, generator=rng, device=rng.device, dtype=torch.int64)


def shuffled(n: int, count: int, rng: torch.Generator) -> torch.Tensor:
    """n permutations of 0 … count − 1, [n, count] int64."""
    return uniform(n, count, rng=rng).argsort(1)


def expected_largest_count(draws: int, classes: int) -> float:
    """How often the most frequent class comes up, on average, in `draws` uniform draws from `classes`.

    E[largest count] = Σ_{m<c} P(largest > m) for c draws from K classes, where
    P(largest ≤ m) = c!/K^c · [x^c] (Σ_{i≤m} x^i/i!)^K.
    """
    largest = 0.0
    for m in range(draws):
        at_most_m = polynomial.polypow([1 / math.factorial(i) for i in range(m + 1)], classes)
        ways = float(at_most_m[draws]) if len(at_most_m) > draws else 0.0
        largest += 1 - math.factorial(draws) / classes**draws * ways
    return largest
