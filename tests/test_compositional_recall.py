"""Compositional recall: entries read from the tokens by an independent rule, and a solver for every level."""

from collections import Counter

import pytest
import torch
from image_data import stream
from sampling import accuracy, four_errors

from multistep_bench.batch import Batch
from multistep_bench.errors import CardError
from multistep_bench.generators.in_context.compositional_recall import CompositionalRecall

N = 6000

Entry = tuple[int, int, int]


def recall(**parameters: int) -> CompositionalRecall:
    return CompositionalRecall(parameters, id="compositional_recall-v1")


def draw(task: CompositionalRecall, n: int = N) -> Batch:
    return task.sample(n, split="eval", rng=stream("compositional"))


def read(batch: Batch) -> list[tuple[list[Entry], tuple[int, int]]]:
    """Of each sample the entries in order and the query, as the tokens say them."""
    assert isinstance(batch.inputs, torch.Tensor)
    rows = batch.inputs.tolist()
    return [(list(zip(r[:-2:3], r[1:-2:3], r[2:-2:3], strict=True)), (r[-2], r[-1])) for r in rows]


def pick(choices: list[list[int]]) -> torch.Tensor:
    point = torch.rand(len(choices), generator=stream("pick")).tolist()
    return torch.tensor([each[int(p * len(each))] for each, p in zip(choices, point, strict=True)])


@pytest.mark.parametrize(("side", "keys", "values"), [(2, 2, 4), (3, 6, 16), (4, 5, 40)])
def test_every_two_keys_stand_beside_one_value_and_the_query_names_one(side: int, keys: int, values: int) -> None:
    task = recall(side=side, keys=keys, values=values)
    batch = draw(task, 500)
    for i, (entries, query) in enumerate(read(batch)):
        first, second, named = (set(column) for column in zip(*entries, strict=True))
        assert {(a, b) for a, b, _ in entries} == {(a, b) for a in first for b in second}
        assert (len(first), len(second), len(named), len(entries)) == (side, side, side**2, side**2)
        assert first <= set(range(values, values + keys))
        assert second <= set(range(values + keys, values + 2 * keys))
        assert named <= set(range(values))
        match = [(a, b) for a, b, _ in entries].index(query)
        assert int(batch.steps["match"][i]) == match
        assert int(batch.targets[i]) == entries[match][2]


@pytest.mark.parametrize(("side", "keys", "values"), [(2, 3, 9), (3, 6, 16), (5, 8, 32)])
def test_a_solver_of_every_kind_lands_on_the_level_computed_for_it(side: int, keys: int, values: int) -> None:
    task = recall(side=side, keys=keys, values=values)
    batch, levels = draw(task), task.levels()
    samples = read(batch)

    def among(first: bool, second: bool) -> float:
        """Accuracy of naming any value beside the query's first or second key, or both."""
        choices = [
            [v for a, b, v in entries if (not first or a == query[0]) and (not second or b == query[1])]
            for entries, query in samples
        ]
        return accuracy(pick(choices), batch)

    def within(level: float | None) -> object:
        assert level is not None
        return pytest.approx(level, abs=four_errors(level, N))

    assert accuracy(pick([list(range(values))] * N), batch) == within(levels.chance)
    assert among(False, False) == within(1 / side**2)
    assert levels.shortcut == 1 / side
    assert among(True, False) == within(levels.shortcut)
    assert among(False, True) == within(levels.shortcut)
    assert among(True, True) == levels.ceiling == 1


def test_entries_stand_in_any_order() -> None:
    batch = draw(recall(side=2, keys=2, values=4))
    places = torch.bincount(batch.steps["match"], minlength=4) / N
    assert places.tolist() == [pytest.approx(1 / 4, abs=four_errors(1 / 4, N))] * 4
    firsts = Counter(tuple(a for a, _, _ in entries) for entries, _ in read(batch))
    seconds = Counter(tuple(b for _, b, _ in entries) for entries, _ in read(batch))
    for orders in (firsts, seconds):
        assert [count / N for count in orders.values()] == [pytest.approx(1 / 6, abs=four_errors(1 / 6, N))] * 6


def test_one_key_names_the_value_in_the_auxiliary_contexts() -> None:
    further = recall(side=3).auxiliary(1999, stream("secondary"))
    assert list(further) == ["first key", "second key"]
    for place, batch in enumerate(further.values()):
        samples = read(batch)
        assert len(samples) == 500
        for (entries, query), target in zip(samples, batch.targets.tolist(), strict=True):
            assert {entry[2] for entry in entries if entry[place] == query[place]} == {target}
            assert len({entry[2] for entry in entries if entry[1 - place] == query[1 - place]}) == 3


def test_tokens_have_names() -> None:
    task = recall(side=2, keys=3, values=5)
    assert [task.token_name(token) for token in (0, 4, 5, 7, 8, 10)] == ["0", "4", "f0", "f2", "s0", "s2"]
    assert task.info.observation_space.high.max() == 10  # type: ignore[attr-defined]


def test_too_few_keys_or_values_are_refused() -> None:
    with pytest.raises(CardError, match=r"keys 3 is below side 4: the first keys of a sequence are distinct"):
        recall(side=4, keys=3)
    with pytest.raises(CardError, match=r"values 15 is below side² = 16: the values of a sequence are distinct"):
        recall(side=4, values=15)
