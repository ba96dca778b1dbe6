"""How many bits a variable costs given a representation: the online code of a probe."""

import math
from itertools import pairwise

import numpy as np
from sklearn.linear_model import LogisticRegression

from multistep_bench.diagnostics.probes import standardised

FIRST = 1 / 64  # share of the items that the uniform code pays for
STRENGTHS = (1e-3, 3e-2, 1.0)  # inverse L2 penalties of the probe, the strictest first
LEAST = 1e-12  # probability of a class that a probe excludes


def code_length(features: np.ndarray, labels: np.ndarray, classes: int) -> float:
    """Bits of `labels` [n], 0 … K − 1, given `features` [n, d], by the online code of Voita and Titov 2020
    (arXiv 2003.12298, section 2.2.2).

        L = t₁·log₂ K − Σᵢ log₂ p_θᵢ(y_{tᵢ+1 … tᵢ₊₁} | x_{tᵢ+1 … tᵢ₊₁})

    The uniform code pays for the first n/64 items; from then on the probe θᵢ, multinomial logistic regression on the
    items so far, pays for as many items again. Its L2 penalty is the one of `STRENGTHS` that would have coded the items
    so far in the fewest bits, so a variable that cannot be read costs about the uniform n·log₂ K and not more.
    Items are taken in their order, which must be random.
    """
    n = len(labels)
    ends = [max(1, round(n * FIRST))]
    while ends[-1] < n:
        ends.append(min(2 * ends[-1], n))
    bits = ends[0] * math.log2(classes)
    so_far = np.zeros(len(STRENGTHS))
    for known, end in pairwise(ends):
        best = int(so_far.argmin())
        costs = _costs(features[:known], labels[:known], features[known:end], labels[known:end], classes)
        bits += costs[best]
        so_far += costs
    return float(bits)


def _costs(x: np.ndarray, y: np.ndarray, z: np.ndarray, asked: np.ndarray, classes: int) -> np.ndarray:
    """Bits of `asked` given z under a probe fitted to x and y, for each penalty, [len(STRENGTHS)].

    A class that has not been seen yet has the probability that Laplace's rule gives to it.
    """
    x, z = standardised(x, z)
    counts = np.bincount(y, minlength=classes)
    unseen = int((counts == 0).sum())
    novelty = unseen / (len(y) + classes)  # of all unseen classes together
    seen = np.flatnonzero(counts)
    costs = []
    for strength in STRENGTHS:
        p = np.full((len(z), classes), novelty / max(unseen, 1))
        if len(seen) == 1:
            p[:, seen] = 1 - novelty if unseen else 1.0
        else:
            fitted = LogisticRegression(C=strength, max_iter=500, tol=1e-4).fit(x, y)
            p[:, seen] = (1 - novelty) * fitted.predict_proba(z)
        costs.append(-np.log2(np.maximum(p[np.arange(len(z)), asked], LEAST)).sum())
    return np.array(costs)
