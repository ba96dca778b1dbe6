"""Drawing classes by their frequencies, with and without replacement, for a whole batch at once."""

import torch

from multistep_bench.generators.sampling import uniform

ZIPF_SCALE = 2**32  # the weight of the most frequent class


class ClassSampler:
    """Draws classes 0 … K − 1 in proportion to weights [K], integers, so that sums of them are exact."""

    def __init__(self, weights: torch.Tensor) -> None:
        self.weights = weights
        self.ends = weights.cumsum(0)

    def draw(self, *shape: int, rng: torch.Generator, without: torch.Tensor | None = None) -> torch.Tensor:
        """Independent classes of this shape, none of those in `without` [*shape, J], which are distinct."""
        self.weights, self.ends = self.weights.to(rng.device), self.ends.to(rng.device)
        none = torch.empty(*shape, 0, dtype=torch.int64, device=rng.device)
        excluded = (none if without is None else without).sort(-1).values
        total = self.ends[-1] - self.weights[excluded].sum(-1)
        point = uniform(*shape, rng=rng)
        point = (point * total).long()  # shape: a point on the line of all weights but the excluded ones
        for gap in excluded.unbind(-1):  # ascending, so that every gap is skipped before the later ones
            weight = self.weights[gap]
            point = point + torch.where(point >= self.ends[gap] - weight, weight, 0)
        return torch.searchsorted(self.ends, point, right=True)

    def distinct(self, n: int, count: int, rng: torch.Generator) -> torch.Tensor:
        """n draws of `count` classes without replacement, [n, count]."""
        classes = self.draw(n, 1, rng=rng)
        for _ in range(count - 1):
            classes = torch.cat((classes, self.draw(n, rng=rng, without=classes).unsqueeze(1)), 1)
        return classes


def uniform_classes(count: int) -> ClassSampler:
    """`count` equally frequent classes."""
    return ClassSampler(torch.ones(count, dtype=torch.int64))


def zipf_classes(count: int, exponent: float) -> ClassSampler:
    """Classes whose frequency falls as 1 / (k + 1)^exponent, up to rounding; 0 makes them equally frequent."""
    rank = torch.arange(1, count + 1, dtype=torch.float64)
    return ClassSampler((ZIPF_SCALE * rank**-exponent).round().long().clamp(min=1))
