"""The draws that rules of several families share."""

from collections import Counter
from itertools import product

import pytest
import torch
from image_data import stream

from multistep_bench.generators.sampling import expected_largest_count, integers, shuffled, uniform


@pytest.mark.parametrize(("draws", "classes"), [(1, 5), (2, 10), (4, 10), (4, 2), (5, 3)])
def test_the_expected_largest_count_is_that_of_all_possible_draws(draws: int, classes: int) -> None:
    every = [max(Counter(draw).values()) for draw in product(range(classes), repeat=draws)]
    assert expected_largest_count(draws, classes) == pytest.approx(sum(every) / len(every))


def test_every_permutation_is_equally_likely() -> None:
    n = 60_000
    permutations = shuffled(n, 3, stream("shuffled"))
    assert torch.equal(permutations.sort(1).values, torch.arange(3).expand(n, -1))
    shares = torch.bincount(permutations @ torch.tensor([9, 3, 1]))[[5, 7, 11, 15, 19, 21]] / n
    assert shares.tolist() == pytest.approx([1 / 6] * 6, abs=0.0061)  # four standard errors


@pytest.mark.parametrize("default", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_draws_do_not_depend_on_the_default_dtype(default: torch.dtype) -> None:
    before = torch.get_default_dtype()
    torch.set_default_dtype(default)
    try:
        numbers, whole = uniform(3, 2, rng=stream("u")), integers(7, 5, rng=stream("i"))
    finally:
        torch.set_default_dtype(before)
    assert numbers.dtype == torch.float64
    assert whole.dtype == torch.int64
    assert torch.equal(numbers, uniform(3, 2, rng=stream("u")))
