"""The block against timm's, and what masks and fewer queries change."""

from functools import partial
from typing import Any

import pytest
import torch
from timm.models.vision_transformer import Block as TimmBlock
from torch import nn

import multistep_bench as mb
from multistep_bench.models.transformer import Block

RULES = ["softmax", "normsoftmax", "heat", "uniform", "qknorm", "sigmoid", "sinkhorn"]


def block(rule: str, seed: int = 0) -> Block:
    torch.manual_seed(seed)
    return Block(16, 4, mb.make_attention(rule), mlp_ratio=2.0)


def test_block_equals_timms_with_copied_weights():
    ours = block("softmax")
    norm: Any = partial(nn.LayerNorm, eps=1e-6)
    theirs = TimmBlock(16, 4, mlp_ratio=2.0, qkv_bias=False, norm_layer=norm)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(3, 7, 16)
    assert (ours(x) - theirs(x)).abs().max() < 1e-6


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("queries", [slice(2), slice(-1, None)])
def test_some_queries_alone_are_what_they_are_among_all(rule, queries):
    x, causal = torch.randn(3, 7, 16), torch.ones(7, 7, dtype=torch.bool).tril()
    for mask in (None, causal, causal[-1:]):
        assert torch.allclose(block(rule)(x, mask, queries=queries), block(rule)(x, mask)[:, queries], atol=1e-6)


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule != "sinkhorn"])
def test_a_causal_block_does_not_look_ahead(rule):
    x, causal = torch.randn(2, 7, 16), torch.ones(7, 7, dtype=torch.bool).tril()
    changed = torch.cat((x[:, :4], torch.randn(2, 3, 16)), dim=1)
    before, after = block(rule)(x, causal), block(rule)(changed, causal)
    assert torch.equal(before[:, :4], after[:, :4])
    assert not torch.allclose(before[:, 4:], after[:, 4:])


def test_drop_path_drops_whole_branches_in_training_alone():
    dropped = Block(16, 4, mb.make_attention("softmax"), mlp_ratio=2.0, drop_path=0.9)
    x = torch.randn(200, 5, 16)
    unchanged = (dropped(x) == x).flatten(1).all(1).double().mean()
    assert 0.7 < unchanged < 0.92  # both branches are dropped with probability 0.81
    dropped.eval()
    assert torch.equal(dropped(x), dropped(x))
    assert not torch.equal(dropped(x), x)
