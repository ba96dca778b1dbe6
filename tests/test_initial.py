"""The option init_std: how weights start, of which parts, and that leaving it out changes nothing."""

import dataclasses
import math
from typing import Any

import pytest
import torch
from torch import nn

import multistep_bench as mb
from multistep_bench.errors import ModelError

IMAGES = mb.make_task("two_step_digits-v1").info
TOKENS = mb.make_task("lookup-v1").info
EPISODES = mb.make_task("icl_glyphs-v1").info
WIDE = {"width": 256, "heads": 2}  # enough weights for every one to show its standard deviation


def built(name: str, info: mb.TaskInfo, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    return mb.make_model(name, info, **options)


class Projected(nn.Module):
    """A rule with weights of its own, all 5."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        nn.init.constant_(self.linear.weight, 5.0)

    def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: Any = None) -> torch.Tensor:
        return v * self.linear.weight.mean() + 0 * q


@pytest.mark.parametrize(("name", "info"), [("vit", IMAGES), ("bert", TOKENS), ("gpt", TOKENS)])
@pytest.mark.parametrize(("init_std", "std"), [(0.03, 0.03), (1, 1.0), ("scaled", 0.02)])
def test_every_weight_is_drawn_from_one_normal_distribution(name, info, init_std, std) -> None:
    model = built(name, info, init_std=init_std, **WIDE)
    norms = {part for part in model.modules() if isinstance(part, nn.LayerNorm)}
    biases = {id(part.bias) for part in model.modules() if getattr(part, "bias", None) is not None}
    drawn = {name: p for name, p in model.named_parameters() if id(p) not in biases | {id(n.weight) for n in norms}}
    assert {"pos_embed", "head.weight"} | ({"cls_token", "patch_embed.proj.weight"} if name == "vit" else set()) < set(
        drawn
    )
    for parameter in drawn.values():
        error = 4 / math.sqrt(parameter.numel())
        assert parameter.std().item() == pytest.approx(std, rel=error)
        assert abs(parameter.mean().item()) < error * std
    every = torch.cat([parameter.detach().flatten() for parameter in drawn.values()]) / std
    assert (every.abs() > 2).float().mean().item() == pytest.approx(
        0.0455, abs=0.003
    )  # normal, neither cut nor uniform
    assert all(norm.weight.eq(1).all() for norm in norms)
    assert all(p.eq(0).all() for p in model.parameters() if id(p) in biases)


def test_an_embedder_of_images_keeps_its_convolutions_and_a_rule_its_weights() -> None:
    default, small = (built("bert", EPISODES, init_std=std) for std in (None, 0.02))
    name = "embedding.items.layer2.0.conv1.weight"
    assert torch.equal(small.get_parameter(name), default.get_parameter(name))
    assert small.get_parameter("embedding.items.fc.weight").std().item() == pytest.approx(0.02, rel=0.1)
    model = built("bert", TOKENS, attention="test_initial:Projected", init_std=0.02)
    assert model.get_parameter("blocks.0.attn.rule.linear.weight").eq(5).all()


def test_a_sequence_starts_by_default_as_torch_draws_it() -> None:
    model = built("bert", TOKENS)
    assert model.get_parameter("pos_embed").std().item() == pytest.approx(1, rel=0.1)
    assert model.get_parameter("embedding.weight").std().item() == pytest.approx(1, rel=0.1)
    assert model.get_parameter("blocks.0.attn.qkv.weight").abs().max().item() == pytest.approx(1 / 8, rel=0.01)
    cls_token = built("vit", IMAGES).get_parameter("cls_token")
    assert cls_token.std().item() == pytest.approx(1e-6, rel=0.5)


@pytest.mark.parametrize("width", [32, 64, 256])
def test_scaled_weights_give_the_papers_starting_logits_at_any_width(width) -> None:
    model = built("vit", IMAGES, width=width, heads=2, init_std="scaled")
    assert model.get_parameter("head.weight").std().item() == pytest.approx(0.02 * math.sqrt(256 / width), rel=0.3)
    q, k, _ = (
        nn.functional.layer_norm(torch.randn(2000, width), (width,))
        .matmul(model.get_parameter("blocks.0.attn.qkv.weight").T)
        .unflatten(1, (3, 2, -1))
        .unbind(1)
    )
    logits = torch.einsum("qhd,khd->hqk", q, k) / math.sqrt(width / 2)
    assert logits.std().item() == pytest.approx(256 * 0.02**2, rel=0.2)


@pytest.mark.parametrize("name", ["vit", "bert"])
@pytest.mark.parametrize("init_std", [0, -0.02, float("nan"), float("inf"), "small", True, [0.02]])
def test_what_is_no_standard_deviation_is_one_sentence(name, init_std) -> None:
    info = IMAGES if name == "vit" else TOKENS
    with pytest.raises(ModelError) as error:
        mb.make_model(name, dataclasses.replace(info), init_std=init_std)
    text = str(error.value)
    assert text.startswith(f"init_std {init_std!r} of {'vit' if name == 'vit' else 'sequence'} is neither a number")
    assert "\n" not in text


def test_the_small_start_is_berts_and_gpt_2s() -> None:
    for name in (
        "bert_small_init",
        "bert_small_init_normsoftmax",
        "bert_small_init_tau",
        "bert_small_init_qknorm",
        "gpt_small_init",
        "gpt_small_init_heat",
    ):
        model = built(name, TOKENS)
        assert model.get_parameter("embedding.weight").std().item() == pytest.approx(0.02, rel=0.1)
        assert model.get_parameter("blocks.0.mlp.fc1.weight").std().item() == pytest.approx(0.02, rel=0.1)
