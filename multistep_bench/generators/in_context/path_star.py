"""Path-star: the first step from the centre of a star towards a goal at the end of one of its arms."""

import gymnasium
import numpy as np
import torch
from pydantic import Field, model_validator

from multistep_bench.batch import Batch, TaskInfo
from multistep_bench.cards import Levels
from multistep_bench.generators.base import Split, TaskGenerator
from multistep_bench.generators.in_context.groups import in_random_order
from multistep_bench.generators.sampling import shuffled
from multistep_bench.registry import register_generator
from multistep_bench.strict import Strict


class PathStarParameters(Strict):
    """arms: d. length: ℓ, the edges of an arm. nodes: N, the number of node names; those of a star are distinct."""

    arms: int = Field(default=3, ge=2, le=64)
    length: int = Field(default=3, ge=2, le=64)
    nodes: int = Field(default=16, ge=5, le=10**4)

    @model_validator(mode="after")
    def _distinct(self) -> "PathStarParameters":
        needed = self.arms * self.length + 1
        if self.nodes < needed:
            raise ValueError(
                f"nodes {self.nodes} is below arms·length + 1 = {needed}: the nodes of a star have distinct names;"
                " ask for more nodes, or fewer or shorter arms"
            )
        return self


@register_generator("path_star")
class PathStar(TaskGenerator):
    """A star of d arms of ℓ edges; given all edges in random order, the centre and a leaf, name the first step.

        edges (d = 2, ℓ = 3)                    centre goal
        3 8   5 1   7 3   7 5   8 4   1 6         7     4        7 → 3 → 8 → 4, so the answer is 3

    After Bachmann and Nagarajan (2024, arXiv 2403.06963). Edges point away from the centre. Names are drawn from N
    without replacement, the goal is uniform among the leaves, the answer is read at the last token.
    Steps, [B] each: z is "arm", the goal's arm, counted from 0 in the order in which the centre's edges are shown;
    "node_2" … "node_{ℓ − 1}" are the nodes between the answer and the goal.
    """

    Parameters = PathStarParameters

    def levels(self) -> Levels:
        """chance = 1/N; shortcut = 1/d, naming any neighbour of the centre; ceiling = 1.

        Naming any node of the star but the centre and the goal is right with probability 1/(dℓ − 1).
        """
        p = self.parameters
        return Levels(chance=1 / p.nodes, shortcut=1 / p.arms, ceiling=1.0)

    def describe(self) -> TaskInfo:
        p = self.parameters
        edges = 2 * p.arms * p.length
        return TaskInfo(
            id=self.id,
            observation_space=gymnasium.spaces.Box(0, p.nodes - 1, (edges + 2,), np.int64),
            target_space=gymnasium.spaces.Discrete(p.nodes),
            num_classes=p.nodes,
            kind="tokens",
            layout={"edges": (0, 0, 1, edges), "centre": (0, edges, 1, 1), "goal": (0, edges + 1, 1, 1)},
            size=self.size,
            steps=("arm", *(f"node_{i}" for i in range(2, p.length))),
            **self.levels().model_dump(),
        )

    def draw(self, n: int, split: Split, rng: torch.Generator) -> Batch:
        return self._stars(n, self.parameters.length, rng)

    def auxiliary(self, n: int, rng: torch.Generator) -> dict[str, Batch]:
        """Nearer goals, which training never shows: "goal 1" (the answer itself) … "goal ℓ − 1" edges away, n / 4 each.

        Their steps end at the goal: `node_i` is the arm's i-th node beyond it, too.
        """
        return {f"goal {away}": self._stars(-(-n // 4), away, rng) for away in range(1, self.parameters.length)}

    def _stars(self, n: int, away: int, rng: torch.Generator) -> Batch:
        """n samples whose goal is so many edges away from the centre."""
        p = self.parameters
        names = shuffled(n, p.nodes, rng)[:, : p.arms * p.length + 1]
        centre, arms = names[:, :1], names[:, 1:].view(n, p.arms, p.length)
        walks = torch.cat((centre.unsqueeze(1).expand(-1, p.arms, -1), arms), 2)  # n, d, ℓ + 1
        edges = in_random_order(walks.unfold(2, 2, 1).flatten(1, 2), rng)
        path = arms[:, 0]  # n, ℓ; the first is as good as any, for their names and their places are random
        steps = {"arm": _place(edges, centre, path[:, :1])}
        steps |= {f"node_{i}": path[:, i - 1].contiguous() for i in range(2, p.length)}
        return Batch(torch.cat((edges, centre, path[:, away - 1 : away]), 1), path[:, 0].contiguous(), steps)


def _place(edges: torch.Tensor, centre: torch.Tensor, neighbour: torch.Tensor) -> torch.Tensor:
    """How many edges [B, 2E] lead from the centre [B, 1] before the one that leads to the neighbour [B, 1]; [B]."""
    of_centre = edges[:, ::2] == centre
    found = (edges[:, 1::2] == neighbour).int().argmax(1, keepdim=True)  # one edge leads to each node
    return of_centre.cumsum(1).gather(1, found).squeeze(1) - 1
