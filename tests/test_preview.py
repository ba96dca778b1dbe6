"""The picture of a task's samples shows the pixels, the targets and the steps that the generator drew."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
import torch

from multistep_bench.batch import Batch, TaskInfo
from multistep_bench.cards import Levels
from multistep_bench.errors import BenchError
from multistep_bench.generators.base import Generator, Split
from multistep_bench.generators.task import make_task
from multistep_bench.reporting.preview import caption, preview
from multistep_bench.strict import Strict

TASK = "two_step_digits-v1"
SIDE = round(1.9 * 300)  # of a sample, in dots


class Squares(Generator):
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


def test_what_is_no_image_is_refused(tmp_path: Path) -> None:
    class Tokens(Squares):
        def describe(self) -> TaskInfo:
            return replace(super().describe(), kind="tokens")

    with pytest.raises(BenchError, match=r"tokens-v1 has tokens samples"):
        preview(Tokens({}, id="tokens-v1"), tmp_path / "samples.png")
    with pytest.raises(BenchError, match="0 samples"):
        preview(Squares({}, id="squares-v1"), tmp_path / "samples.png", n=0)
    with pytest.raises(BenchError, match=r"'samples.gif'; end the name in .png"):
        preview(Squares({}, id="squares-v1"), tmp_path / "samples.gif")
    assert not list(tmp_path.iterdir())
