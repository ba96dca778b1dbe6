"""Gated heads: the formula from the plain model's own parts, and where both models are the same."""

from typing import Any

import pytest
import torch

import multistep_bench as mb
from multistep_bench.errors import ModelError
from multistep_bench.models.gate import GatedAttention
from multistep_bench.models.transformer import Attention

IMAGES = mb.make_task("two_step_digits-v1")
TOKENS = mb.make_task("lookup-v1")


class Mean(torch.nn.Module):
    rowwise = True

    def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: Any = None) -> torch.Tensor:
        return v.mean(-2, keepdim=True).expand_as(q)


def test_heads_are_multiplied_by_the_gate_of_what_attention_reads() -> None:
    torch.manual_seed(0)
    attention = Attention(6, 2, Mean())
    values, proj = attention.qkv.weight[12:], attention.proj
    gated, x = GatedAttention(attention), torch.randn(3, 5, 6)
    heads = (x @ values.T).mean(1, keepdim=True)
    expected = proj(heads / (1 + torch.exp(-x @ gated.gate.weight.T)))
    assert torch.allclose(gated(x), expected, atol=1e-6)
    assert torch.allclose(gated(x, queries=slice(-1, None)), expected[:, -1:], atol=1e-6)
    assert gated.gate.bias is None
    assert len(list(gated.parameters())) == len({*gated.parameters()}) == 4  # qkv, gate, projection and its bias


@pytest.mark.parametrize(("gated", "plain"), [("vit_gate", "vit"), ("gpt_gate", "gpt"), ("bert_gate", "bert")])
def test_open_gates_give_the_plain_model(gated: str, plain: str) -> None:
    task = IMAGES if plain == "vit" else TOKENS
    inputs = task.sample(4, split="train", rng=torch.Generator().manual_seed(0)).inputs
    torch.manual_seed(0)
    reference = mb.make_model(plain, task.info).eval()
    torch.manual_seed(0)
    model = mb.make_model(gated, task.info).eval()
    for module in model.modules():
        if isinstance(module, GatedAttention):
            torch.nn.init.zeros_(module.gate.weight)  # every gate is ½
            module.proj.weight.data *= 2
    assert torch.allclose(model(inputs), reference(inputs), atol=1e-5)
    width = 32 if plain == "vit" else 64
    assert sum(p.numel() for p in model.parameters()) - sum(p.numel() for p in reference.parameters()) == 3 * width**2


@pytest.mark.parametrize(("model", "task"), [("vit_gate", IMAGES), ("gpt_gate", TOKENS)])
def test_gates_start_as_the_other_weights_do(model: str, task: Any) -> None:
    def spreads(**options: Any) -> list[float]:
        built = mb.make_model(model, task.info, **options)
        return [m.gate.weight.detach().std().item() for m in built.modules() if isinstance(m, GatedAttention)]

    assert spreads(init_std=0.3) == [pytest.approx(0.3, rel=0.1)] * 3
    default = 0.02 if model == "vit_gate" else (1 / 3 / 64) ** 0.5  # uniform in ±1/√width
    assert spreads() == [pytest.approx(default, rel=0.1)] * 3


def test_options_are_those_of_the_plain_model() -> None:
    mb.make_model("gpt_gate", TOKENS.info, attention="normsoftmax", depth=1)
    with pytest.raises(ModelError, match="colour"):
        mb.make_model("gpt_gate", TOKENS.info, colour="red")
