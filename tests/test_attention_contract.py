"""What is refused of an attention rule when a model is built with it, and what is not."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

import multistep_bench as mb
from multistep_bench.errors import ModelError
from multistep_bench.models.attention.contract import check_rule
from multistep_bench.models.attention.rule import make_attention

IMAGES = mb.make_task("two_step_digits-v1").info
TOKENS = mb.make_task("lookup-v1").info


def attend(q: Any, k: Any, v: Any, mask: Any) -> Any:
    return scaled_dot_product_attention(q, k, v, attn_mask=mask)


def weigh(logits: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return logits.softmax(-1) @ v


def mixed_over_queries(q: Any, k: Any, v: Any, mask: Any) -> Any:
    return attend(q, k, v, mask) + q.mean(-2, keepdim=True)


RULES = {
    "heads after tokens": lambda q, k, v, mask: attend(q, k, v, mask).transpose(1, 2).contiguous(),
    "merged heads": lambda q, k, v, mask: attend(q, k, v, mask).transpose(1, 2).flatten(2),
    "weights too": lambda q, k, v, mask: (attend(q, k, v, mask), q @ k.mT),
    "one output for all": lambda q, k, v, mask: v.mean(2, keepdim=True),
    "double": lambda q, k, v, mask: attend(q, k, v, mask).double(),
    "an error": lambda q, k, v, mask: q @ k,
    "ignores the mask": lambda q, k, v, mask: attend(q, k, v, None),
    "adds the mask": lambda q, k, v, mask: weigh(q @ k.mT + (0 if mask is None else mask), v),
    "hides what is True": lambda q, k, v, mask: weigh(
        q @ k.mT if mask is None else (q @ k.mT).masked_fill(mask, -torch.inf), v
    ),
    "of all queries": mixed_over_queries,
    "right": attend,
}


class Rule(nn.Module):
    """One of `RULES`, and a weight, so that drawing it shows in torch's generator."""

    def __init__(self, kind: str, rowwise: bool = False) -> None:
        super().__init__()
        self.kind = kind
        self.rowwise = rowwise
        self.weight = nn.Parameter(torch.randn(()))

    def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None = None) -> Any:
        return RULES[self.kind](q, k, v, mask)


def built(model: str, kind: str, **options: Any) -> nn.Module:
    info = IMAGES if model == "vit" else TOKENS
    return mb.make_model(
        model, info, attention="test_attention_contract:Rule", attention_options={"kind": kind, **options}
    )


@pytest.mark.parametrize("model", ["vit", "bert", "gpt"])
@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("heads after tokens", "returns torch.float32 of shape"),
        ("merged heads", "returns torch.float32 of shape"),
        ("one output for all", "returns torch.float32 of shape"),
        ("weights too", "returns a tuple; return one tensor like q"),
        ("double", "returns torch.float64 of shape"),
        ("an error", r"fails on q of shape .* k and v of shape .* mask.*: RuntimeError"),
    ],
)
def test_an_output_of_another_form_is_the_rules_fault(model: str, kind: str, words: str) -> None:
    with pytest.raises(ModelError, match=f"^attention rule 'test_attention_contract:Rule' {words}"):
        built(model, kind)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("ignores the mask", "lets earlier tokens see the last one through a causal mask"),
        ("adds the mask", "lets earlier tokens see the last one through a causal mask"),
        ("of all queries", "lets earlier tokens see the last one through a causal mask"),
        ("hides what is True", "not finite for a boolean mask of shape"),
    ],
)
def test_a_rule_that_does_not_keep_the_mask_is_refused_where_there_is_one(kind: str, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        built("gpt", kind)
    built("bert", kind)
    built("vit", kind)


@pytest.mark.parametrize("model", ["vit", "bert"])
def test_a_rule_that_is_not_rowwise_as_it_says_is_refused(model: str) -> None:
    built(model, "of all queries", rowwise=False)
    built(model, "right", rowwise=True)
    with pytest.raises(ModelError, match="says rowwise = True, and its output for one query depends on the others"):
        built(model, "of all queries", rowwise=True)


@pytest.mark.parametrize("name", ["softmax", "normsoftmax", "heat", "uniform", "qknorm", "sigmoid"])
@pytest.mark.parametrize(("tokens", "head_dim"), [(1, 4), (2, 1), (40, 4)])
def test_our_rules_keep_the_contract(name: str, tokens: int, head_dim: int) -> None:
    for causal in (True, False):
        check_rule(make_attention(name), name, heads=3, tokens=tokens, head_dim=head_dim, causal=causal)


def test_sinkhorn_looks_ahead_under_a_causal_mask() -> None:
    mb.make_model("bert", TOKENS, attention="sinkhorn")
    with pytest.raises(ModelError, match=r"'sinkhorn' lets earlier tokens see .* sum over no queries"):
        mb.make_model("gpt", TOKENS, attention="sinkhorn")


class Counting(nn.Module):
    """Counts its calls, draws random numbers, and holds what cannot be copied."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: Any = None) -> torch.Tensor:
        self.calls += 1
        return v + 0 * torch.rand(1)


def test_the_check_leaves_rule_and_generator_as_they_were() -> None:
    rule = Counting().train()
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    check_rule(rule, "counting", heads=2, tokens=5, head_dim=4, causal=False)
    assert torch.equal(torch.rand(1), expected)
    assert rule.training
    assert rule.calls == 0


def test_a_rule_that_cannot_be_copied_is_checked_itself() -> None:
    rule = Counting()
    rule.module = torch  # type: ignore[assignment]
    check_rule(rule, "counting", heads=2, tokens=5, head_dim=4, causal=False)
    assert rule.calls == 1
    assert rule.training
