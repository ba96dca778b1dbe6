"""The two-step rules: labels recomputed from pixels, parameters and the levels that follow from them, bad input."""

from typing import Any

import pytest
import torch
from image_data import image_task
from matplotlib.colors import to_rgb
from sampling import four_errors
from scipy import stats

from multistep_bench import seeds
from multistep_bench.batch import Batch
from multistep_bench.cards import load_task
from multistep_bench.errors import CardError
from multistep_bench.generators.base import TaskGenerator
from multistep_bench.generators.task import make_task
from multistep_bench.generators.tiles.colour_or_garment import TEN_COLOURS
from multistep_bench.sources.images import open_source

N = 10_000


def sample(task: TaskGenerator, n: int = N) -> Batch:
    return task.sample(n, split="eval", rng=seeds.generator(seeds.derive("test", task.id, "indicator")))


def share(hits: torch.Tensor) -> float:
    return float(hits.double().mean())


def tints(task: TaskGenerator, batch: Batch, role: str, source: str) -> torch.Tensor:
    """The factor of each channel, [B, 3], that the source image of a role was multiplied by."""
    images = open_source(source).eval
    row = torch.full((int(images.ids.max()) + 1,), -1)
    row[images.ids] = torch.arange(len(images.ids))
    original = images.images[row[batch.steps[f"{role}_image"]]] / open_source(source).white  # B, 1, h, w
    top, left, height, width = task.info.layout[role]
    assert isinstance(batch.inputs, torch.Tensor)
    seen = batch.inputs[:, :, top : top + height, left : left + width]
    return (seen * original).sum((2, 3)) / (original * original).sum((2, 3))


# --- the default task


def digits_seen(images: torch.Tensor) -> torch.Tensor:
    """The class of the digit in each of four 8×8 tiles, [B, 4]: that of the most similar image of scikit-learn."""
    source = open_source("digits").eval
    known = torch.nn.functional.normalize(source.images.flatten(1).float())  # images, 64
    tiles = images.sum(1).unfold(1, 8, 8).unfold(2, 8, 8).reshape(-1, 4, 64)
    return source.labels[(torch.nn.functional.normalize(tiles, dim=2) @ known.T).argmax(2)]


def test_labels_of_the_default_task_follow_from_the_pixels() -> None:
    batch = sample(image_task("two_step_digits-v1"))
    assert isinstance(batch.inputs, torch.Tensor)
    top_left, top_right, bottom_left, bottom_right = digits_seen(batch.inputs).unbind(1)
    assert set(top_left.tolist()) == set(bottom_right.tolist()) == {1, 2}
    asked = torch.where(top_left == bottom_right, top_right, bottom_left)
    labels = {0: 0, 3: 1, 4: 2, 5: 3, 6: 4, 7: 5, 8: 6, 9: 7}
    assert batch.targets.tolist() == [labels[digit] for digit in asked.tolist()]


def test_the_default_task_has_no_colour_and_can_have_one() -> None:
    plain, coloured = image_task("two_step_digits-v1"), image_task("two_step_digits-v1", coloured=True)
    for task, mean in ((plain, (1.0, 1.0, 1.0)), (coloured, (0.5, 0.0, 0.5))):
        seen = tints(task, sample(task), "indicator_2", "digits").mean(0)
        torch.testing.assert_close(seen, torch.tensor(mean), atol=0.03, rtol=0)


def test_every_image_of_a_class_is_drawn_equally_often() -> None:
    task = image_task("two_step_digits-v1")
    steps, held_out = sample(task).steps, open_source("digits").eval
    for role, labels in (("indicator_1", (1, 2)), ("target_b", (0, 3, 4, 5, 6, 7, 8, 9))):
        for label in labels:
            drawn = steps[f"{role}_image"][steps[f"{role}_class"] == label]
            counts = torch.bincount(drawn, minlength=1797)[held_out.ids[held_out.labels == label]]
            assert counts.sum() == len(drawn)
            assert float(stats.chisquare(counts.numpy()).pvalue) > 1e-4


# --- colours


def test_indicators_are_red_or_blue_and_targets_white_with_noise_of_a_twentieth() -> None:
    task = image_task("two_step_glyphs-v1")
    batch = sample(task, 4000)
    red, blue = torch.tensor((1.0, 0.0, 0.0)), torch.tensor((0.0, 0.0, 1.0))
    colour = torch.where(batch.steps["indicator_1_colour"].unsqueeze(1) == 0, red, blue)
    indicator_noise = tints(task, batch, "indicator_1", "glyphs") - colour
    target_noise = tints(task, batch, "target_b", "glyphs") - 1
    for noise in (indicator_noise, target_noise):
        assert noise.mean(0).tolist() == pytest.approx([0, 0, 0], abs=0.004)
        assert noise.std(0).tolist() == pytest.approx([0.05] * 3, abs=0.003)
        assert torch.corrcoef(noise.T)[0, 1].abs() < 0.08
    assert torch.corrcoef(torch.stack((indicator_noise[:, 1], target_noise[:, 1])))[0, 1].abs() < 0.08


GLYPHS = {"indicator_source": "glyphs", "target_source": "glyphs", "target_classes": tuple(range(10, 20))}


def test_each_of_the_ten_colours_is_the_css_colour_of_its_name() -> None:
    task = image_task("two_step_colour_or_garment-v1", **GLYPHS)
    batch = sample(task, 4000)
    seen = tints(task, batch, "target_a", "glyphs")
    in_order = ["brown", "blue", "yellow", "orange", "red", "green", "purple", "gray", "pink", "turquoise"]
    assert list(TEN_COLOURS) == in_order
    for label, name in enumerate(in_order):
        mean = seen[batch.steps["target_a_colour"] == label].mean(0)
        assert mean.tolist() == pytest.approx(to_rgb(name), abs=0.015)


# --- parameters and levels

LEVELS = {  # (parameters) → chance, shortcut, ceiling, by hand from SCORING: π·a_c + (1 − π)·c′
    (): (0.1, 0.55, 1.0),
    (("same_probability", 0.75),): (0.1, 0.775, 1.0),  # the paper's q = 0.5
    (("same_probability", 0.05),): (0.1, 0.955, 1.0),
    (("label_noise", 0.2),): (0.1, 0.45, 0.8),
    (("label_noise", 0.1), ("same_probability", 0.9)): (0.1, 0.82, 0.9),
    (("target_classes", (10, 13, 15, 19)),): (0.25, 0.625, 1.0),
    (("indicator_groups", ((0,), (1,), (2,), (3,), (4,))),): (0.1, 0.55, 1.0),
}


@pytest.mark.parametrize("parameters", LEVELS, ids=str)
def test_levels_follow_from_the_parameters_and_are_what_solvers_reach(parameters) -> None:
    task = image_task("two_step_glyphs-v1", **dict(parameters))
    levels = task.levels()
    assert (levels.chance, levels.shortcut, levels.ceiling) == pytest.approx(LEVELS[parameters])
    batch = sample(task)
    steps, targets = batch.steps, batch.targets
    assert levels.shortcut is not None
    ignoring = max(share(targets == steps["answer_same"]), share(targets == steps["answer_other"]))
    assert ignoring == pytest.approx(levels.shortcut, abs=four_errors(levels.shortcut, N))
    using = torch.where(steps["same"] == 1, steps["answer_same"], steps["answer_other"])
    assert share(targets == using) == pytest.approx(levels.ceiling, abs=four_errors(levels.ceiling, N))
    p = task.parameters.same_probability
    assert share(steps["same"] == 1) == pytest.approx(p, abs=four_errors(p, N))
    assert torch.equal(steps["same"] == 1, steps["indicator_1_class"] == steps["indicator_2_class"])


def test_label_noise_spreads_over_all_other_labels() -> None:
    task = image_task("two_step_glyphs-v1", label_noise=0.5)
    batch = sample(task)
    clean = torch.where(batch.steps["same"] == 1, batch.steps["answer_same"], batch.steps["answer_other"])
    shift = torch.bincount((batch.targets - clean) % 10, minlength=10) / N
    assert shift[0] == pytest.approx(0.5, abs=four_errors(0.5, N))
    assert shift[1:].tolist() == pytest.approx([0.5 / 9] * 9, abs=four_errors(0.5 / 9, N))


def test_tiles_can_be_of_any_size() -> None:
    small, full = image_task("two_step_glyphs-v1", tile=14), image_task("two_step_glyphs-v1")
    one, other = sample(small, 50), sample(full, 50)
    assert isinstance(one.inputs, torch.Tensor)
    assert isinstance(other.inputs, torch.Tensor)
    assert one.inputs.shape == (50, 3, 28, 28)
    assert small.info.layout["indicator_2"] == (14, 14, 14, 14)
    assert torch.equal(one.targets, other.targets)
    shrunk = torch.nn.functional.interpolate(other.inputs, scale_factor=0.5, mode="bilinear", antialias=True)
    inner = (slice(None), slice(None), slice(2, 12), slice(2, 12))  # away from the other tiles
    torch.testing.assert_close(one.inputs[inner], shrunk[inner], atol=0.005, rtol=0)


@pytest.mark.parametrize(("arrangement", "count"), [("fixed", 1), ("rows", 4), ("any", 24)])
def test_an_arrangement_gives_each_of_its_orders_equally_often(arrangement: str, count: int) -> None:
    steps = sample(image_task("two_step_glyphs-v1", arrangement=arrangement)).steps
    roles = ("indicator_1", "target_a", "target_b", "indicator_2")
    orders = torch.stack([steps[f"{role}_place"] for role in roles], 1)
    kinds, seen = orders.unique(dim=0, return_counts=True)
    assert len(kinds) == count
    assert (kinds.sort(1).values == torch.arange(4)).all()
    assert (seen / N).tolist() == pytest.approx([1 / count] * count, abs=four_errors(1 / count, N) + 1e-9)
    if arrangement == "rows":
        assert (orders[:, :2] < 2).all(), "indicator 1 and target A stay in the top row"


# --- bad input

WRONG = {
    "unknown": ({"same_probabilty": 0.5}, r"two_step_glyphs-v1: unknown key .*did you mean 'same_probability'"),
    "always the same": ({"same_probability": 1.0}, "'same_probability'.*less than 1"),
    "unequal groups": ({"indicator_groups": [[1, 2], [3]]}, "'indicator_groups'.*differ in size"),
    "one group": ({"indicator_groups": [[1, 2]]}, "'indicator_groups'.*at least 2"),
    "class twice": ({"indicator_groups": [[1], [1]]}, r"classes \[1, 1\] .* are not distinct classes of 'glyphs'"),
    "no such class": ({"target_classes": [3, 20]}, r"not distinct classes of 'glyphs'; choose from 0..19"),
    "negative class": ({"target_classes": [3, -1]}, r"not distinct classes of 'glyphs'; choose from 0..19"),
    "text": ({"label_noise": "0.1"}, "'label_noise'.*valid number"),
    "two problems": ({"tile": 1, "arrangement": "circle"}, "(?s)'tile'.*'arrangement'|'arrangement'.*'tile'"),
}


@pytest.mark.parametrize(("parameters", "message"), WRONG.values(), ids=WRONG)
def test_a_wrong_parameter_is_one_sentence(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(CardError, match=message) as caught:
        make_task("two_step_glyphs-v1", **parameters)
    assert "\n" not in str(caught.value)


def test_both_answers_need_one_set_of_labels() -> None:
    card = load_task("two_step_colour_or_garment-v1")
    with pytest.raises(CardError, match=r"9 target_classes of two_step_colour_or_garment-v1 .* give 10 classes"):
        make_task(card, **{**GLYPHS, "target_classes": list(range(9))})
    sources = dict.fromkeys(("indicator_source", "a_source", "b_source"), "glyphs")
    with pytest.raises(CardError, match="2 a_classes and 3 b_classes of two_step_cifar-v1"):
        make_task("two_step_cifar-v1", **sources, a_classes=[1, 2], b_classes=[3, 4, 5])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("task_id", ["two_step_digits-v1", "two_step_glyphs-v1"])
def test_batches_are_made_on_the_gpu(task_id: str) -> None:
    task = image_task(task_id)
    batch = task.sample(2000, split="train", rng=seeds.generator(0, "cuda"))
    assert all(tensor.is_cuda for tensor in batch.tensors().values())
    using = torch.where(batch.steps["same"] == 1, batch.steps["answer_same"], batch.steps["answer_other"])
    assert torch.equal(batch.targets, using)
    assert share(batch.steps["same"] == 1) == pytest.approx(0.5, abs=four_errors(0.5, 2000))
