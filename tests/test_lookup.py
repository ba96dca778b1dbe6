"""Chained lookup: answers and chains recomputed from the tokens, held-out functions, and a solver for every level."""

from collections import Counter
from itertools import permutations

import pytest
import torch
from image_data import stream

from multistep_bench.batch import IGNORED, Batch
from multistep_bench.errors import CardError
from multistep_bench.generators.base import Split
from multistep_bench.generators.in_context.lookup import Lookup

N = 8000


def lookup(**parameters: int) -> Lookup:
    return Lookup(parameters, id="lookup-v1")


def draw(task: Lookup, split: Split = "eval", n: int = N) -> Batch:
    return task.sample(n, split=split, rng=stream("lookup", split))


def read(task: Lookup, batch: Batch) -> list[tuple[dict[int, int], int, int]]:
    """Of each sample the function, the number of hops and the start, as the tokens say them."""
    assert isinstance(batch.inputs, torch.Tensor)
    samples = []
    for *pairs, hops, start in batch.inputs.tolist():
        samples.append((dict(zip(pairs[::2], pairs[1::2], strict=True)), hops - task.parameters.symbols + 1, start))
    return samples


def follow(function: dict[int, int], start: int, hops: int) -> list[int]:
    chain = [start]
    for _ in range(hops):
        chain.append(function[chain[-1]])
    return chain


def accuracy(task: Lookup, batch: Batch, answers: list[int]) -> float:
    logits = torch.nn.functional.one_hot(torch.tensor(answers), task.info.num_classes).double()
    return float(task.correct(logits, batch).double().mean())


def within(level: float, n: int = N) -> object:
    """Equal up to four standard errors of n samples."""
    return pytest.approx(level, abs=4 * (level * (1 - level) / n) ** 0.5)


@pytest.mark.parametrize("split", ["train", "eval"])
def test_the_answer_and_the_symbols_passed_follow_from_the_pairs(split: Split) -> None:
    task = lookup(pairs=6, symbols=9, hops=4)
    batch = draw(task, split, 2000)
    for i, (function, hops, start) in enumerate(read(task, batch)):
        assert follow(function, start, 6)[1:] == [*follow(function, start, 5)[1:], start]  # one cycle
        assert len(set(follow(function, start, 5))) == 6
        chain = follow(function, start, hops)
        assert int(batch.targets[i]) == chain[-1]
        passed = [int(batch.steps[f"symbol_{hop}"][i]) for hop in (1, 2, 3)]
        assert passed == chain[1:-1] + [IGNORED] * (4 - hops)


def test_training_asks_for_every_number_of_hops_and_evaluation_for_the_most() -> None:
    task = lookup(pairs=5, hops=3)
    asked = Counter(hops for _, hops, _ in read(task, draw(task, "train")))
    assert [asked[hops] / N for hops in (1, 2, 3)] == [within(1 / 3)] * 3
    assert {hops for _, hops, _ in read(task, draw(task))} == {3}


@pytest.mark.parametrize("split", ["train", "eval"])
def test_functions_pairs_and_starts_are_uniform(split: Split) -> None:
    task = lookup(pairs=4, symbols=4)
    samples = read(task, draw(task, split))
    functions = Counter(tuple(sorted(function.items())) for function, _, _ in samples)
    assert [count / N for count in functions.values()] == [within(1 / 3)] * 3  # of 3! cycles each split has half
    orders = Counter(tuple(function) for function, _, _ in samples)
    assert [count / N for count in orders.values()] == [within(1 / 24)] * 24
    places = Counter((list(function).index(start)) for function, _, start in samples)
    assert [places[place] / N for place in range(4)] == [within(1 / 4)] * 4


def test_no_function_of_the_evaluation_is_trained_on() -> None:
    task = lookup(pairs=4, symbols=6)
    cycles = torch.tensor(list(permutations(range(6), 4)))
    held_out = task.held_out(cycles)
    assert held_out.sum() * 2 == len(cycles)
    for other in (cycles.roll(1, 1), cycles.flip(1).roll(2, 1).flip(1)):  # the same function, told from another start
        assert torch.equal(task.held_out(other), held_out)
    splits: tuple[Split, ...] = ("train", "eval")
    drawn = {
        split: {frozenset(function.items()) for function, _, _ in read(task, draw(task, split))} for split in splits
    }
    assert [len(drawn[split]) for split in splits] == [45, 45]  # all functions: 15 choices of symbols × 3! cycles
    assert not drawn["train"] & drawn["eval"]


def test_shorter_chains_are_measured_on_held_out_functions_too() -> None:
    task = lookup(pairs=5, hops=4)
    further = task.auxiliary(999, stream("secondary"))
    assert list(further) == ["hop 1", "hop 2", "hop 3"]
    for hops, batch in enumerate(further.values(), 1):
        samples = read(task, batch)
        assert len(samples) == 500
        assert {asked for _, asked, _ in samples} == {hops}
        assert batch.targets.tolist() == [follow(function, start, hops)[-1] for function, _, start in samples]
        assert task.held_out(torch.tensor([follow(function, start, 4) for function, _, start in samples])).all()


@pytest.mark.parametrize(("pairs", "symbols", "hops"), [(4, 16, 2), (5, 16, 2), (6, 8, 3), (8, 32, 5)])
def test_a_solver_of_every_kind_lands_on_the_level_computed_for_it(pairs: int, symbols: int, hops: int) -> None:
    task = lookup(pairs=pairs, symbols=symbols, hops=hops)
    batch, levels = draw(task), task.levels()
    samples = read(task, batch)
    pick = torch.rand(N, generator=stream("pick")).tolist()

    def among(*ruled_out: int) -> float:
        """Accuracy of naming any symbol but those that stand so many hops after the start."""
        left = []
        for function, _, start in samples:
            out = {follow(function, start, hop)[-1] for hop in ruled_out}
            left.append([symbol for symbol in function if symbol not in out])
        return accuracy(task, batch, [choice[int(p * len(choice))] for choice, p in zip(left, pick, strict=True)])

    assert accuracy(task, batch, [int(p * symbols) for p in pick]) == within(levels.chance)
    assert among() == within(1 / pairs)
    assert levels.shortcut is not None
    assert among(0) == within(levels.shortcut)
    assert among(0, 1) == within(1 / (pairs - 2))
    assert among(0, 1, pairs - 1) == within(1 / (pairs - 3))
    one_hop = [function[start] for function, _, start in samples]
    assert accuracy(task, batch, one_hop) == 0
    assert accuracy(task, batch, [follow(f, start, h)[-1] for f, h, start in samples]) == levels.ceiling == 1


def test_the_answers_pair_may_stand_anywhere() -> None:
    task = lookup(pairs=4)
    batch = draw(task)
    places = Counter(
        list(function.values()).index(int(target))
        for (function, _, _), target in zip(read(task, batch), batch.targets, strict=True)
    )
    assert [places[place] / N for place in range(4)] == [within(1 / 4)] * 4


def test_known_levels() -> None:
    assert lookup(pairs=4).levels().model_dump() == {"chance": 1 / 16, "shortcut": 1 / 3, "ceiling": 1}
    assert lookup(pairs=8, symbols=32, hops=7).levels().model_dump() == {
        "chance": 1 / 32,
        "shortcut": 1 / 7,
        "ceiling": 1,
    }


def test_tokens_have_names() -> None:
    task = lookup(symbols=8, hops=3)
    assert [task.token_name(token) for token in (0, 7, 8, 10)] == ["0", "7", "h=1", "h=3"]
    assert task.info.observation_space.high.max() == 10  # type: ignore[attr-defined]


def test_chains_that_come_round_and_too_few_symbols_are_refused() -> None:
    with pytest.raises(CardError, match=r"hops 4 is not below pairs 4: .* ask for fewer hops or more pairs"):
        lookup(pairs=4, hops=4)
    with pytest.raises(CardError, match="symbols 7 is below pairs 8"):
        lookup(pairs=8, symbols=7)
