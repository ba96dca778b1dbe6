"""Gradient rescaling on hand-made and on real gradients."""

import pytest
import torch
from torch import nn

import multistep_bench as mb
from multistep_bench.errors import ModelError
from multistep_bench.training.rescale import rescale_gradients, rescaled

TASK = mb.make_task("two_step_digits-v1")


def gradient(*magnitudes: float) -> torch.Tensor:
    """A fused gradient of two heads of dimension 2 and width 3: one magnitude for q, k, v in each head, signs mixed."""
    rows = [torch.full((2, 3), magnitude) for magnitude in magnitudes]
    return torch.cat(rows) * torch.tensor([1.0, -1.0, 1.0])


def test_layer_mode_brings_q_k_v_to_the_mean_of_their_magnitudes():
    q, k, v = rescaled(gradient(1, 3, 10, 10, 4, 8), heads=2, mode="layer").split(4)
    # mean magnitudes 2, 10, 6: the mean is 6
    assert torch.allclose(torch.stack([part.abs().mean() for part in (q, k, v)]), torch.tensor(6.0))
    assert torch.allclose(q, gradient(3, 9))  # heads keep their proportion
    assert torch.allclose(k, gradient(6, 6))
    assert torch.allclose(v, gradient(4, 8))


def test_head_mode_brings_q_and_k_of_a_head_to_its_values_magnitude():
    out = rescaled(gradient(1, 3, 10, 10, 4, 8), heads=2, mode="head")
    assert torch.allclose(out, gradient(4, 8, 4, 8, 4, 8))


@pytest.mark.parametrize("mode", ["layer", "head"])
def test_a_gradient_of_zeros_stays_so_and_a_starved_one_is_raised(mode):
    out = rescaled(gradient(0, 0, 1e-12, 1e-12, 1e3, 1e3), heads=2, mode=mode)
    q, k, v = out.split(4)
    assert q.abs().max() == 0
    assert torch.allclose(k, v)


@pytest.mark.parametrize("mode", ["layer", "head"])
def test_only_the_projections_of_attention_are_rescaled(mode):
    torch.manual_seed(0)
    model = mb.make_model("vit", TASK.info)
    batch = TASK.sample(8, split="train", rng=torch.Generator().manual_seed(0))
    nn.functional.cross_entropy(model(batch.inputs), batch.targets).backward()
    before = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    rescale_gradients(model, mode)
    changed = {name for name, p in model.named_parameters() if not torch.equal(p.grad, before[name])}  # type: ignore[arg-type]
    assert changed == {name for name in before if name.endswith("qkv.weight")}
    for name in changed:
        q, k, v = dict(model.named_parameters())[name].grad.chunk(3)  # type: ignore[union-attr]
        assert q.abs().mean().item() == pytest.approx(v.abs().mean().item(), rel=1e-4)
        assert k.abs().mean().item() == pytest.approx(v.abs().mean().item(), rel=1e-4)


def test_a_model_without_attention_is_refused():
    with pytest.raises(ModelError, match="Sequential has none"):
        rescale_gradients(mb.make_model("resnet9", TASK.info), "layer")
