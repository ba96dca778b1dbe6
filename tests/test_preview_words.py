"""Pictures of samples in words: what the tiles show, what z says, and a frame round the tile that is asked for."""

from pathlib import Path

import pytest
import torch
from image_data import image_task
from image_data import sample as draw
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from typer.testing import CliRunner

from multistep_bench.batch import Batch
from multistep_bench.cli import app
from multistep_bench.generators.base import TaskGenerator
from multistep_bench.reporting import figures
from multistep_bench.reporting.preview import ASKED, asked_region, caption, preview

GARMENTS = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")


def first(batch: Batch, **steps: int) -> int:
    """The first sample whose steps have these values."""
    fits = torch.stack([batch.steps[name] == value for name, value in steps.items()]).all(0)
    return int(fits.nonzero()[0])


def words(task: TaskGenerator, same: int) -> tuple[Batch, int, list[str]]:
    batch = draw(task, 64, "eval")
    index = first(batch, same=same)
    return batch, index, caption(batch, index, task)


def test_the_main_task_names_garments_and_says_which_is_asked_for() -> None:
    task = image_task("two_step-v1")
    for same, asked in ((0, "b"), (1, "a")):
        batch, index, lines = words(task, same)
        steps = {name: int(values[index]) for name, values in batch.steps.items()}
        answer = int(batch.targets[index])
        assert lines[0] == f"target {answer}: {GARMENTS[answer]}"
        alike = "are alike" if same else "differ"
        assert lines[1] == f"the indicators {alike}: target {asked.upper()} is asked for"
        colours = ("red", "blue")
        assert lines[2:] == [
            f"indicator 1: {steps['indicator_1_class']}, {colours[steps['indicator_1_colour']]}",
            f"target a: {GARMENTS[steps['target_a_class']]}",
            f"target b: {GARMENTS[steps['target_b_class']]}",
            f"indicator 2: {steps['indicator_2_class']}, {colours[steps['indicator_2_colour']]}",
        ]
        assert steps[f"target_{asked}_class"] == answer


def test_an_answer_that_may_be_a_colour_is_named_as_what_was_asked() -> None:
    task = image_task("two_step_colour_or_garment-v1")
    assert task.token_name(8) == "bag or pink"
    batch, index, lines = words(task, 0)
    colour = ("brown", "blue", "yellow", "orange", "red", "green", "purple", "gray", "pink", "turquoise")
    answer = int(batch.targets[index])
    assert lines[:1] == [f"target {answer}: {colour[answer]}"]
    assert " ".join(lines[1:3]) == "the indicators differ: the colour of target A is     asked for"
    batch, index, lines = words(task, 1)
    assert lines[0] == f"target {int(batch.targets[index])}: {GARMENTS[int(batch.targets[index])]}"


@pytest.mark.parametrize(
    ("task_id", "same", "meaning"),
    [
        ("two_step_position-v1", 0, "the two stand in a diagonal: the lower one is asked for"),
        ("two_step_position-v1", 1, "one stands above the other: the upper one is asked for"),
        ("two_step_same_colour-v1", 0, "the indicators differ in colour: target B is asked for"),
        ("two_step_same_colour-v1", 1, "the indicators have one colour: target A is asked for"),
    ],
)
def test_each_variant_says_what_its_z_means(task_id: str, same: int, meaning: str) -> None:
    _, _, lines = words(image_task(task_id), same)
    assert meaning in " ".join(" ".join(lines).split())


def test_a_chain_is_told_step_by_step() -> None:
    task = image_task("n_step-v1")
    batch = draw(task, 64, "eval")
    index = first(batch, same_1=0, same_2=1)
    lines = " ".join(" ".join(caption(batch, index, task)).split())
    assert "indicator 1 differs from reference: on to indicator 3 indicator 3 is like indicator 1" in lines
    assert "indicator 1: on to target 3 reference:" in lines
    assert asked_region(batch, index, task) == task.info.layout["target_3"]


def test_the_frame_stands_round_the_tile_that_shows_the_answer() -> None:
    task = image_task("two_step-v1")
    batch = draw(task, 64, "eval")
    layout = task.info.layout
    for same, region in ((0, "target_b"), (1, "target_a")):
        assert asked_region(batch, first(batch, same=same), task) == layout[region]
    rearranged = image_task("two_step-v1", arrangement="any")
    batch = draw(rearranged, 64, "eval")
    index = first(batch, same=1)
    place = list(rearranged.info.layout)[int(batch.steps["target_a_place"][index])]
    assert asked_region(batch, index, rearranged) == rearranged.info.layout[place]
    assert f"target a: {GARMENTS[int(batch.steps['target_a_class'][index])]}, {place.replace('_', ' ')}" in caption(
        batch, index, rearranged
    )


def test_the_picture_holds_one_frame_a_sample(tmp_path: Path) -> None:
    task = image_task("two_step-v1")
    with figures.collected() as drawn:
        preview(task, tmp_path / "samples.png", n=3)
    (figure,) = drawn
    assert isinstance(figure, Figure)
    frames = [patch for axes in figure.axes for patch in axes.patches if isinstance(patch, Rectangle)]
    assert len(frames) == 3
    height, width = 28, 28
    for frame in frames:
        assert (frame.get_width(), frame.get_height()) == (width, height)
        assert {(frame.get_x() + 0.5) % 28, (frame.get_y() + 0.5) % 28} == {0}
        assert to_hex(frame.get_edgecolor()) == ASKED


def test_a_task_that_names_no_tile_has_no_frame() -> None:
    batch = Batch(torch.zeros(1, 3, 2, 2), torch.tensor([4]), {"same": torch.tensor([1])})
    assert asked_region(batch, 0, image_task("two_step-v1")) is None
    assert caption(batch, 0) == ["target 4", "same 1"]


@pytest.mark.parametrize(("ending", "start"), [("svg", b"<?xml"), ("pdf", b"%PDF"), ("png", b"\x89PNG")])
def test_the_file_is_of_the_kind_that_its_name_says(ending: str, start: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"samples.{ending}"
    assert CliRunner().invoke(app, ["preview", "two_step_digits-v1", "-n", "1", "-o", str(path)]).exit_code == 0
    assert path.read_bytes().startswith(start)
