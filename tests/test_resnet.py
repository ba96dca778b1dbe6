"""The ResNets against torchvision's, and their stems."""

import dataclasses

import pytest
import torch
from torchvision.models import resnet18, resnet34

import multistep_bench as mb
from multistep_bench.errors import ModelError, NotFound
from multistep_bench.models.resnet import resnet

TASK = mb.make_task("two_step_digits-v1")
LARGE = mb.make_task("two_step_digits-v1", tile=28)


def test_resnet18_equals_torchvisions_with_copied_weights():
    torch.manual_seed(0)
    ours, theirs = mb.make_model("resnet18", LARGE.info, size="paper"), resnet18(num_classes=8)
    theirs.load_state_dict(ours.state_dict())
    images = torch.rand(4, 3, 56, 56)
    assert torch.allclose(ours(images), theirs(images), atol=1e-5)


def test_resnet34_equals_torchvisions_with_copied_weights_and_starts_as_it():
    torch.manual_seed(0)
    ours, theirs = mb.make_model("resnet34", LARGE.info, size="paper"), resnet34(num_classes=8)
    for name, parameter in ours.named_parameters():
        if "conv" in name:
            assert parameter.std().item() == pytest.approx(theirs.get_parameter(name).std().item(), rel=0.1), name
    theirs.load_state_dict(ours.state_dict())
    images = torch.rand(4, 3, 56, 56)
    assert torch.allclose(ours(images), theirs(images), atol=1e-4)


def test_initial_weights_are_distributed_as_torchvisions():
    torch.manual_seed(0)
    wanted = dict(resnet18(num_classes=8).named_parameters())
    for name, parameter in resnet(3, 8, 2, 64, small_image=False).named_parameters():
        if parameter.numel() > 1000:
            assert parameter.std().item() == pytest.approx(wanted[name].std().item(), rel=0.1), name
        elif "bn" in name:
            assert torch.equal(parameter, wanted[name]), name


def test_resnet9_has_one_block_a_stage():
    model = mb.make_model("resnet9", LARGE.info, size="paper")
    assert [len(getattr(model, f"layer{stage}")) for stage in (1, 2, 3, 4)] == [1, 1, 1, 1]


@pytest.mark.parametrize(("task", "side"), [(TASK, 16), (LARGE, 14)])
def test_the_stem_keeps_every_pixel_of_a_small_image(task, side):
    model = mb.make_model("resnet9", task.info, width=4)
    images = task.sample(2, split="train", rng=torch.Generator().manual_seed(0)).inputs
    assert model[:4](images).shape == (2, 4, side, side)  # pyright: ignore[reportIndexIssue]


def test_the_width_follows_the_size_and_can_be_set():
    def width(**options):
        return mb.make_model("resnet9", TASK.info, **options).get_parameter("conv1.weight").shape[0]

    assert (width(size="tiny"), width(size="paper"), width(width=5)) == (16, 64, 5)


def test_what_does_not_fit_is_named():
    with pytest.raises(NotFound, match="Did you mean 'tiny'"):
        mb.make_model("resnet9", TASK.info, size="tinny")
    with pytest.raises(ModelError, match="below 1"):
        mb.make_model("resnet9", TASK.info, width=0)
    with pytest.raises(ModelError, match="reads images"):
        mb.make_model("resnet18", dataclasses.replace(TASK.info, kind="tokens"))
