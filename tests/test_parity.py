"""Sparse parity: products recomputed bit by bit, and a solver for every level."""

import pytest
import torch
from image_data import stream
from sampling import accuracy, four_errors

from multistep_bench.batch import Batch
from multistep_bench.errors import CardError
from multistep_bench.generators.arithmetic.parity import Parity

N = 20_000


def parity(**parameters: float) -> Parity:
    return Parity(parameters, id="parity-v1")


def draw(task: Parity, n: int = N) -> Batch:
    return task.sample(n, split="train", rng=stream("parity"))


def bits(batch: Batch) -> torch.Tensor:
    assert isinstance(batch.inputs, torch.Tensor)
    return batch.inputs


def signs(batch: Batch) -> torch.Tensor:
    """The bits in ±1."""
    return 1 - 2 * bits(batch)


def test_the_answer_is_the_product_of_the_same_bits_in_every_sample() -> None:
    task = parity(bits=8, factors=3, bias=0.2)
    batch = draw(task)
    assert task.factors.tolist() == sorted(set(task.factors.tolist()))
    product = signs(batch)[:, task.factors]  # N, 3
    assert torch.equal(1 - 2 * batch.targets, product.prod(1))
    assert torch.equal(1 - 2 * batch.steps["product_1"], product[:, 0])
    assert torch.equal(1 - 2 * batch.steps["product_2"], product[:, :2].prod(1))
    assert list(batch.steps) == ["product_1", "product_2"]


@pytest.mark.parametrize(
    ("n", "k", "bias"), [(10, 2, 0.5), (10, 3, 0.0), (12, 3, 0.4), (20, 4, 0.25), (5, 4, 0.6), (3, 2, 0.9)]
)
def test_a_solver_of_every_kind_lands_on_the_level_computed_for_it(n: int, k: int, bias: float) -> None:
    task = parity(bits=n, factors=k, bias=bias)
    batch, levels = draw(task), task.levels()

    def within(level: float) -> object:
        return pytest.approx(level, abs=four_errors(level, N))

    for j in range(k + 1):
        product = signs(batch)[:, task.factors[:j]].prod(1)
        assert accuracy((1 - product) // 2, batch) == within(task.known(j))
    assert task.known(k) == levels.ceiling == 1
    # The best answer to each count, from samples of another stream in which any k bits are the factors.
    other = task.sample(100_000, split="eval", rng=stream("counts"))
    places = torch.rand(100_000, n, generator=stream("places")).argsort(1)[:, :k]
    minus, odd = bits(other).sum(1), bits(other).gather(1, places).sum(1) % 2
    seen, counted = torch.bincount(minus, minlength=n + 1), torch.bincount(minus, odd.double(), minlength=n + 1)
    best = (counted > seen / 2).long()
    assert levels.shortcut == task.of_the_count
    assert task.of_the_count >= task.known(0) - 1e-12
    assert accuracy(best[bits(batch).sum(1)], batch) == within(task.of_the_count)
    factors = bits(batch)[:, task.factors].sum(1)
    thresholds = [accuracy((factors >= t).long() ^ flip, batch) for t in range(k + 1) for flip in (0, 1)]
    assert max(thresholds) == within(task.of_a_threshold)


def test_known_levels() -> None:
    # m of four factors are −, each with probability 0.4; + is named for m ≥ 2: right for m = 2 and 4, and for m = 1.
    assert parity(factors=4, bias=0.2).of_a_threshold == pytest.approx(4 * 0.4 * 0.6**3 + 6 * 0.4**2 * 0.6**2 + 0.4**4)
    assert parity(bits=10, factors=3, bias=0.5).known(0) == 0.5625  # ½(1 + 0.5³)
    assert parity(bits=10, factors=3, bias=0.5).known(2) == 0.75
    # Two of three fair bits: 0 or 3 are − (1/4): the product is +. One or two are − (3/4): it is − in two of three.
    assert parity(bits=3, factors=2, bias=0.0).levels().shortcut == pytest.approx(1 / 4 + 3 / 4 * 2 / 3)


def test_bits_have_the_bias_and_are_independent() -> None:
    batch = draw(parity(bits=4, factors=2, bias=0.3))
    assert signs(batch).double().mean(0).tolist() == [pytest.approx(0.3, abs=4 / N**0.5)] * 4
    pairs = (signs(batch)[:, :1] * signs(batch)[:, 1:]).double().mean(0)
    assert pairs.tolist() == [pytest.approx(0.09, abs=4 / N**0.5)] * 3


def test_the_seed_decides_which_bits_are_multiplied() -> None:
    drawn = [tuple(parity(bits=10, factors=2, seed=seed).factors.tolist()) for seed in range(200)]
    assert drawn == [tuple(parity(bits=10, factors=2, seed=seed).factors.tolist()) for seed in range(200)]
    assert {place for places in drawn for place in places} == set(range(10))
    assert len(set(drawn)) > 40  # of 45


def test_on_unbiased_bits_a_missing_factor_costs_all_that_is_known() -> None:
    task = parity(bits=10, factors=3, bias=0.6)
    further = task.auxiliary(2 * N - 1, stream("secondary"))
    assert list(further) == ["unbiased"]
    batch = further["unbiased"]
    assert len(batch.targets) == N
    known = (1 - signs(batch)[:, task.factors[:2]].prod(1)) // 2
    assert accuracy(known, batch) == pytest.approx(0.5, abs=four_errors(0.5, N))
    assert accuracy((1 - signs(batch)[:, task.factors].prod(1)) // 2, batch) == 1


def test_bits_have_names() -> None:
    assert [parity().token_name(token) for token in (0, 1)] == ["+", "−"]


def test_a_product_of_all_bits_is_refused() -> None:
    with pytest.raises(CardError, match=r"factors 4 is not below bits 4: where all bits are multiplied"):
        parity(bits=4, factors=4)
