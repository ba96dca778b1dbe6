"""The ViT against timm's, its sizes, and where its tokens are."""

import dataclasses
from typing import Any

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from timm.optim import param_groups_weight_decay  # pyright: ignore[reportPrivateImportUsage]

import multistep_bench as mb
from multistep_bench.errors import ModelError, NotFound
from multistep_bench.models.layout import tile_side, token_regions
from multistep_bench.models.vit import SIZES, ViT, build

TASK = mb.make_task("two_step_digits-v1")
PAPER_TASK = mb.make_task("two_step_digits-v1", tile=28)


def timms(size: str) -> VisionTransformer:
    """timm's model of a preset, at 16×16 pixels or, for the paper's, at 56×56."""
    shape = SIZES[size]
    tile = 28 if size == "paper" else 8
    return VisionTransformer(
        img_size=2 * tile,
        patch_size=tile // shape.patches_per_tile,
        num_classes=8,
        embed_dim=shape.width,
        depth=shape.depth,
        num_heads=shape.heads,
        mlp_ratio=shape.mlp_ratio,
        qkv_bias=False,
        drop_path_rate=shape.drop_path,
    )


def pair(size: str) -> tuple[ViT, VisionTransformer, torch.Tensor]:
    """A ViT, timm's with the same weights, and images."""
    task = PAPER_TASK if size == "paper" else TASK
    torch.manual_seed(0)
    ours, theirs = build(task.info, size=size), timms(size)
    theirs.load_state_dict(ours.state_dict())
    images = task.sample(3, split="train", rng=torch.Generator().manual_seed(0)).inputs
    assert isinstance(images, torch.Tensor)
    return ours, theirs, images


@pytest.mark.parametrize("size", SIZES)
def test_vit_equals_timms_with_copied_weights(size):
    ours, theirs, images = pair(size)
    ours.eval()
    theirs.eval()
    answer, expected = ours(images), theirs(images)
    assert (answer - expected).abs().max() < 1e-6
    answer.square().sum().backward()
    expected.square().sum().backward()
    wanted = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        assert torch.allclose(parameter.grad, wanted[name].grad, rtol=1e-4, atol=1e-5), name  # type: ignore[arg-type]


def test_the_same_parameters_decay_as_timms():
    def undecayed(model):
        groups = param_groups_weight_decay(model, 0.05, no_weight_decay_list=tuple(model.no_weight_decay()))
        without = {id(p) for group in groups if group["weight_decay"] == 0 for p in group["params"]}
        return {name for name, parameter in model.named_parameters() if id(parameter) in without}

    ours, theirs, _ = pair("tiny")
    assert undecayed(ours) == undecayed(theirs)
    assert {"pos_embed", "cls_token", "head.bias", "norm.weight"} <= undecayed(ours)


def test_drop_path_rises_over_the_blocks_as_timms_does():
    ours, theirs, _ = pair("paper")
    rates = [getattr(block.drop_path, "drop_prob", 0.0) for block in ours.blocks]
    assert rates == pytest.approx([getattr(block.drop_path1, "drop_prob", 0.0) for block in theirs.blocks])
    assert rates[-1] == pytest.approx(0.1)


def test_initial_weights_are_distributed_as_timms():
    torch.manual_seed(0)
    ours = build(PAPER_TASK.info, size="paper")
    wanted = dict(timms("paper").named_parameters())
    for name, parameter in ours.named_parameters():
        other = wanted[name]
        assert parameter.mean().item() == pytest.approx(other.mean().item(), abs=0.01), name
        assert parameter.std().item() == pytest.approx(other.std().item(), rel=0.1), name


def test_the_papers_size_has_the_papers_parameters():
    parameters = sum(p.numel() for p in build(PAPER_TASK.info, size="paper").parameters())
    assert parameters == pytest.approx(3.7e6, rel=0.02)


@pytest.mark.parametrize(
    ("task", "patches", "side", "tokens"),
    [(TASK, 1, 8, 5), (TASK, 4, 2, 65), (PAPER_TASK, 1, 28, 5), (PAPER_TASK, 7, 4, 197)],
)
def test_patches_follow_the_tiles(task, patches, side, tokens):
    model = build(task.info, patches_per_tile=patches)
    assert model.patch_embed.patch_size == (side, side)
    assert model.pos_embed.shape[1] == tokens


def test_the_size_follows_the_task_and_options_replace_its_values():
    small = dataclasses.replace(TASK.info, size="small")
    assert len(build(small).blocks) == SIZES["small"].depth
    changed = build(small, depth=2, width=24, heads=3, patches_per_tile=1, mlp_ratio=3.0)
    assert (len(changed.blocks), changed.pos_embed.shape) == (2, (1, 5, 24))
    first: Any = changed.blocks[0]
    assert (first.mlp.fc1.out_features, first.attn.num_heads) == (72, 3)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"size": "papre"}, NotFound, "Did you mean 'paper'"),
        ({"patches_per_tile": 3}, ModelError, "does not divide the 8-pixel tiles of two_step_digits-v1"),
        ({"width": 32, "heads": 5}, ModelError, "width 32 .* not a multiple of its 5 heads"),
        ({"depth": 0}, ModelError, "1 or more"),
        ({"attention": "sotfmax"}, NotFound, "Did you mean 'softmax'"),
    ],
)
def test_what_does_not_fit_is_named(options, error, words):
    with pytest.raises(error, match=words):
        build(TASK.info, **options)


def test_a_task_without_tiles_is_refused_and_one_without_a_layout_is_one_tile():
    tokens = dataclasses.replace(TASK.info, kind="tokens")
    with pytest.raises(ModelError, match="reads images"):
        build(tokens)
    uneven = dataclasses.replace(TASK.info, layout={"left": (0, 0, 16, 8), "right": (0, 8, 16, 8)})
    with pytest.raises(ModelError, match="no grid of equal square tiles"):
        build(uneven)
    assert tile_side(dataclasses.replace(TASK.info, layout={})) == 16


def test_each_region_holds_the_tokens_of_its_tile():
    regions = token_regions(TASK.info, patches_per_tile=2)
    assert list(TASK.info.layout) == ["indicator_1", "target_a", "target_b", "indicator_2"]
    # the class token is 0; patches are numbered row by row, four in a row
    tokens = [region.nonzero().flatten().tolist() for region in regions]
    assert tokens == [[1, 2, 5, 6], [3, 4, 7, 8], [9, 10, 13, 14], [11, 12, 15, 16]]


def test_the_last_block_does_not_change_what_a_rule_of_all_queries_computes():
    torch.manual_seed(0)
    model = build(TASK.info, attention="sinkhorn", depth=1, patches_per_tile=2)
    seen = []
    block: Any = model.blocks[0]
    block.attn.rule.register_forward_hook(lambda module, inputs, out: seen.append(inputs[0].shape[2]))
    model(torch.rand(2, 3, 16, 16))
    assert seen == [17]  # sinkhorn's columns sum over every query, so it must see all of them


def test_oracle_depends_on_the_asked_tile_alone():
    torch.manual_seed(0)
    model = mb.make_model("vit_oracle", TASK.info, depth=2).eval()
    images = torch.rand(4, 3, 16, 16)
    steps = {"target_location": torch.arange(4)}
    before = model(images, steps)
    for place, (top, left, height, width) in enumerate(TASK.info.layout.values()):
        changed = images.clone()
        changed[:, :, top : top + height, left : left + width] += 1
        moved = (model(changed, steps) - before).abs().amax(1)
        assert moved[place] > 1e-4
        assert moved[torch.arange(4) != place].max() == 0


def test_oracle_needs_a_task_that_says_where_to_look():
    with pytest.raises(ModelError, match="target_location"):
        mb.make_model("vit_oracle", dataclasses.replace(TASK.info, steps=("same",)))
