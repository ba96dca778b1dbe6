"""Path-star: stars read from the tokens by an independent rule, and a solver for every level."""

from collections import Counter

import pytest
import torch
from image_data import stream
from sampling import accuracy, four_errors

from multistep_bench.batch import Batch
from multistep_bench.errors import CardError
from multistep_bench.generators.in_context.path_star import PathStar

N = 6000

Star = tuple[list[tuple[int, int]], int, int]


def path_star(**parameters: int) -> PathStar:
    return PathStar(parameters, id="path_star-v1")


def draw(task: PathStar, n: int = N) -> Batch:
    return task.sample(n, split="eval", rng=stream("path_star"))


def read(batch: Batch) -> list[Star]:
    """Of each sample the edges in order, the centre and the goal, as the tokens say them."""
    assert isinstance(batch.inputs, torch.Tensor)
    rows = batch.inputs.tolist()
    return [(list(zip(row[:-2:2], row[1:-2:2], strict=True)), row[-2], row[-1]) for row in rows]


def walk_back(edges: list[tuple[int, int]], centre: int, goal: int) -> list[int]:
    """The path from the centre's neighbour to the goal, found from its end."""
    before = {end: start for start, end in edges}
    path = [goal]
    while before[path[0]] != centre:
        path.insert(0, before[path[0]])
    return path


def pick(choices: list[list[int]]) -> torch.Tensor:
    point = torch.rand(len(choices), generator=stream("pick")).tolist()
    return torch.tensor([each[int(p * len(each))] for each, p in zip(choices, point, strict=True)])


@pytest.mark.parametrize(("arms", "length", "nodes"), [(2, 2, 5), (3, 3, 16), (4, 5, 21)])
def test_the_answer_is_the_first_node_of_the_goals_arm(arms: int, length: int, nodes: int) -> None:
    batch = draw(path_star(arms=arms, length=length, nodes=nodes), 1000)
    assert list(batch.steps) == ["arm", *(f"node_{i}" for i in range(2, length))]
    for i, (edges, centre, goal) in enumerate(read(batch)):
        assert len({node for edge in edges for node in edge}) == arms * length + 1  # no two arms meet
        starts = Counter(start for start, _ in edges)
        assert starts[centre] == arms
        assert goal not in starts
        path = walk_back(edges, centre, goal)
        assert len(path) == length
        assert int(batch.targets[i]) == path[0]
        neighbours = [end for start, end in edges if start == centre]
        assert int(batch.steps["arm"][i]) == neighbours.index(path[0])
        assert [int(batch.steps[f"node_{j}"][i]) for j in range(2, length)] == path[1:-1]


@pytest.mark.parametrize(("arms", "length", "nodes"), [(2, 2, 7), (3, 3, 16), (5, 4, 40)])
def test_a_solver_of_every_kind_lands_on_the_level_computed_for_it(arms: int, length: int, nodes: int) -> None:
    task = path_star(arms=arms, length=length, nodes=nodes)
    batch, levels = draw(task), task.levels()
    stars = read(batch)

    def within(level: float | None) -> object:
        assert level is not None
        return pytest.approx(level, abs=four_errors(level, N))

    assert accuracy(pick([list(range(nodes))] * N), batch) == within(levels.chance)
    others = [[end for _, end in edges if end != goal] for edges, _, goal in stars]
    assert accuracy(pick(others), batch) == within(1 / (arms * length - 1))
    neighbours = [[end for start, end in edges if start == centre] for edges, centre, _ in stars]
    assert levels.shortcut == 1 / arms
    assert accuracy(pick(neighbours), batch) == within(levels.shortcut)
    firsts = torch.tensor([each[0] for each in neighbours])
    assert accuracy(firsts, batch) == within(levels.shortcut)  # the order of the edges tells nothing
    assert accuracy(torch.tensor([walk_back(*star)[0] for star in stars]), batch) == levels.ceiling == 1


def test_the_edges_of_the_goals_arm_stand_anywhere() -> None:
    batch = draw(path_star(arms=2, length=2, nodes=5))
    stars = read(batch)
    paths = [walk_back(*star) for star in stars]
    first = Counter(star[0].index((star[1], path[0])) for star, path in zip(stars, paths, strict=True))
    last = Counter(star[0].index((path[0], path[1])) for star, path in zip(stars, paths, strict=True))
    for places in (first, last):
        assert [places[i] / N for i in range(4)] == [pytest.approx(1 / 4, abs=four_errors(1 / 4, N))] * 4
    for names in (batch.targets, torch.tensor([goal for _, _, goal in stars])):
        assert (torch.bincount(names, minlength=5) / N).tolist() == [
            pytest.approx(1 / 5, abs=four_errors(1 / 5, N))
        ] * 5


def test_nearer_goals_are_measured_apart() -> None:
    further = path_star(arms=3, length=4).auxiliary(999, stream("secondary"))
    assert list(further) == ["goal 1", "goal 2", "goal 3"]
    for away, batch in enumerate(further.values(), 1):
        stars = read(batch)
        assert len(stars) == 250
        assert {len(walk_back(*star)) for star in stars} == {away}
        assert batch.targets.tolist() == [walk_back(*star)[0] for star in stars]


def test_too_few_names_are_refused() -> None:
    path_star(arms=3, length=5, nodes=16)
    with pytest.raises(CardError, match=r"nodes 15 is below arms·length \+ 1 = 16: the nodes of a star have distinct"):
        path_star(arms=3, length=5, nodes=15)
