"""Attention rules that others proposed, against their formulas written another way, in float64."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.func import functional_call, stack_module_state, vmap
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import multistep_bench as mb
from multistep_bench.errors import ModelError
from multistep_bench.models.attention.contract import check_rule
from multistep_bench.models.attention.entmax import entmax15

RULES = [
    ("laser", {}),
    ("ssmax", {"scale": "learned", "start": 0.7}),
    ("ssmax", {"scale": "fixed"}),
    ("entmax", {}),
    ("differential", {"start": 0.3}),
]
LINEAR = [rule for rule in RULES if rule[0] != "entmax"]
CAUSAL = torch.ones(6, 6, dtype=torch.bool).tril()
PADDED = torch.tensor([[1, 1, 0, 1, 0, 1], [0, 1, 1, 1, 1, 1]], dtype=torch.bool).view(2, 1, 1, 6)
MASKS = {"none": None, "causal": CAUSAL, "padded": PADDED}

QKV = list[torch.Tensor]


def qkv(tokens: int = 6, head_dim: int = 4, *, scale: float = 1.0, seed: int = 0) -> QKV:
    """q, k, v, [2, 2, tokens, head_dim] float64, whose logits spread enough for entmax to give some weights of 0."""
    rng = torch.Generator().manual_seed(seed)
    drawn = [torch.randn(2, 2, tokens, head_dim, generator=rng, dtype=torch.float64) for _ in range(3)]
    drawn[0] *= 2 * scale
    return [tensor.requires_grad_() for tensor in drawn]


def made(name: str, options: dict[str, Any]) -> torch.nn.Module:
    """The rule, its parameters moved off their start."""
    rule = mb.make_attention(name, **options).double()
    with torch.no_grad():
        for i, parameter in enumerate(rule.parameters()):
            parameter += 0.1 * (i + 1)
    return rule


def softmax(logits: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
    weights = logits.exp() * visible
    return weights / weights.sum(-1, keepdim=True)


def laser(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
    log = softmax(q @ k.mT / 2, visible).clamp(min=1e-300).log()
    return torch.logsumexp(log.unsqueeze(-1) + v.unsqueeze(2), 3)


def ssmax(factor: Callable[[torch.Tensor], torch.Tensor]) -> Callable[..., torch.Tensor]:
    """n^(s·z) / Σ n^(s·z) is softmax of factor(n)·z with factor s·ln n."""
    return lambda q, k, v, visible: softmax(factor(visible.sum(-1, keepdim=True)) * (q @ k.mT) / 2, visible) @ v


def bisected_entmax(logits: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
    """Weights whose threshold is found by halving an interval."""
    half = (logits / 2).masked_fill(~visible, -math.inf)
    low, high = half.amax(-1, keepdim=True) - 1, half.amax(-1, keepdim=True)
    for _ in range(60):
        middle = (low + high) / 2
        total = (half - middle).clamp(min=0).square().sum(-1, keepdim=True)
        low, high = torch.where(total > 1, middle, low), torch.where(total > 1, high, middle)
    return (half - low).clamp(min=0).square()


def differential(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
    first, second = (softmax(q[..., i::2] @ k[..., i::2].mT / 2**0.5, visible) for i in (0, 1))
    heads = (first - (math.exp(0.1) - math.exp(0.2) + 0.3) * second) @ v
    return 0.7 * heads / (heads.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()


FORMULAS = [
    laser,
    ssmax(lambda n: 0.8 * n.double().log()),
    ssmax(lambda n: n.double().log().sqrt()),
    lambda q, k, v, visible: bisected_entmax(q @ k.mT / 2, visible) @ v,
    differential,
]


@pytest.mark.parametrize("masked", MASKS)
@pytest.mark.parametrize(
    ("rule", "formula"), list(zip(RULES, FORMULAS, strict=True)), ids=[str(rule) for rule in RULES]
)
def test_a_rule_equals_its_formula(rule: Any, formula: Callable[..., torch.Tensor], masked: str) -> None:
    mask, (q, k, v) = MASKS[masked], qkv()
    visible = torch.ones(6, 6, dtype=torch.bool) if mask is None else mask.expand(2, 2, 6, 6)
    expected = formula(q, k, v, visible)
    assert torch.allclose(made(*rule)(q, k, v, mask), expected, atol=1e-8)


@pytest.mark.parametrize(
    ("name", "options", "masked"), [*((*rule, masked) for rule in RULES for masked in MASKS), ("qr", {}, "none")]
)
def test_gradients_equal_finite_differences(name: str, options: dict[str, Any], masked: str) -> None:
    rule, mask = made(name, options), MASKS[masked]
    for head_dim in (2, 6) if name == "qr" else (2,):  # fewer channels than tokens, and as many
        assert torch.autograd.gradcheck(lambda *inputs: rule(*inputs, mask), qkv(head_dim=head_dim))


@pytest.mark.parametrize(("name", "options"), RULES)
def test_the_order_of_the_keys_does_not_matter(name: str, options: dict[str, Any]) -> None:
    rule, (q, k, v), order = made(name, options), qkv(), torch.tensor([3, 0, 5, 1, 4, 2])
    for mask in MASKS.values():
        moved = None if mask is None else mask[..., order]
        assert torch.allclose(rule(q, k[:, :, order], v[:, :, order], moved), rule(q, k, v, mask))


@pytest.mark.parametrize(("name", "options"), RULES)
def test_hidden_keys_count_for_nothing_whatever_they_are(name: str, options: dict[str, Any]) -> None:
    rule, (q, k, v) = made(name, options).float(), [tensor.float() for tensor in qkv()]
    hidden = ~PADDED.mT.expand(2, 2, 6, 4)
    k, v = (tensor.masked_fill(hidden, 1e4).detach().requires_grad_() for tensor in (k, v))
    out = rule(q, k, v, PADDED)
    for item, keys in enumerate(PADDED.squeeze()):
        alone = rule(q[item : item + 1], k[item : item + 1, :, keys], v[item : item + 1, :, keys])
        assert torch.allclose(out[item], alone[0], atol=1e-5)
    for grad in torch.autograd.grad(out.sum(), [k, v]):
        assert grad.isfinite().all()
        assert (grad * hidden).abs().max() == 0


@pytest.mark.parametrize(("tokens", "head_dim"), [(1, 4), (2, 2), (40, 4)])
@pytest.mark.parametrize(("name", "options"), RULES)
def test_the_contract_of_rules_is_kept(name: str, options: dict[str, Any], tokens: int, head_dim: int) -> None:
    for causal in (True, False):
        rule = mb.make_attention(name, **options)
        assert rule.rowwise
        check_rule(rule, name, heads=3, tokens=tokens, head_dim=head_dim, causal=causal)


@pytest.mark.parametrize(("name", "options"), [*RULES, ("qr", {})])
def test_cells_may_be_stacked(name: str, options: dict[str, Any]) -> None:
    rules = [mb.make_attention(name, **options).double() for _ in range(3)]
    inputs = [torch.stack(parts) for parts in zip(*(qkv(seed=i) for i in range(3)), strict=True)]
    out = vmap(lambda state, *x: functional_call(rules[0], state, x))(stack_module_state(rules), *inputs)
    assert torch.allclose(out, torch.stack([rule(*(part[i] for part in inputs)) for i, rule in enumerate(rules)]))


@pytest.mark.parametrize(("name", "options"), LINEAR)
def test_no_matrix_of_logits_is_stored(name: str, options: dict[str, Any]) -> None:
    largest = 0

    class Sizes(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            sizes = [leaf.numel() for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor)]
            largest = max(largest, *sizes, 0)
            return out

    inputs = [tensor.detach().float().requires_grad_() for tensor in qkv(tokens=512)]
    with Sizes():
        mb.make_attention(name, **options)(*inputs).sum().backward()
    assert largest == inputs[0].numel()


# --- where a rule is softmax attention, or what its weights are


def plain(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return torch.softmax(q @ k.mT / math.sqrt(q.shape[-1]), -1) @ v


def test_ssmax_is_softmax_where_s_is_one_over_ln_n() -> None:
    inputs = qkv()
    rule = mb.make_attention("ssmax", start=1 / math.log(6)).double()
    assert torch.allclose(rule(*inputs), plain(*inputs), atol=1e-7)


def test_laser_is_softmax_for_values_close_together_and_lies_between_it_and_the_largest() -> None:
    rule, (q, k, v) = mb.make_attention("laser"), qkv()
    assert torch.allclose(rule(q, k, 1e-6 * v) / 1e-6, plain(q, k, v), atol=1e-5)
    out = rule(q, k, v)
    assert (out >= plain(q, k, v)).all()
    assert (out <= v.amax(-2, keepdim=True)).all()
    assert torch.allclose(rule(q, k, v + 100), out + 100)


def test_laser_stays_finite_for_values_far_apart() -> None:
    q, k = torch.zeros(2, 1, 1, 2, 2)
    v = torch.tensor([[0.0, 1e4], [-1e4, -1e4]]).view(1, 1, 2, 2).requires_grad_()
    out = mb.make_attention("laser")(q, k, v, torch.tensor([[True, True], [False, True]]))
    assert out[0, 0, 0].tolist() == pytest.approx([-math.log(2), 1e4 - math.log(2)])
    assert out[0, 0, 1].tolist() == pytest.approx([-60, 1e4 - 60])  # what lies that far below counts so
    assert torch.autograd.grad(out.sum(), v)[0].isfinite().all()


def test_entmax_weights_two_keys_by_the_closed_form_and_gives_up_the_smaller_one() -> None:
    # (a − τ)² + (b − τ)² = 1 with a = gap/2, b = 0: τ = a/2 − √(1/2 − a²/4), as long as τ ≤ 0.
    for gap in (0.0, 0.5, 1.0, 1.9):
        a = gap / 2
        tau = a / 2 - math.sqrt(1 / 2 - a**2 / 4)
        weights = entmax15(torch.tensor([gap, 0.0], dtype=torch.float64))
        assert weights.tolist() == pytest.approx([(a - tau) ** 2, tau**2])
    assert entmax15(torch.tensor([2.0, 0.0])).tolist() == pytest.approx([1, 0], abs=1e-6)
    assert entmax15(torch.tensor([9.0, 0.0, 9.0])).tolist() == pytest.approx([0.5, 0, 0.5])


def test_differential_without_its_second_part_is_normalised_softmax_on_the_even_channels() -> None:
    rule, (q, k, v) = mb.make_attention("differential", start=0.0).double(), qkv()
    heads = plain(q[..., ::2], k[..., ::2], v)
    assert torch.allclose(rule(q, k, v), heads / (heads.square().mean(-1, keepdim=True) + 1e-5).sqrt())


# --- qr


def weights(q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    """What the rule gives with the identity for values, for as many channels as tokens or fewer."""
    tokens = q.shape[-2]
    identity = torch.eye(tokens, dtype=q.dtype).expand(*q.shape[:2], tokens, tokens)
    return mb.make_attention("qr")(q, k, identity)


@pytest.mark.parametrize(("tokens", "head_dim"), [(1, 3), (2, 2), (6, 6), (5, 16), (9, 9)])
def test_qr_weights_are_the_squares_of_gram_and_schmidts_vectors(tokens: int, head_dim: int) -> None:
    q, k, _ = (tensor.detach() for tensor in qkv(tokens, head_dim))
    logits = q @ k.mT
    columns: list[torch.Tensor] = []
    for j in range(tokens):
        column = logits[..., j]
        for _ in range(2):  # twice, against rounding
            for earlier in columns:
                column = column - (column * earlier).sum(-1, keepdim=True) * earlier
        columns.append(column / column.norm(dim=-1, keepdim=True))
    assert torch.allclose(weights(q, k), torch.stack(columns, -1).square(), atol=1e-9)


@pytest.mark.parametrize(("tokens", "head_dim"), [(6, 6), (9, 4), (40, 3), (2, 1)])
def test_qr_weights_sum_to_one_over_keys_and_over_queries(tokens: int, head_dim: int) -> None:
    q, k, _ = (tensor.detach() for tensor in qkv(tokens, head_dim))
    found, ones = weights(q, k), torch.ones(2, 2, tokens, dtype=torch.float64)
    for dim in (-1, -2):
        assert torch.allclose(found.sum(dim), ones)
    assert torch.allclose(weights(1e3 * q, k), found)
    assert not torch.allclose(weights(q, k.flip(-2)), found.flip(-1))  # the order of the keys counts


def test_qr_with_more_tokens_than_channels_weighs_by_the_first_keys() -> None:
    q, k, _ = (tensor.detach() for tensor in qkv(9, 4))
    reduced = torch.linalg.qr(q @ k.mT)[0][..., :4]
    assert torch.allclose(weights(q, k)[..., :4], reduced.square())
    changed = torch.cat((k[:, :, :4], k[:, :, 4:] + 1), 2)
    assert torch.allclose(weights(q, changed), weights(q, k))


def test_qr_where_tokens_repeat_is_doubly_stochastic_and_has_the_same_gradients_whatever_the_rounding() -> None:
    gradients = []
    for dtype in (torch.float32, torch.float64):
        q, k, v = (tensor.detach().to(dtype) for tensor in qkv(8, 8))
        q[:, :, 3], k[:, :, 5], k[:, :, 6] = q[:, :, 1], k[:, :, 2], 2 * k[:, :, 0] - k[:, :, 1]
        q.requires_grad_()
        rule = mb.make_attention("qr")
        assert torch.allclose(rule(q, k, torch.ones_like(v)), torch.ones_like(v), atol=1e-5)
        gradients.append(torch.autograd.grad(rule(q, k, v).square().sum(), q)[0].double())
    assert torch.allclose(*gradients, atol=1e-3)


@pytest.mark.parametrize(("apart", "counts"), [(1e-3, True), (1e-4, True), (1e-7, False)])
def test_qr_counts_a_key_that_is_nearly_another_until_rounding_decides(apart: float, counts: bool) -> None:
    """The second column is the first one and a bit of another direction, which gives it all its weight, or none."""
    q = torch.eye(3, dtype=torch.float64).expand(1, 1, 3, 3)
    k = torch.tensor([[[[1.0, 0, 0], [1.0, 0, apart], [0, 1.0, 0]]]], dtype=torch.float64)
    found = weights(q, k)[0, 0]
    second = torch.tensor([0.0, 0, 1] if counts else [0.0, 1, 0], dtype=torch.float64)
    assert torch.allclose(found[:, 1], second, atol=1e-6)


def test_qr_of_equal_or_no_queries_has_finite_gradients() -> None:
    _, k, v = (tensor.detach() for tensor in qkv(8, 8))
    for queries in (torch.zeros_like(k), torch.ones_like(k)):
        queries.requires_grad_()
        grad = torch.autograd.grad(mb.make_attention("qr")(queries, k, v).square().sum(), queries)[0]
        assert grad.isfinite().all()


def test_qr_weights_of_a_triangular_matrix_are_the_identity() -> None:
    identity = torch.eye(5, dtype=torch.float32).expand(1, 1, 5, 5)
    triangle = (torch.ones(5, 5).triu() + torch.eye(5)).expand(1, 1, 5, 5)
    for k in (identity, -identity, triangle.mT):
        assert torch.allclose(weights(identity, k), identity, atol=1e-6)


def test_qr_needs_all_tokens_and_no_mask() -> None:
    rule, (q, k, v) = mb.make_attention("qr"), qkv()
    with pytest.raises(ModelError, match=r"'qr' takes no mask: .* choose a bidirectional model"):
        rule(q, k, v, CAUSAL)
    with pytest.raises(ModelError, match="needs as many queries as keys, and got 2 and 6"):
        rule(q[:, :, :2], k, v)
    tokens = mb.make_task("lookup-v1").info
    mb.make_model("bert", tokens, attention="qr")
    with pytest.raises(ModelError, match="'qr' takes no mask"):
        mb.make_model("gpt", tokens, attention="qr")
    assert not rule.rowwise


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("ssmax", {"scale": "log"}, "scale 'log' .* is neither 'learned' nor 'fixed'"),
        ("ssmax", {"start": 0.0}, "start 0.0 .* is not a number above 0"),
        ("differential", {"start": 1.0}, r"start 1.0 .* is not in \[0, 1\)"),
    ],
)
def test_a_wrong_option_is_named(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        mb.make_attention(name, **options)


def test_differential_refuses_an_odd_head() -> None:
    with pytest.raises(ModelError, match="halves the channels of a head, and 3 is odd; change width or heads"):
        mb.make_attention("differential").double()(*qkv(head_dim=3))
