"""The picture of a task's samples shows the pixels or tokens, the targets and the steps that the generator drew."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from multistep_bench.batch import IGNORED, Batch, TaskInfo
from multistep_bench.cards import Levels
from multistep_bench.errors import BenchError
from multistep_bench.generators.base import Split, TaskGenerator
from multistep_bench.generators.task import make_task
from multistep_bench.reporting.preview import caption, preview
from multistep_bench.reporting.preview_sequences import GAP, WIDTH, draw_episodes, draw_tokens, lines_of_boxes
from multistep_bench.strict import Strict

TASK = "two_step_digits-v1"
SIDE = round(1.9 * 300)  # of a sample, in dots


class Squares(TaskGenerator):
    """2×2 images of one colour a quarter: red beyond 1, green, blue, and black below 0."""

    class Parameters(Strict):
        channels: int = 3
        brightness: float = 1.0

    def levels(self) -> Levels:
        return Levels(chance=0.5, ceiling=1.0)

    def describe(self) -> TaskInfo:
        return replace(make_task(TASK).info, id=self.id)

    def draw(self, n: int, split: Split, rng: torch.Generator) -> Batch:
        image = torch.zeros(3, 2, 2)
        image[0, 0, 0], image[1, 0, 1], image[2, 1, 0], image[0, 1, 1] = 1.5, 1.0, 1.0, -1.0
        image = self.parameters.brightness * image[: self.parameters.channels]
        self.seed = rng.initial_seed()
        steps = {"same": torch.ones(n, dtype=torch.int64)}
        return Batch(image.expand(n, *image.shape), torch.full((n,), 7), steps)


def corners(path: Path) -> list[list[int]]:
    """Colours in the middle of each quarter of the first sample."""
    picture = np.round(matplotlib.image.imread(path)[..., :3] * 255).astype(int)
    tile = picture[120 : 120 + SIDE, 60 : 60 + SIDE]  # below the heading, right of the margin
    quarter = SIDE // 4
    return [tile[y, x].tolist() for y in (quarter, -quarter) for x in (quarter, -quarter)]


@pytest.mark.parametrize(
    ("parameters", "colours"),
    [
        ({"channels": 3}, [[255, 0, 0], [0, 255, 0], [0, 0, 255], [0, 0, 0]]),
        ({"channels": 1}, [[255, 255, 255], [0, 0, 0], [0, 0, 0], [0, 0, 0]]),
        ({"channels": 1, "brightness": 0.4}, [[153, 153, 153], [0, 0, 0], [0, 0, 0], [0, 0, 0]]),
    ],
)
def test_a_sample_is_drawn_pixel_by_pixel(
    parameters: dict[str, Any], colours: list[Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = preview(Squares(parameters, id="squares-v1"), tmp_path / "samples.png", n=1)
    assert corners(path) == colours
    assert caplog.messages == []  # values beyond [0, 1] are cut without a word from matplotlib


def test_captions_give_the_target_and_every_step() -> None:
    steps = {"same": 1, "target_location": 2, "target_a_class": 5, "target_a_place": 1, "answer_other": 3}
    batch = Batch(torch.zeros(2, 3, 2, 2), torch.tensor([9, 4]), {k: torch.tensor([0, v]) for k, v in steps.items()})
    lines = ["target 4", "same 1", "target location 2", "target a: class 5, place 1", "answer other 3"]
    assert caption(batch, 1) == lines
    assert caption(batch, 0)[0] == "target 9"


def test_the_default_task_is_drawn_the_same_every_time(tmp_path: Path) -> None:
    task = make_task(TASK)
    first, again = (preview(task, tmp_path / name, n=5).read_bytes() for name in ("first.png", "again.png"))
    assert first == again


def test_every_seed_draws_other_samples(tmp_path: Path) -> None:
    task = Squares({}, id="squares-v1")
    drawn = []
    for seed in (0, 1, 0):
        preview(task, tmp_path / "samples.png", n=1, seed=seed)
        drawn.append(task.seed)
    assert drawn[0] == drawn[2] != drawn[1]


def texts(figure: Figure) -> dict[str, list[tuple[float, float]]]:
    """Where each text of a sequence's picture stands: left or middle, and height, in inches."""
    places: dict[str, list[tuple[float, float]]] = {}
    for text in figure.axes[0].texts:
        places.setdefault(text.get_text(), []).append(text.get_position())
    return places


def test_tokens_stand_in_boxes_under_their_regions_and_over_their_targets() -> None:
    inputs, targets = torch.tensor([[10, 11, 12]]), torch.tensor([[IGNORED, 13, 14]])
    batch = Batch(inputs, targets, {"first_state": torch.tensor([5]), "none": torch.tensor([IGNORED])})
    names = {10: "ten", 11: "eleven", 12: "twelve", 13: "thirteen", 14: "fourteen"}
    shown = texts(draw_tokens(batch, {"low": (0, 0, 1, 2), "the_last": (0, 2, 1, 1)}, names.__getitem__, "title"))
    assert {"title", "low", "the last", "first state = 5, none = –"} <= shown.keys()
    row = [shown[name][0] for name in ("ten", "eleven", "twelve")]
    assert [x for x, _ in row] == sorted({x for x, _ in row})  # from left to right
    assert len({y for _, y in row}) == 1
    for token, target in (("eleven", "thirteen"), ("twelve", "fourteen")):
        assert shown[target][0][0] == shown[token][0][0]
        assert shown[target][0][1] < shown[token][0][1]
    assert shown["low"][0][0] < shown["ten"][0][0]
    assert shown["eleven"][0][0] < shown["the last"][0][0] < shown["twelve"][0][0]
    assert shown["the last"][0][1] > shown["twelve"][0][1]


def test_a_tasks_one_answer_stands_under_its_last_token_and_its_tokens_have_names() -> None:
    task = make_task("lookup-v1")
    batch = task.sample(1, split="eval", rng=torch.Generator().manual_seed(0))
    shown = texts(draw_tokens(batch, task.info.layout, task.token_name, "title"))
    assert isinstance(batch.inputs, torch.Tensor)
    answer, start = (str(int(tensor)) for tensor in (batch.targets[0], batch.inputs[0, -1]))
    assert shown[answer][-1][0] == shown[start][-1][0]
    assert "h=2" in shown


def test_a_long_sequence_is_broken_into_lines_that_fit_the_page() -> None:
    lines = lines_of_boxes(range(100), [IGNORED] * 100, {"context": (0, 0, 1, 100)}, lambda token: "a" * (token % 30))
    assert [box.position for line in lines for box in line] == list(range(100))
    assert len(lines) > 5
    for line, following in pairwise(lines):
        end = line[-1].left + line[-1].width
        assert line[0].left == GAP
        assert end <= WIDTH - GAP < end + following[0].width
    for box, after in pairwise(lines[1]):
        assert after.left == pytest.approx(box.left + box.width)


@pytest.mark.parametrize("shape", [(4,), (1, 5, 5), (3, 5, 5)], ids=["vectors", "grey", "colour"])
def test_an_episode_shows_every_item_over_its_label_and_the_query_over_its_target(shape: tuple[int, ...]) -> None:
    items = torch.arange(3.0).view(1, 3, *[1] * len(shape)).expand(1, 3, *shape) / 2
    batch = Batch({"items": items, "labels": torch.tensor([[7, 8]])}, torch.tensor([8]), {"match": torch.tensor([1])})
    figure = draw_episodes(batch, lambda label: f"label {label}", "title")
    shown, images = texts(figure), figure.axes[0].images
    assert [float(np.asarray(image.get_array()).mean()) for image in images] == [0.0, 0.5, 1.0]
    for image, answer in zip(images, ["label 7", "label 8", "→ label 8"], strict=True):
        left, right, bottom, _ = image.get_extent()
        assert shown[answer][0][0] == pytest.approx((left + right) / 2)
        assert shown[answer][0][1] < bottom
    assert "match = 1" in shown
    frames = [patch for patch in figure.axes[0].patches if patch.get_linewidth() > 1]
    assert [frame.get_x() for frame in frames] == [images[-1].get_extent()[0]]  # type: ignore[attr-defined]


@pytest.mark.parametrize("task_id", ["lookup-v1", "markov-v1", "icl_gaussian-v1"])
def test_sequences_are_drawn_the_same_every_time(task_id: str, tmp_path: Path) -> None:
    task = make_task(task_id)
    first, again = (preview(task, tmp_path / name, n=3).read_bytes() for name in ("first.png", "again.png"))
    assert first == again


def test_no_samples_and_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="0 samples"):
        preview(Squares({}, id="squares-v1"), tmp_path / "samples.png", n=0)
    with pytest.raises(BenchError, match=r"'samples.gif'; end the name in .png"):
        preview(Squares({}, id="squares-v1"), tmp_path / "samples.gif")
    assert not list(tmp_path.iterdir())
