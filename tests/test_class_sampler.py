"""Drawing classes by frequency: exact, and never one that is excluded."""

import itertools

import pytest
import torch
from image_data import stream
from sampling import four_errors

from multistep_bench.generators.in_context.class_sampler import ClassSampler, uniform_classes, zipf_classes

N = 40_000


def shares(classes: torch.Tensor, count: int) -> list[float]:
    return (torch.bincount(classes.flatten(), minlength=count) / classes.numel()).tolist()


def test_classes_come_as_often_as_their_weights_say() -> None:
    drawn = ClassSampler(torch.tensor([5, 1, 0, 4])).draw(N, rng=stream("weights"))
    assert shares(drawn, 4) == pytest.approx([0.5, 0.1, 0, 0.4], abs=four_errors(0.5, N))


def test_zipf_frequencies_fall_as_a_power_of_the_rank() -> None:
    weights = zipf_classes(1000, 1.5).weights.double()
    harmonic = sum(k**-1.5 for k in range(1, 1001))
    for rank in (1, 2, 10, 1000):
        assert float(weights[rank - 1] / weights.sum()) == pytest.approx(rank**-1.5 / harmonic, rel=1e-5)
    assert zipf_classes(7, 0).weights.unique().numel() == 1


def test_a_steep_zipf_still_has_every_class() -> None:
    assert zipf_classes(10_000, 6).weights.min() == 1


@pytest.mark.parametrize("weights", [[1, 1, 1, 1], [6, 3, 2, 1]], ids=str)
def test_draws_without_replacement_have_the_probabilities_of_one_after_the_other(weights: list[int]) -> None:
    drawn = ClassSampler(torch.tensor(weights)).distinct(N, 3, stream("distinct"))
    code = shares(drawn @ torch.tensor([16, 4, 1]), 64)
    total = sum(weights)
    for a, b, c in itertools.product(range(4), repeat=3):
        if len({a, b, c}) < 3:
            assert code[16 * a + 4 * b + c] == 0
            continue
        left = total - weights[a]
        p = weights[a] / total * weights[b] / left * weights[c] / (left - weights[b])
        assert code[16 * a + 4 * b + c] == pytest.approx(p, abs=four_errors(p, N))


def test_all_classes_in_distinct_draws_are_a_permutation() -> None:
    drawn = uniform_classes(9).distinct(500, 9, stream("all"))
    assert torch.equal(drawn.sort(1).values, torch.arange(9).expand(500, 9))


def test_excluded_classes_never_come_and_the_others_keep_their_ratio() -> None:
    sampler = ClassSampler(torch.tensor([4, 3, 2, 1]))
    without = torch.tensor([3, 0]).expand(N, 2)  # in any order
    drawn = sampler.draw(N, rng=stream("without"), without=without)
    assert shares(drawn, 4) == pytest.approx([0, 0.6, 0.4, 0], abs=four_errors(0.6, N))
    assert set(drawn.unique().tolist()) == {1, 2}


def test_each_row_has_its_own_exclusions() -> None:
    without = torch.arange(5).repeat(1000).unsqueeze(1)
    drawn = uniform_classes(5).draw(5000, rng=stream("rows"), without=without)
    assert not (drawn == without.squeeze(1)).any()
    assert drawn.unique().numel() == 5
