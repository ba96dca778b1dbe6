"""Masking: its rates, where it changes tokens, what it leaves alone."""

import torch
from sampling import four_errors
from scipy import stats

from multistep_bench import seeds
from multistep_bench.batch import IGNORED
from multistep_bench.generators.masked.masking import SELECTED, corrupt, select, targets_at

N, T, V = 20_000, 12, 20
SIGNIFICANT = 1e-4


def stream(*name: str) -> torch.Generator:
    return seeds.generator(seeds.derive("test", "masking", *name))


def within_four_standard_errors(share: torch.Tensor, expected: float, n: int) -> bool:
    return bool(((share - expected).abs() <= four_errors(expected, n)).all())


def test_each_position_is_selected_at_its_own_rate() -> None:
    probabilities = torch.full((T,), SELECTED)
    probabilities[-1] = 0.5
    selected = select(N, probabilities, stream("select")).double()
    assert within_four_standard_errors(selected[:, :-1].mean(0), 0.15, N)
    assert within_four_standard_errors(selected[:, -1:].mean(0), 0.5, N)


def test_positions_are_selected_independently() -> None:
    selected = select(N, torch.full((T,), SELECTED), stream("select"))
    counts = torch.bincount(selected.sum(1), minlength=T + 1)[:6].double()
    expected = torch.from_numpy(stats.binom.pmf(range(6), T, SELECTED)) * N
    chi_square = float(((counts - expected) ** 2 / expected).sum())
    assert stats.chi2.sf(chi_square, 6) > SIGNIFICANT


def test_of_the_selected_80_percent_show_mask_10_percent_a_random_token_and_10_percent_themselves() -> None:
    tokens = torch.full((N, T), 7)
    shown = corrupt(tokens, torch.ones(N, T, dtype=torch.bool), V, stream("corrupt"))
    n = tokens.numel()
    masked = (shown == V).double().mean()
    own = (shown == 7).double().mean()
    assert within_four_standard_errors(masked, 0.8, n)
    assert within_four_standard_errors(own, 0.1 + 0.1 / V, n), "a random token is the token itself one time in V"
    others = shown[(shown != V) & (shown != 7)]
    assert within_four_standard_errors(torch.tensor(len(others) / n), 0.1 * (1 - 1 / V), n)
    counts = torch.bincount(others, minlength=V)
    assert counts[7] == 0
    assert stats.chisquare(counts[counts > 0].numpy()).pvalue > SIGNIFICANT
    assert len(counts) == V
    assert (counts > 0).sum() == V - 1


def test_what_is_not_selected_is_shown_as_it_is() -> None:
    tokens = torch.randint(V, (N, T), generator=stream("tokens"))
    selected = select(N, torch.full((T,), SELECTED), stream("select"))
    shown = corrupt(tokens, selected, V, stream("corrupt"))
    assert torch.equal(shown[~selected], tokens[~selected])
    assert not torch.equal(shown[selected], tokens[selected])


def test_targets_are_the_tokens_where_scored_and_ignored_elsewhere() -> None:
    scored = torch.tensor([[True, False, True]])
    assert targets_at(torch.tensor([[4, 5, 6]]), scored).tolist() == [[4, IGNORED, 6]]
