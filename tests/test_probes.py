"""Known answers of probes, code lengths, places and maps."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from multistep_bench import make_attention, make_task, registry
from multistep_bench.batch import IGNORED, Batch
from multistep_bench.diagnostics.activations import AttentionCall
from multistep_bench.diagnostics.code_length import code_length
from multistep_bench.diagnostics.maps import weights
from multistep_bench.diagnostics.places import MEAN, READING, features, patches_per_tile, reading_tokens, region_tokens
from multistep_bench.diagnostics.probes import probe
from multistep_bench.errors import ModelError

RNG = np.random.default_rng(0)
N, M, D = 2000, 1000, 16


def planted(classes: int, n: int, noise: float = 0.2) -> tuple[np.ndarray, np.ndarray]:
    """Features with a class at one of K points, far from 0 and on scales that differ, and the classes."""
    labels = RNG.integers(classes, size=n)
    points = np.random.default_rng(classes).normal(size=(classes, D))
    return (points[labels] + noise * RNG.normal(size=(n, D))) * np.logspace(-3, 3, D) + 100, labels


def test_a_planted_variable_is_read_and_a_random_one_is_at_chance() -> None:
    (train, known), (test, asked) = planted(8, N), planted(8, M)
    noise = RNG.integers(8, size=N), RNG.integers(8, size=M)
    found = probe(train, test, {"planted": (known + 3, asked + 3), "random": noise})
    assert found["planted"].correct >= 0.99 * M
    low, high = stats.binom.interval(0.9999, M, 1 / 8)
    assert low <= found["random"].correct <= high
    assert found["planted"].classes == found["random"].classes == 8


def test_chance_is_that_of_the_class_most_frequent_in_training() -> None:
    known, asked = np.array([5] * 6 + [7] * 4), np.array([5, 7, 7, 7])
    result = probe(np.zeros((10, 2)), np.zeros((4, 2)), {"y": (known, asked)})["y"]
    assert (result.chance, result.correct, result.items, result.classes) == (0.25, 1, 4, 2)


def test_a_probe_is_ridge_regression_on_standardised_features() -> None:
    """Two items at −1 and 1 of one feature, which is standardised already: w = ±2/(2·(2 + 1)), so 0 is the boundary."""
    train, known = np.array([[-1.0], [1.0]]), np.array([0, 1])
    test = np.array([[-0.1], [0.1], [5.0]])
    result = probe(train, test, {"y": (known, np.array([0, 1, 1]))})["y"]
    assert result.correct == 3
    shifted = probe(7 + 3 * train, 7 + 3 * test, {"y": (known, np.array([0, 1, 1]))})["y"]
    assert shifted.correct == 3


def test_the_frequency_of_a_class_counts_where_features_say_little() -> None:
    """One item in eight is of class 1: at x = 1 it scores 1/8 + 1/9, and class 0 scores 7/8 − 1/9."""
    train, known = np.array([[-1.0]] * 4 + [[1.0]] * 4), np.array([0] * 7 + [1])
    assert probe(train, np.array([[-1.0], [1.0]]), {"y": (known, np.array([0, 0]))})["y"].correct == 2


@pytest.mark.parametrize("classes", [2, 5])
def test_a_random_label_costs_its_entropy(classes: int) -> None:
    bits = code_length(RNG.normal(size=(N, D)), RNG.integers(classes, size=N), classes)
    assert bits / (N * math.log2(classes)) == pytest.approx(1, abs=0.02)


def test_a_planted_label_costs_little_more_than_the_first_block() -> None:
    x, y = planted(4, N)
    first = round(N / 64) * 2.0
    assert first < code_length(x, y, 4) < 0.15 * 2 * N


def test_an_unbalanced_label_costs_less_than_the_uniform_code_whatever_the_features() -> None:
    """Entropy of a 9 : 1 variable: 0.469 bits."""
    y = (RNG.random(N) < 0.1).astype(int)
    assert code_length(RNG.normal(size=(N, D)), y, 2) / N == pytest.approx(0.469, abs=0.06)


def test_a_class_that_comes_late_is_paid_for() -> None:
    """64 items of one class, then 64 of another: two of the uniform code, then as Laplace's rule has it, by hand."""
    y = np.array([0] * 64 + [1] * 64)
    by_hand = 2.0
    for known in (2, 4, 8, 16, 32):
        by_hand += known * -math.log2(1 - 1 / (known + 2))
    by_hand += 64 * -math.log2(1 / (64 + 2))
    assert code_length(np.ones((128, 2)), y, 2) == pytest.approx(by_hand)


def test_places_of_images_and_words() -> None:
    digits, words = make_task("two_step_digits-v1"), make_task("mlm_agreement-v1")
    regions = region_tokens(digits.info, 5)
    assert {name: inside.nonzero().flatten().tolist() for name, inside in regions.items()} == {
        "indicator_1": [1],
        "target_a": [2],
        "target_b": [3],
        "indicator_2": [4],
    }
    assert region_tokens(digits.info, 17)["target_a"].nonzero().flatten().tolist() == [3, 4, 7, 8]
    assert region_tokens(digits.info, 6) == {}
    assert [patches_per_tile(digits.info, tokens) for tokens in (5, 17, 65, 37, 6, 2)] == [1, 2, 4, None, None, None]
    assert region_tokens(words.info, 10)["noun_2"].nonzero().flatten().tolist() == [3]
    batch = Batch(torch.zeros(2, 3), torch.tensor([[IGNORED, 4, IGNORED], [1, IGNORED, 2]]), {})
    assert reading_tokens(words.info, batch, 3).tolist() == [1, 2]
    assert reading_tokens(words.info, Batch(torch.zeros(2, 3), torch.zeros(2), {}), 3).tolist() == [2, 2]
    assert reading_tokens(digits.info, batch, 5).tolist() == [0, 0]


def test_features_at_a_place() -> None:
    values = torch.arange(12.0).view(2, 3, 2)
    regions = {"end": torch.tensor([False, True, True])}
    reading = torch.tensor([1, 2])

    def at(values: torch.Tensor, place: str) -> list[list[float]] | None:
        found = features(values, place, reading, regions, 3)
        return None if found is None else found.tolist()

    assert at(values, READING) == [[2, 3], [10, 11]]
    assert at(values, MEAN) == [[2, 3], [8, 9]]
    assert at(values, "end") == [[3, 4], [9, 10]]
    assert at(values[:, :1], READING) == [[0, 1], [6, 7]]
    assert at(values[:, :1], MEAN) is None


def call_of(rule: str, mask: torch.Tensor | None = None) -> AttentionCall:
    q, k, v = (torch.randn(2, 2, 6, 4, generator=torch.Generator().manual_seed(i)) for i in range(3))
    module = make_attention(rule).eval()
    return AttentionCall(module, q, k, v, module(q, k, v, mask), mask)


def test_the_map_of_softmax_attention_is_its_weights() -> None:
    mask = torch.ones(6, 6, dtype=torch.bool).tril()
    call = call_of("softmax", mask)
    logits = (call.q @ call.k.mT / 2).masked_fill(~mask, -math.inf)
    torch.testing.assert_close(weights(call), logits.softmax(-1))


NOT_LINEAR = {"laser", "differential"}


@pytest.mark.parametrize("rule", sorted(set(registry.attention_rules.builtin) - {"regions"}))
def test_every_rule_gives_its_map_or_says_that_it_has_none(rule: str) -> None:
    call = call_of(rule)
    if rule in NOT_LINEAR:
        with pytest.raises(ModelError, match=r"gives no weighted sum of values, so it has no map; probe its heads"):
            weights(call)
    else:
        torch.testing.assert_close(weights(call) @ call.v, call.out, rtol=0, atol=1e-3)
