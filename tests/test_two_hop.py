"""Two hops among distractors: chains read from the tokens by an independent rule, and a solver for every level."""

from collections import Counter

import pytest
import torch
from image_data import stream
from sampling import accuracy, four_errors

from multistep_bench.batch import Batch
from multistep_bench.errors import CardError
from multistep_bench.generators.in_context.two_hop import TwoHop

N = 6000


def two_hop(**parameters: int) -> TwoHop:
    return TwoHop(parameters, id="two_hop-v1")


def draw(task: TwoHop, n: int = N) -> Batch:
    return task.sample(n, split="train", rng=stream("two_hop"))


def read(batch: Batch) -> list[tuple[dict[int, int], int]]:
    """Of each sample what follows what, as the tokens say it, and the query."""
    assert isinstance(batch.inputs, torch.Tensor)
    rows = batch.inputs.tolist()
    return [(dict(zip(row[:-1:2], row[1:-1:2], strict=True)), row[-1]) for row in rows]


def pick(choices: list[list[int]]) -> torch.Tensor:
    point = torch.rand(len(choices), generator=stream("pick")).tolist()
    return torch.tensor([each[int(p * len(each))] for each, p in zip(choices, point, strict=True)])


@pytest.mark.parametrize(("chains", "symbols"), [(2, 6), (3, 16), (5, 40)])
def test_the_answer_is_two_hops_from_the_query(chains: int, symbols: int) -> None:
    task = two_hop(chains=chains, symbols=symbols)
    batch = draw(task, 1000)
    for i, (follows, query) in enumerate(read(batch)):
        assert len(follows) == 2 * chains
        assert len({*follows, *follows.values()}) == 3 * chains  # chains do not meet
        starts = follows.keys() - set(follows.values())
        assert len(starts) == chains
        assert query in starts
        assert all(follows[follows[start]] not in follows for start in starts)
        assert int(batch.steps["bridge"][i]) == follows[query]
        assert int(batch.targets[i]) == follows[follows[query]]


@pytest.mark.parametrize(("chains", "symbols"), [(2, 9), (3, 16), (8, 24)])
def test_a_solver_of_every_kind_lands_on_the_level_computed_for_it(chains: int, symbols: int) -> None:
    task = two_hop(chains=chains, symbols=symbols)
    batch, levels = draw(task), task.levels()
    samples = read(batch)

    def within(level: float | None) -> object:
        assert level is not None
        return pytest.approx(level, abs=four_errors(level, N))

    assert accuracy(pick([list(range(symbols))] * N), batch) == within(levels.chance)
    seen = [[symbol for symbol in {*f, *f.values()} if symbol != query] for f, query in samples]
    assert accuracy(pick(seen), batch) == within(1 / (3 * chains - 1))
    ends = [[symbol for symbol in f.values() if symbol not in f] for f, _ in samples]
    assert levels.shortcut == 1 / chains
    assert accuracy(pick(ends), batch) == within(levels.shortcut)
    assert accuracy(torch.tensor([f[query] for f, query in samples]), batch) == 0
    assert accuracy(torch.tensor([f[f[query]] for f, query in samples]), batch) == levels.ceiling == 1


def test_neither_the_place_nor_the_number_of_a_symbol_tells_the_answer() -> None:
    batch = draw(two_hop(chains=2, symbols=6))
    samples = read(batch)
    places = Counter(list(f.values()).index(int(target)) for (f, _), target in zip(samples, batch.targets, strict=True))
    assert [places[i] / N for i in range(4)] == [pytest.approx(1 / 4, abs=four_errors(1 / 4, N))] * 4
    for numbers in (batch.targets, batch.steps["bridge"]):
        counts = torch.bincount(numbers, minlength=6) / N
        assert counts.tolist() == [pytest.approx(1 / 6, abs=four_errors(1 / 6, N))] * 6


def test_one_hop_asks_from_the_bridge() -> None:
    further = two_hop(chains=3).auxiliary(999, stream("secondary"))
    assert list(further) == ["one hop"]
    batch = further["one hop"]
    samples = read(batch)
    assert len(samples) == 500
    assert batch.targets.tolist() == [follows[query] for follows, query in samples]
    assert batch.steps["bridge"].tolist() == [query for _, query in samples]
    assert all(query in follows.values() for follows, query in samples)


def test_too_few_symbols_are_refused() -> None:
    two_hop(chains=5, symbols=15)
    with pytest.raises(CardError, match=r"symbols 14 is below 3·chains = 15: the symbols of a sequence are distinct"):
        two_hop(chains=5, symbols=14)
