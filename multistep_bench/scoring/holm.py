"""Correction of p-values for their number."""

from collections.abc import Sequence

import numpy as np


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number by Holm's step-down method (1979), in the order given."""
    n = len(p_values)
    order = np.argsort(p_values, kind="stable")
    corrected = np.empty(n)
    corrected[order] = np.minimum(np.maximum.accumulate(np.array(p_values)[order] * np.arange(n, 0, -1)), 1)
    return corrected.tolist()
