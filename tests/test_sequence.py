"""The transformer over tokens and episodes: what it reads, what it sees, where it answers."""

from typing import Literal

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete, Space

import multistep_bench as mb
from multistep_bench.batch import IGNORED
from multistep_bench.errors import ModelError, NotFound
from multistep_bench.models.sequence import Episode, Rotary, Sequence, build

Kind = Literal["image", "tokens", "episode"]
TOKENS, VOCABULARY, CLASSES = 6, 11, 5


def info(space: Space, *, kind: Kind = "tokens", target: Space | None = None, size="tiny") -> mb.TaskInfo:
    return mb.TaskInfo(
        id="made-v1",
        observation_space=space,
        target_space=target or Discrete(CLASSES),
        num_classes=CLASSES,
        kind=kind,
        layout={},
        size=size,
        chance=0.2,
        shortcut=0.5,
        ceiling=1.0,
        steps=(),
    )


def tokens_info(**options) -> mb.TaskInfo:
    return info(Box(0, VOCABULARY - 1, (TOKENS,), np.int64), **options)


def episode_info(shape: tuple[int, ...], pairs: int = 3, labels: int = 4) -> mb.TaskInfo:
    items = Box(-9, 9, (pairs + 1, *shape), np.float32)
    return info(Dict(items=items, labels=Box(0, labels - 1, (pairs,), np.int64)), kind="episode")


def every_position() -> Space:
    return Box(IGNORED, CLASSES - 1, (TOKENS,), np.int64)


def tokens(n: int = 4, seed: int = 0) -> torch.Tensor:
    return torch.randint(VOCABULARY, (n, TOKENS), generator=torch.Generator().manual_seed(seed))


def built(task: mb.TaskInfo, **options) -> Sequence:
    torch.manual_seed(0)
    return build(task, **{"causal": True, **options}).eval()


@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_a_causal_model_does_not_see_what_comes_later_and_a_bidirectional_one_does(positions) -> None:
    task = tokens_info(target=every_position())
    one = tokens()
    other = torch.cat((one[:, :4], (one[:, 4:] + 1) % VOCABULARY), dim=1)
    causal, both = (built(task, causal=causal, positions=positions) for causal in (True, False))
    assert torch.allclose(causal(one)[:, :4], causal(other)[:, :4], atol=1e-6)
    assert not torch.allclose(causal(one)[:, 4:], causal(other)[:, 4:], atol=1e-3)
    assert not torch.allclose(both(one)[:, :4], both(other)[:, :4], atol=1e-3)


@pytest.mark.parametrize(
    ("attention", "causal"),
    [("softmax", True), ("softmax", False), ("normsoftmax", True), ("normsoftmax", False), ("sinkhorn", False)],
)
def test_one_answer_is_that_of_the_last_position(attention, causal) -> None:
    everywhere = built(tokens_info(target=every_position()), causal=causal, attention=attention)
    once = built(tokens_info(), causal=causal, attention=attention)
    once.load_state_dict(everywhere.state_dict())
    assert once(tokens()).shape == (4, CLASSES)
    assert torch.allclose(once(tokens()), everywhere(tokens())[:, -1], atol=1e-5)


@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_the_order_of_the_tokens_matters(positions) -> None:
    model = built(tokens_info(), causal=False, positions=positions)
    swapped = tokens()[:, [1, 0, *range(2, TOKENS)]]
    assert not torch.allclose(model(tokens()), model(swapped), atol=1e-4)


def test_rotary_products_depend_on_the_distance_alone() -> None:
    rotary = Rotary(tokens=9, head_dim=8).double()
    q, k = torch.randn(2, 1, 1, 1, 8, dtype=torch.float64).expand(-1, -1, -1, 9, -1).unbind(0)
    products = (rotary(q) @ rotary(k).mT)[0, 0]
    for distance in range(9):
        diagonal = products.diagonal(distance)
        assert torch.allclose(diagonal, diagonal[:1].expand_as(diagonal), atol=1e-5)
    assert (products.diagonal(0)[0] - products.diagonal(3)[0]).abs() > 1e-2
    assert torch.allclose(rotary(q).norm(dim=-1), q.norm(dim=-1), atol=1e-5)


def test_an_episode_is_read_as_item_label_item_label_query() -> None:
    model = built(episode_info((7,)))
    items, labels = torch.randn(2, 4, 7), torch.tensor([[0, 3, 1], [2, 2, 0]])
    embedded = model.embedding({"items": items, "labels": labels})
    assert embedded.shape == (2, 7, 64)
    assert torch.allclose(embedded[:, ::2], model.embedding.norm(model.embedding.items(items)), atol=1e-6)  # type: ignore[operator]
    assert torch.equal(embedded[:, 1::2], model.embedding.labels(labels))  # type: ignore[operator]
    assert model({"items": items, "labels": labels}).shape == (2, CLASSES)


@pytest.mark.parametrize("side", [14, 28])
def test_images_of_an_episode_are_embedded_one_by_one(side) -> None:
    model = built(episode_info((1, side, side))).train()
    items, labels = torch.rand(3, 4, 1, side, side), torch.zeros(3, 3, dtype=torch.int64)
    together = model({"items": items, "labels": labels})
    alone = model({"items": items[:1], "labels": labels[:1]})
    assert torch.allclose(together[:1], alone, atol=1e-4)
    items[0, 0] += 1
    assert not torch.allclose(model({"items": items, "labels": labels})[:1], alone, atol=1e-4)


@pytest.mark.parametrize("centre", [True, False])
def test_centred_items_do_not_show_what_all_share(centre) -> None:
    torch.manual_seed(0)
    episode = Episode(torch.nn.Identity(), labels=4, width=7, centre=centre)
    items, labels = torch.randn(2, 4, 7), torch.zeros(2, 3, dtype=torch.int64)
    shared = items + torch.randn(2, 1, 7)
    same = torch.allclose(
        episode({"items": items, "labels": labels}), episode({"items": shared, "labels": labels}), atol=1e-5
    )
    assert same == centre


def test_presets_and_options_set_the_size() -> None:
    gpt2 = mb.make_model("gpt", tokens_info(size="gpt2"))
    blocks = sum(parameter.numel() for parameter in gpt2.get_submodule("blocks").parameters())
    assert blocks == 12 * (12 * 768**2 + 13 * 768 - 3 * 768)  # GPT-2 small's, without the biases of q, k and v
    small = mb.make_model("bert", tokens_info(), width=24, depth=5, heads=3)
    assert len(list(small.get_submodule("blocks").children())) == 5
    assert small.get_submodule("head").weight.shape == (CLASSES, 24)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 3}, "width 64 of sequence is not a multiple of its 3 heads"),
        ({"depth": 0}, "has no parts to build"),
        ({"positions": "sine"}, "positions 'sine' of sequence are neither 'learned' nor 'rotary'"),
        ({"positions": "rotary", "width": 6, "heads": 2}, "heads of 3 have an odd number"),
        ({"size": "tinny"}, "no size of sequence 'tinny'. Did you mean 'tiny'?"),
    ],
)
def test_what_cannot_be_built_is_said(options, message) -> None:
    with pytest.raises((ModelError, NotFound)) as error:
        mb.make_model("gpt", tokens_info(), **options)
    assert message in str(error.value)


def test_an_image_task_is_refused_by_name() -> None:
    task = mb.make_task("two_step_digits-v1")
    with pytest.raises(ModelError, match=r"reads tokens or episodes .* image inputs of two_step_digits-v1"):
        mb.make_model("gpt", task.info)
