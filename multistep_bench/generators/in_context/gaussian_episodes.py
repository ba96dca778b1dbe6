"""In-context classification of noisy points (after Reddy 2023, arXiv 2312.03002)."""

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
import torch
from pydantic import Field, model_validator
from scipy import stats

from multistep_bench import seeds
from multistep_bench.batch import Batch
from multistep_bench.errors import CardError
from multistep_bench.generators.base import Split
from multistep_bench.generators.in_context.class_sampler import uniform_classes
from multistep_bench.generators.in_context.episodes import EpisodeTask, arranged
from multistep_bench.generators.sampling import shuffled
from multistep_bench.registry import register_generator
from multistep_bench.strict import Strict

MATCHING_ERROR = 1e-6  # nearest neighbours must be wrong less often than this for a ceiling of 1
MARGIN = 10  # standard deviations that normal noise never reaches


class GaussianParameters(Strict):
    """dimension: D. noise: ε.
    pairs: N items in the context. copies: B of them of each class, so that the context shows N/B classes.
    labels: L, at least N/B, which is the default.
    pool: 0 draws new classes with distinct labels for every episode. K > 0: all training episodes draw from K fixed
    classes, class k with label k mod L, so that the weights may memorise them; evaluation is still on new classes.
    seed: draws the pool.
    """

    dimension: int = Field(default=63, ge=1, le=4096)
    noise: float = Field(default=0.1, gt=0, le=1e3)
    pairs: int = Field(default=8, ge=2, le=1024)
    copies: int = Field(default=1, ge=1, le=1024)
    labels: int | None = Field(default=None, ge=2, le=10**5)
    pool: int = Field(default=0, ge=0, le=10**6)
    seed: int = 0

    @property
    def ways(self) -> int:
        return self.pairs // self.copies

    @model_validator(mode="after")
    def _consistent(self) -> "GaussianParameters":
        if self.pairs % self.copies or self.ways < 2:
            raise ValueError(f"pairs {self.pairs} is not a multiple of copies {self.copies}, and at least twice it")
        if self.labels is not None and self.labels < self.ways:
            raise ValueError(f"labels {self.labels} is below the {self.ways} classes in a context, whose labels differ")
        if 0 < self.pool <= self.ways:
            raise ValueError(
                f"pool {self.pool} leaves no class out of a context of {self.ways}; give more, or 0 for new classes"
            )
        if self.seed and not self.pool:
            raise ValueError(f"seed {self.seed} draws a pool, and pool is 0; give both or neither")
        return self


@register_generator("gaussian_episodes")
class GaussianEpisodes(EpisodeTask):
    """Items (μ + εη)/√(1 + ε²) with class means μ and noise η ~ N(0, I/D).

        items   |  μ₂ + η  |  μ₀ + η  |  μ₁ + η  |  μ₀ + η  |      match = 1
        labels  |    1     |    2     |    0     |    ?     |      → 2

    The query is another noisy point of one of the context's classes. Classes are numbered within their episode, those
    of a pool within the pool.

    With a pool, the score is the accuracy on *new* classes, whose labels only the context shows: on the pool's classes
    a model that memorises cannot be told from one that matches. Auxiliary curves: "in weights", on pool classes that
    are not in the context, and "trained classes", on pool classes that are, where memorising and matching both work.
    """

    Parameters = GaussianParameters

    def __init__(self, parameters: Mapping[str, Any], **settings: Any) -> None:
        super().__init__(parameters, **settings)
        p = self.parameters
        self.pairs, self.ways, self.num_labels = p.pairs, p.ways, p.labels or p.ways
        wrong = (p.pairs - p.copies) * confusion(p.dimension, p.noise)
        if wrong > MATCHING_ERROR:
            raise CardError(
                f"noise {p.noise} in {p.dimension} dimensions of {self.id}: the nearest item may be of another class"
                f" in up to {min(wrong, 1):.2g} of the episodes, and the ceiling is said to be 1; give less noise or"
                " more dimensions"
            )
        if p.pool:
            self.classes = uniform_classes(p.pool)
            self.means = self._normal(p.pool, rng=seeds.generator(seeds.derive("pool", "gaussian_episodes", p.seed)))

    def item_space(self) -> gymnasium.spaces.Box:
        bound = MARGIN / self.parameters.dimension**0.5
        return gymnasium.spaces.Box(-bound, bound, (self.pairs + 1, self.parameters.dimension), np.float32)

    def draw(self, n: int, split: Split, rng: torch.Generator) -> Batch:
        if split == "train" and self.parameters.pool:
            classes = self.classes.distinct(n, self.ways, rng)
            return self._of_pool(classes.gather(1, arranged(n, self.ways, self.parameters.copies, rng)), rng)
        classes = arranged(n, self.ways, self.parameters.copies, rng)  # n, pairs + 1
        labels = shuffled(n, self.num_labels, rng).gather(1, classes)
        means = self._normal(n, self.ways, rng=rng)
        own = means.gather(1, classes.unsqueeze(2).expand(-1, -1, self.parameters.dimension))
        return self.episodes(self._noisy(own, rng), classes, labels)

    def auxiliary(self, n: int, rng: torch.Generator) -> dict[str, Batch]:
        """With a pool: "in weights" and "trained classes", of n / 2 episodes each."""
        if not self.parameters.pool:
            return {}
        half = max(1, n // 2)
        classes = self.classes.distinct(half, self.ways + 1, rng)
        context = arranged(half, self.ways, self.parameters.copies, rng)
        absent = torch.cat((classes.gather(1, context[:, :-1]), classes[:, -1:]), 1)
        return {
            "in weights": self._of_pool(absent, rng),
            "trained classes": self._of_pool(classes.gather(1, context), rng),
        }

    def _of_pool(self, classes: torch.Tensor, rng: torch.Generator) -> Batch:
        self.means = self.means.to(rng.device)
        return self.episodes(self._noisy(self.means[classes], rng), classes, classes % self.num_labels)

    def _normal(self, *shape: int, rng: torch.Generator) -> torch.Tensor:
        """Points ~ N(0, I/D), [*shape, D] float64."""
        dimension = self.parameters.dimension
        points = torch.randn(*shape, dimension, generator=rng, device=rng.device, dtype=torch.float64)
        return points / dimension**0.5

    def _noisy(self, means: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        """Items of the classes with these means [B, n + 1, D], float32."""
        noise = self.parameters.noise
        items = means + noise * self._normal(*means.shape[:2], rng=rng)
        return (items / (1 + noise**2) ** 0.5).float()


def confusion(dimension: int, noise: float) -> float:
    """How often the query is nearer to a given item of another class than to a given item of the same class.

    With a the difference to the item of the same class and b to the other, |a|² > |b|² iff Σ (a − b)(a + b) > 0. The
    pairs of coordinates are independent and normal with correlation r, so that the regression coefficient of one on the
    other is positive with probability P(T > √D·|r|/√(1 − r²)), T of Student's distribution with D degrees of freedom.
    Up to a factor, Var a = 2ε², Var b = 2 + 2ε², Cov = ε².
    """
    own, other, shared = 2 * noise**2, 2 + 2 * noise**2, noise**2
    r = (other - own) / ((own + other) ** 2 - 4 * shared**2) ** 0.5
    return float(stats.t.sf(dimension**0.5 * r / (1 - r**2) ** 0.5, dimension))
