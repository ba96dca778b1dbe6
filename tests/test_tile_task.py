"""Every task on tiles: pixels, z and answers recomputed from the sources; balance; the shortcut measured."""

from functools import lru_cache

import pytest
import torch
from image_data import image_task, sample, small_files, stream
from matplotlib.colors import to_rgb
from scipy import stats
from torchvision.transforms import functional

from multistep_bench.batch import Batch
from multistep_bench.cards import list_tasks
from multistep_bench.generators.base import Split, TaskGenerator
from multistep_bench.generators.tiles.tile_task import TileTask
from multistep_bench.sources.images import LabelledImages, open_source

N = 10_000
SIGNIFICANT = 1e-4  # of a test on a fixed seed: it fails by chance for one card in ten thousand, and then for ever
TILE_TASKS = [name for name in list_tasks() if name.startswith(("two_step", "n_step"))]
TWO_STEP = [name for name in TILE_TASKS if name.startswith("two_step")]
SOURCES = {  # of indicators, target A and target B, where they differ from the main task's
    "two_step_digits-v1": ("digits", "digits", "digits"),
    "two_step_glyphs-v1": ("glyphs", "glyphs", "glyphs"),
    "two_step_same_colour-v1": ("mnist", "mnist", "mnist"),
    "two_step_cifar-v1": ("cifar10", "mnist", "fashion_mnist"),
}
COLOURS = {  # by number, where they are not red and blue
    "two_step_colour_or_garment-v1": (
        ["brown", "blue", "yellow", "orange", "red", "green", "purple", "gray", "pink", "turquoise"]
    )
}


@lru_cache(maxsize=32)
def labels_of(task_id: str) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Targets and steps of N evaluation samples; the images would fill the memory."""
    task, rng = image_task(task_id), stream(task_id, "many")
    batches = [task.sample(N // 50, split="eval", rng=rng) for _ in range(50)]
    steps = {name: torch.cat([batch.steps[name] for batch in batches]) for name in batches[0].steps}
    return torch.cat([batch.targets for batch in batches]), steps


def source_of(task: TaskGenerator, role: str, split: Split) -> tuple[LabelledImages, int]:
    """The split of the source behind a role, and its white."""
    indicator, target_a, target_b = SOURCES.get(task.id, ("mnist", "fashion_mnist", "fashion_mnist"))
    name = {"target_a": target_a, "target_b": target_b}.get(role, target_b if "target" in role else indicator)
    with small_files():
        source = open_source(name, task.data_root)
    return (source.train if split == "train" else source.eval), source.white


def roles_of(steps: dict[str, torch.Tensor]) -> list[str]:
    return [name.removesuffix("_image") for name in steps if name.endswith("_image")]


def originals(task: TaskGenerator, batch: Batch, role: str, split: Split) -> tuple[torch.Tensor, torch.Tensor]:
    """The images [B, C, h, w] in [0, 1] and classes [B] behind a role, looked up by their numbers in the source."""
    images, white = source_of(task, role, split)
    row = torch.full((int(images.ids.max()) + 1,), -1)
    row[images.ids] = torch.arange(len(images.ids))
    rows = row[batch.steps[f"{role}_image"]]
    assert rows.min() >= 0, "an image of the other split"
    return images.images[rows].float() / white, images.labels[rows]


@pytest.mark.parametrize("split", ["train", "eval"])
@pytest.mark.parametrize("task_id", TILE_TASKS)
def test_each_tile_shows_its_source_image_times_its_colour(task_id: str, split: Split) -> None:
    """Also: the splits read disjoint images, for a number of the other split is not found."""
    task = image_task(task_id)
    batch, info = sample(task, 200, split), task.info
    assert isinstance(batch.inputs, torch.Tensor)
    unseen = batch.inputs.clone()
    regions, white = list(info.layout), torch.full((200,), -1)
    palette = [to_rgb(name) for name in COLOURS.get(task_id, ["red", "blue"])] + [to_rgb("white")]  # -1 is white
    for role in roles_of(batch.steps):
        images, classes = originals(task, batch, role, split)
        assert torch.equal(classes, batch.steps[f"{role}_class"])
        fixed = torch.full((200,), regions.index(role) if role in regions else -1)
        for i, place in enumerate(batch.steps.get(f"{role}_place", fixed).tolist()):
            top, left, height, width = info.layout[regions[place]]
            seen = batch.inputs[i, :, top : top + height, left : left + width]
            original = functional.resize(images[i], [height, width], antialias=True).expand(3, -1, -1)
            tint = (seen * original).sum((1, 2)) / (original * original).sum((1, 2))
            torch.testing.assert_close(seen, tint[:, None, None] * original, atol=0.005, rtol=0)
            colour = palette[int(batch.steps.get(f"{role}_colour", white)[i])]
            assert (tint - torch.tensor(colour)).abs().max() < 0.3, "six standard deviations of the noise"
            unseen[i, :, top : top + height, left : left + width] = 0
    assert not unseen.any(), "what no role accounts for is black"


@pytest.mark.parametrize("task_id", TILE_TASKS)
def test_regions_are_equal_tiles_that_fill_the_image(task_id: str) -> None:
    info = image_task(task_id).info
    assert info.observation_space.shape is not None
    covered = torch.zeros(info.observation_space.shape[1:])
    for top, left, height, width in info.layout.values():
        covered[top : top + height, left : left + width] += 1
    assert (covered == 1).all()
    assert len({(height, width) for _, _, height, width in info.layout.values()}) == 1


def z_and_answers(task_id: str, steps: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """z and the labels asked for if it is 1 and 0, by the rule of the paper, from classes, colours and places alone."""
    label_a, label_b = steps["target_a_class"], steps["target_b_class"]
    if task_id == "two_step_position-v1":
        upper_column, lower_column = steps["target_a_place"] % 2, steps["target_b_place"] % 2
        return upper_column == lower_column, label_a, label_b
    first, second = steps["indicator_1_class"], steps["indicator_2_class"]
    if task_id == "two_step_same_colour-v1":
        return steps["indicator_1_colour"] == steps["indicator_2_colour"], label_a, label_b
    if task_id == "two_step_digit_groups-v1":
        return (first <= 2) == (second <= 2), label_a, label_b
    if task_id == "two_step_colour_or_garment-v1":
        return first == second, label_a, steps["target_a_colour"]
    if task_id == "two_step_digits-v1":
        label_a, label_b = ((label - 2).clamp(min=0) for label in (label_a, label_b))  # 0, 3 … 9 → 0, 1 … 7
    if task_id == "two_step_glyphs-v1":
        label_a, label_b = label_a - 10, label_b - 10
    return first == second, label_a, label_b


@pytest.mark.parametrize("task_id", TWO_STEP)
def test_z_answers_and_target_follow_from_the_source_images(task_id: str) -> None:
    targets, steps = labels_of(task_id)
    same, if_same, if_other = z_and_answers(task_id, steps)
    assert torch.equal(steps["same"], same.long())
    assert torch.equal(steps["answer_same"], if_same)
    assert torch.equal(steps["answer_other"], if_other)
    assert torch.equal(targets, torch.where(same, if_same, if_other))
    if_different = "target_a_place" if task_id == "two_step_colour_or_garment-v1" else "target_b_place"
    assert torch.equal(steps["target_location"], torch.where(same, steps["target_a_place"], steps[if_different]))


@pytest.mark.parametrize("task_id", TWO_STEP)
def test_ignoring_z_lands_on_the_shortcut_and_using_it_on_the_ceiling(task_id: str) -> None:
    targets, steps = labels_of(task_id)
    levels = image_task(task_id).levels()
    assert levels.shortcut is not None
    ignoring = max(float((targets == steps[answer]).double().mean()) for answer in ("answer_same", "answer_other"))
    assert ignoring == pytest.approx(levels.shortcut, abs=4 * (levels.shortcut * (1 - levels.shortcut) / N) ** 0.5)
    using = torch.where(steps["same"] == 1, steps["answer_same"], steps["answer_other"])
    assert float((targets == using).double().mean()) == levels.ceiling


def uniform_p(values: torch.Tensor, cells: int) -> float:
    return float(stats.chisquare(torch.bincount(values, minlength=cells).numpy()).pvalue)


@pytest.mark.parametrize("task_id", TILE_TASKS)
def test_labels_and_the_classes_in_every_tile_are_balanced(task_id: str) -> None:
    targets, steps = labels_of(task_id)
    assert uniform_p(targets, image_task(task_id).info.num_classes) > SIGNIFICANT
    for role in roles_of(steps):
        classes = steps[f"{role}_class"].unique(return_inverse=True)[1]
        assert uniform_p(classes, int(classes.max()) + 1) > SIGNIFICANT, role


FOUR_PLACES = ("two_step_free_position-v1", "two_step_position-v1", "two_step_cifar-v1", "n_step-v1")
MOVING = [name for name in TILE_TASKS if name not in ("two_step_skewed-v1", "two_step_colour_or_garment-v1")]


@pytest.mark.parametrize("task_id", MOVING)
def test_the_tile_that_is_asked_for_is_in_each_place_equally_often(task_id: str) -> None:
    locations = labels_of(task_id)[1]["target_location"].unique(return_inverse=True)[1]
    assert uniform_p(locations, 4 if task_id in FOUR_PLACES else 2) > SIGNIFICANT


def test_in_the_skewed_task_three_of_four_indicator_pairs_are_the_same() -> None:
    share = float(labels_of("two_step_skewed-v1")[1]["same"].double().mean())
    assert share == pytest.approx(0.75, abs=4 * (0.75 * 0.25 / N) ** 0.5)


@pytest.mark.parametrize("task_id", TILE_TASKS)
def test_colours_places_and_z_say_nothing_about_the_label(task_id: str) -> None:
    targets, steps = labels_of(task_id)
    for name, step in steps.items():
        silent = name.startswith("same") or name.endswith(("_colour", "_place"))
        if task_id == "two_step_colour_or_garment-v1" and name == "target_a_colour":
            continue  # there it is half of the answers
        if silent and len(step.unique()) > 1:
            table = stats.contingency.crosstab(step.numpy(), targets.numpy()).count
            assert float(stats.chi2_contingency(table).pvalue) > SIGNIFICANT, name  # type: ignore[union-attr]


def test_every_tile_task_is_named_so_that_these_tests_see_it() -> None:
    for task_id in list_tasks():
        assert isinstance(image_task(task_id), TileTask) == (task_id in TILE_TASKS)
