"""Attention rules against their formulas, written out densely in float64."""

import math
from collections.abc import Callable

import pytest
import torch
from torch.func import functional_call, stack_module_state, vmap
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import multistep_bench as mb
from multistep_bench.errors import ModelError, NotFound

LEARNING_RULES = [
    ("softmax", {}),
    ("softmax", {"temperature": 1 / 3}),
    ("normsoftmax", {"statistic": "std"}),
    ("normsoftmax", {"statistic": "var"}),
    ("heat", {}),
    ("qknorm", {}),
    ("sigmoid", {}),
    ("sinkhorn", {}),
]
RULES = [*LEARNING_RULES, ("uniform", {})]
SHAPES = [(1, 1, 5, 5, 8), (3, 2, 17, 17, 16), (2, 4, 65, 65, 16), (2, 1, 200, 200, 4), (2, 2, 1, 300, 4)]


def qkv(batch, heads, queries, keys, head_dim, *, scale=1.0, dtype=torch.float64, seed=0):
    rng = torch.Generator().manual_seed(seed)

    def draw(tokens):
        return torch.randn(batch, heads, tokens, head_dim, generator=rng, dtype=torch.float64)

    tensors = scale * draw(queries), draw(keys) + 0.5, draw(keys)
    return [tensor.to(dtype).requires_grad_() for tensor in tensors]


def spread(logits, statistic):
    """s per row, floored as the rule documents, with √head_dim left to the caller."""
    if logits.shape[-1] == 1:
        return torch.full_like(logits, 1e-6)
    variance = logits.var(-1, keepdim=True)
    return variance.clamp(min=1e-12).sqrt() if statistic == "std" else variance.clamp(min=1e-6)


def dense_normsoftmax(q, k, v, statistic):
    logits = q @ k.mT
    s = spread(logits, statistic).clamp(max=math.sqrt(q.shape[-1]))
    return torch.softmax(logits / s, -1) @ v


def dense_sinkhorn(q, k, v):
    weights = (q @ k.mT / math.sqrt(q.shape[-1])).exp()
    for dim in (-1, -2, -1, -2, -1):
        weights = weights / weights.sum(dim, keepdim=True)
    return weights @ v


DENSE: dict[str, Callable[..., torch.Tensor]] = {
    "softmax": lambda q, k, v, temperature=None: (
        torch.softmax(q @ k.mT / (temperature or math.sqrt(q.shape[-1])), -1) @ v
    ),
    "normsoftmax": dense_normsoftmax,
    "heat": lambda q, k, v: torch.softmax(3.0 * q @ k.mT, -1) @ v,
    "qknorm": lambda q, k, v: (
        torch.softmax(10 * (q / q.norm(dim=-1, keepdim=True)) @ (k / k.norm(dim=-1, keepdim=True)).mT, -1) @ v
    ),
    "sigmoid": lambda q, k, v: torch.sigmoid(q @ k.mT / math.sqrt(q.shape[-1]) - math.log(k.shape[-2])) @ v,
    "sinkhorn": dense_sinkhorn,
    "uniform": lambda q, k, v: v.mean(-2, keepdim=True).expand_as(q),
}


def gradients(function: Callable[..., torch.Tensor], inputs: list[torch.Tensor]):
    """What a function gives, and the gradients of a fixed weighting of it."""
    out = function(*inputs)
    weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)
    return out, torch.autograd.grad((out * weights).sum(), inputs, materialize_grads=True)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("name", "options"), RULES)
def test_rule_equals_its_formula(name, options, shape):
    rule = mb.make_attention(name, **options).double()
    inputs = qkv(*shape)
    out, grads = gradients(rule, inputs)
    expected, expected_grads = gradients(lambda q, k, v: DENSE[name](q, k, v, **options), inputs)
    assert (out - expected).abs().max() < 1e-6 * expected.abs().max()
    for grad, wanted in zip(grads, expected_grads, strict=True):
        assert (grad - wanted).abs().max() < 1e-5 * wanted.abs().max().clamp(min=1e-3)


@pytest.mark.parametrize("statistic", ["std", "var"])
@pytest.mark.parametrize("scale", [1e-3, 0.1, 1.0, 5.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_normsoftmax_equals_the_dense_formula_in_float64(shape, scale, statistic):
    inputs = qkv(*shape, scale=scale)
    out, grads = gradients(mb.make_attention("normsoftmax", statistic=statistic), inputs)
    expected, expected_grads = gradients(lambda q, k, v: dense_normsoftmax(q, k, v, statistic), inputs)
    assert (out - expected).abs().max() < 1e-12
    for grad, wanted in zip(grads, expected_grads, strict=True):
        assert (grad - wanted).abs().max() < 1e-10 * wanted.abs().max().clamp(min=1)


@pytest.mark.parametrize("statistic", ["std", "var"])
@pytest.mark.parametrize("shape", SHAPES)
def test_normsoftmax_averages_the_values_when_all_keys_are_equal(shape, statistic):
    q, k, v = qkv(*shape)
    k = k[:, :, :1].expand_as(k).detach().clone().requires_grad_()
    out, grads = gradients(mb.make_attention("normsoftmax", statistic=statistic), [q, k, v])
    assert (out - v.mean(-2, keepdim=True)).abs().max() < 1e-9
    assert all(grad.isfinite().all() for grad in grads)


@pytest.mark.parametrize("statistic", ["std", "var"])
@pytest.mark.parametrize("shape", [(3, 2, 17, 17, 16), (2, 1, 200, 200, 4)])
def test_normsoftmax_in_bfloat16_errs_no_more_than_the_dense_formula_does(shape, statistic):
    q, k, v = (tensor.detach() for tensor in qkv(*shape, dtype=torch.bfloat16))
    exact = dense_normsoftmax(q.double(), k.double(), v.double(), statistic)
    error = (mb.make_attention("normsoftmax", statistic=statistic)(q, k, v).double() - exact).abs()
    dense = (dense_normsoftmax(q, k, v, statistic).double() - exact).abs()
    assert error.mean() <= 1.1 * dense.mean()
    assert error.max() < 0.1


def test_normsoftmax_of_many_tokens_stores_no_matrix_of_logits():
    batch, heads, tokens, head_dim = 1, 2, 512, 16
    largest = 0

    class Sizes(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            sizes = [leaf.numel() for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor)]
            largest = max(largest, *sizes, 0)
            return out

    inputs = qkv(batch, heads, tokens, tokens, head_dim, dtype=torch.float32)
    with Sizes():
        mb.make_attention("normsoftmax")(*inputs).sum().backward()
    assert largest == batch * heads * tokens * head_dim


@pytest.mark.parametrize(("name", "options"), RULES)
def test_padded_keys_count_for_nothing(name, options):
    rule = mb.make_attention(name, **options).double()
    q, k, v = qkv(2, 2, 7, 9, 8)
    mask = torch.zeros(2, 1, 1, 9, dtype=torch.bool)
    mask[0, ..., :5] = True
    mask[1, ..., 2:] = True
    out, grads = gradients(lambda *inputs: rule(*inputs, mask), [q, k, v])
    for item, keys in enumerate((slice(0, 5), slice(2, 9))):
        alone = rule(q[item : item + 1], k[item : item + 1, :, keys], v[item : item + 1, :, keys])
        assert torch.allclose(out[item], alone[0], atol=1e-6)
    hidden = ~mask.expand(2, 2, 1, 9).transpose(-1, -2)
    assert all(grad.isfinite().all() for grad in grads)
    assert all((grad * hidden).abs().max() == 0 for grad in grads[1:])


@pytest.mark.parametrize(("name", "options"), [rule for rule in RULES if rule[0] != "sinkhorn"])
def test_causal_mask_shows_each_query_its_past_alone(name, options):
    rule = mb.make_attention(name, **options).double()
    q, k, v = qkv(2, 2, 6, 6, 8)
    out, grads = gradients(lambda *inputs: rule(*inputs, torch.ones(6, 6, dtype=torch.bool).tril()), [q, k, v])
    for i in range(6):
        alone = rule(q[:, :, i : i + 1], k[:, :, : i + 1], v[:, :, : i + 1])
        assert torch.allclose(out[:, :, i : i + 1], alone, atol=1e-6)
    assert all(grad.isfinite().all() for grad in grads)


def test_sinkhorn_gives_no_weight_to_the_future():
    q, k, _ = qkv(1, 1, 6, 6, 8)
    rule, causal = mb.make_attention("sinkhorn"), torch.ones(6, 6, dtype=torch.bool).tril()
    weights = rule(q, k, torch.eye(6, dtype=torch.float64).view(1, 1, 6, 6), causal)
    assert weights.triu(1).abs().max() == 0
    assert torch.allclose(weights.sum(-1), torch.ones(1, 1, 6, dtype=torch.float64))


@pytest.mark.parametrize(("name", "options"), RULES)
def test_a_query_that_sees_one_key_reads_its_value(name, options):
    rule = mb.make_attention(name, **options).double()
    q, k, v = qkv(2, 2, 4, 4, 8)
    out, grads = gradients(lambda *inputs: rule(*inputs, torch.eye(4, dtype=torch.bool)), [q, k, v])
    weight = torch.sigmoid((q * k).sum(-1, keepdim=True) / math.sqrt(8)) if name == "sigmoid" else 1.0
    assert torch.allclose(out, weight * v)
    assert all(grad.isfinite().all() for grad in grads)


def test_sinkhorn_weights_become_doubly_stochastic():
    q, k, _ = qkv(1, 2, 9, 9, 8)
    identity = torch.eye(9, dtype=torch.float64).expand(1, 2, 9, 9)
    weights = mb.make_attention("sinkhorn", normalisations=201)(q, k, identity)
    for dim in (-1, -2):
        assert torch.allclose(weights.sum(dim), torch.ones(1, 2, 9, dtype=torch.float64), atol=1e-6)


@pytest.mark.parametrize(("name", "options"), RULES)
def test_rowwise_says_whether_queries_are_independent(name, options):
    rule = mb.make_attention(name, **options).double()
    q, k, v = qkv(2, 2, 17, 17, 16)
    independent = torch.allclose(rule(q[:, :, :1], k, v), rule(q, k, v)[:, :, :1])
    assert rule.rowwise == independent


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # on a CPU; there, cells are not stacked
@pytest.mark.parametrize(("name", "options"), RULES)
def test_rules_run_under_vmap(name, options):
    rules = [mb.make_attention(name, **options).double() for _ in range(3)]
    inputs = [torch.stack(parts) for parts in zip(*(qkv(2, 2, 17, 17, 4, seed=i) for i in range(3)), strict=True)]
    state = stack_module_state(rules)
    out = vmap(lambda state, *x: functional_call(rules[0], state, x))(state, *inputs)
    alone = torch.stack([rule(*(part[i] for part in inputs)) for i, rule in enumerate(rules)])
    assert torch.allclose(out, alone)


@pytest.mark.parametrize(("fraction", "m"), [(0.0, 3.0), (0.25, (3 + 0.25) / 2), (0.5, 0.25), (0.8, 0.25), (1.0, 0.25)])
def test_heat_lowers_m_by_half_a_cosine_over_the_first_half_of_training(fraction, m):
    q, k, v = qkv(1, 2, 7, 7, 16)
    rule = mb.make_attention("heat")
    rule.set_progress(fraction)  # pyright: ignore[reportCallIssue]
    assert torch.allclose(rule(q, k, v), torch.softmax(m * q @ k.mT, -1) @ v)


def test_heat_is_loaded_with_the_progress_it_was_saved_at():
    q, k, v = qkv(1, 2, 7, 7, 16)
    saved, loaded = mb.make_attention("heat"), mb.make_attention("heat")
    saved.set_progress(0.3)  # pyright: ignore[reportCallIssue]
    loaded.load_state_dict(saved.state_dict())
    assert torch.equal(loaded(q, k, v), saved(q, k, v))


def test_regions_gives_each_head_the_mean_of_its_region():
    rule = mb.make_attention("regions").double()
    regions = torch.tensor([[0, 1, 1, 0, 0], [0, 0, 0, 1, 0]], dtype=torch.bool)
    rule.set_regions(regions)  # pyright: ignore[reportCallIssue]
    q, k, v = qkv(2, 3, 5, 5, 4)
    out = rule(q, k, v)
    for query in range(5):
        assert torch.allclose(out[:, 0, query], v[:, 0, 1:3].mean(1))
        assert torch.allclose(out[:, 1, query], v[:, 1, 3])
        assert torch.allclose(out[:, 2, query], v[:, 2, 1:3].mean(1))


def test_regions_refuses_a_mask_and_a_model_without_a_layout():
    rule = mb.make_attention("regions")
    inputs = qkv(1, 1, 2, 2, 4, dtype=torch.float32)
    with pytest.raises(ModelError, match="set_regions"):
        rule(*inputs)
    rule.set_regions(torch.tensor([[True, True]]))  # pyright: ignore[reportCallIssue]
    with pytest.raises(ModelError, match="no mask"):
        rule(*inputs, torch.ones(2, 2, dtype=torch.bool))


@pytest.mark.parametrize(
    ("name", "options", "error", "words"),
    [
        ("normsoftmx", {}, NotFound, "Did you mean 'normsoftmax'"),
        ("softmax", {"temprature": 1.0}, ModelError, "did you mean 'temperature'"),
        ("uniform", {"temperature": 1.0}, ModelError, "takes none"),
        ("softmax", {"temperature": 0.0}, ModelError, "not above 0"),
        ("softmax", {"temperature": "hot"}, ModelError, "'hot'"),
        ("normsoftmax", {"statistic": "mean"}, ModelError, "neither 'std' nor 'var'"),
        ("sinkhorn", {"normalisations": 4}, ModelError, "not odd"),
    ],
)
def test_a_wrong_rule_or_option_is_named(name, options, error, words):
    with pytest.raises(error, match=words):
        mb.make_attention(name, **options)


def test_a_rule_is_found_by_import_path():
    rule = mb.make_attention("multistep_bench.models.attention.softmax:Softmax", temperature=2.0)
    q, k, v = qkv(1, 1, 3, 3, 4)
    assert torch.allclose(rule(q, k, v), torch.softmax(q @ k.mT / 2, -1) @ v)
