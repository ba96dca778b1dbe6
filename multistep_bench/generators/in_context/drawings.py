"""Drawing images of a class without repeating one within an episode, in any of the eight symmetries of the square."""

import torch

from multistep_bench.generators.pool import Pool
from multistep_bench.generators.sampling import uniform

SYMMETRIES = 8  # of a square: rotations by multiples of 90°, each also mirrored


def distinct_drawings(pool: Pool, classes: torch.Tensor, available: int, rng: torch.Generator) -> torch.Tensor:
    """Rows [B, m] of the pool's images: a uniform one of each class in `classes` [B, m], none twice in a row of B.

    Only the first `available` images of a class are drawn from; at least m.
    """
    same = classes.unsqueeze(2) == classes.unsqueeze(1)  # B, m, m
    earlier = same.tril(-1).sum(2)  # B, m: items of the same class before each item
    point = uniform(*classes.shape, rng=rng)
    number = (point * (available - earlier)).long()  # B, m: counts only images of the class that are not yet taken
    for i in range(1, classes.shape[1]):
        taken = torch.where(same[:, i, :i], number[:, :i], available).sort(1).values
        for gap in taken.unbind(1):
            number[:, i] += number[:, i] >= gap
    return pool.on(rng.device).first[classes] + number


def apply_symmetry(images: torch.Tensor, symmetry: torch.Tensor) -> torch.Tensor:
    """Square images [..., C, t, t], each in its symmetry 0 … 7 of `symmetry` [...]: transposed (1), then mirrored left
    to right (2), then top to bottom (4).
    """
    for bit, change in ((1, lambda x: x.mT), (2, lambda x: x.flip(-1)), (4, lambda x: x.flip(-2))):
        chosen = (symmetry & bit > 0)[..., None, None, None]
        images = torch.where(chosen, change(images), images)
    return images
