"""Models of timm on a task of the suite."""

import dataclasses

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box

import multistep_bench as mb
from multistep_bench.errors import ModelError, NotFound
from multistep_bench.models.build import check_contract

TASK = mb.make_task("two_step_digits-v1")
BATCH = TASK.sample(2, split="eval", rng=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", ["timm/resnet10t", "timm/vit_tiny_patch16_224", "timm/mixer_s16_224"])
def test_a_timm_model_takes_the_tasks_images_and_classes(name):
    check_contract(mb.make_model(name, TASK.info), TASK.info, BATCH)


def test_a_timm_model_takes_grey_images():
    grey = dataclasses.replace(TASK.info, observation_space=Box(0, 1, (1, 16, 16), np.float32))
    batch = dataclasses.replace(BATCH, inputs=torch.rand(2, 1, 16, 16))
    check_contract(mb.make_model("timm/resnet10t", grey), grey, batch)


def test_options_reach_timm():
    model = mb.make_model("timm/vit_tiny_patch16_224", TASK.info, depth=2, patch_size=8)
    assert len(model.blocks) == 2  # pyright: ignore[reportArgumentType]
    assert model.patch_embed.num_patches == 4  # pyright: ignore[reportAttributeAccessIssue]


def test_weights_follow_torchs_generator():
    def weights():
        torch.manual_seed(3)
        return mb.make_model("timm/resnet10t", TASK.info).state_dict()

    assert all(torch.equal(a, b) for a, b in zip(weights().values(), weights().values(), strict=True))


def test_an_unknown_timm_model_names_the_closest():
    with pytest.raises(NotFound, match="Did you mean 'timm/resnet18'"):
        mb.make_model("timm/resnet18x", TASK.info)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("timm/resnet10t", {"dpeth": 2}, "dpeth"),
        ("timm/vit_tiny_patch16_224", {"num_heads": 5}, "timm/vit_tiny_patch16_224"),
    ],
)
def test_options_that_a_timm_model_does_not_take_are_named(name, options, words):
    with pytest.raises(ModelError, match=words):
        mb.make_model(name, TASK.info, **options)


def test_a_timm_model_that_needs_larger_images_is_named():
    with pytest.raises(ModelError, match=r"VGG cannot take inputs of shape \(2, 3, 16, 16\) of two_step_digits-v1"):
        check_contract(mb.make_model("timm/vgg11", TASK.info), TASK.info, BATCH)
