"""The chain of comparisons: the walk recomputed from what the tiles show, and the level of every missing step."""

from collections import Counter

import pytest
import torch
from image_data import image_task

from multistep_bench import seeds
from multistep_bench.batch import Batch
from multistep_bench.errors import CardError
from multistep_bench.generators.task import make_task
from multistep_bench.generators.tiles.n_step import NStep

N = 10_000
GLYPHS = {"indicator_source": "glyphs", "target_source": "glyphs", "target_classes": tuple(range(10, 20)), "tile": 7}


def chain(steps: int, **parameters: object) -> tuple[NStep, Batch]:
    task = image_task("n_step-v1", **{**GLYPHS, "steps": steps, **parameters})
    assert isinstance(task, NStep)
    return task, task.sample(N, split="eval", rng=seeds.generator(seeds.derive("test", "n_step", steps)))


def classes_of(batch: Batch, leaves: int) -> list[list[int]]:
    """Of each sample the class in every cell of the tree: reference, indicators, targets."""
    names = ["reference", *(f"indicator_{i}" for i in range(1, leaves)), *(f"target_{i + 1}" for i in range(leaves))]
    return torch.stack([batch.steps[f"{name}_class"] for name in names], 1).tolist()


@pytest.mark.parametrize("steps", [2, 3, 4])
def test_the_walk_and_the_target_follow_from_the_classes_in_the_tiles(steps: int) -> None:
    _, batch = chain(steps)
    leaves = 2 ** (steps - 1)
    for i, shown in enumerate(classes_of(batch, leaves)[:2000]):
        cell, parent = 1, 0
        for step in range(1, steps):
            assert int(batch.steps[f"visited_{step}"][i]) == cell
            assert int(batch.steps[f"same_{step}"][i]) == (shown[cell] == shown[parent])
            cell, parent = 2 * cell + (shown[cell] != shown[parent]), cell
        assert int(batch.steps["target_location"][i]) == cell
        assert int(batch.targets[i]) == shown[cell] - 10


@pytest.mark.parametrize(("steps", "shape"), [(2, (3, 14, 14)), (3, (3, 14, 28)), (4, (3, 28, 28))])
def test_the_tree_fills_its_grid(steps: int, shape: tuple[int, ...]) -> None:
    task, batch = chain(steps)
    assert isinstance(batch.inputs, torch.Tensor)
    assert batch.inputs.shape[1:] == task.info.observation_space.shape == shape
    assert next(iter(task.info.layout)) == "reference"
    assert list(task.info.layout)[-1] == f"target_{2 ** (steps - 1)}"
    assert len(task.info.layout) == 2**steps


@pytest.mark.parametrize("parameters", [{}, {"label_noise": 0.3}, {"target_classes": (10, 11, 12)}], ids=str)
@pytest.mark.parametrize("steps", [2, 3, 4])
def test_a_solver_that_misses_comparisons_lands_on_the_level_computed_for_it(steps: int, parameters: dict) -> None:
    """It follows the walk as far as it knows, and of the targets it can still reach names the most frequent label."""
    task, batch = chain(steps, **parameters)
    leaves = 2 ** (steps - 1)
    shown, targets = classes_of(batch, leaves), batch.targets.tolist()
    label = {c: i for i, c in enumerate(task.parameters.target_classes)}
    for known in range(steps):
        cells = batch.steps[f"visited_{known + 1}" if known + 1 < steps else "target_location"].tolist()
        width = 2 ** (steps - 1 - known)  # targets below the cell reached
        right = 0
        for sample, cell, target in zip(shown, cells, targets, strict=True):
            reachable = sample[cell * width : (cell + 1) * width]
            right += label[Counter(reachable).most_common(1)[0][0]] == target
        level = task.accuracy_without(steps - 1 - known)
        assert right / N == pytest.approx(level, abs=4 * (level * (1 - level) / N) ** 0.5)


def test_with_two_steps_the_levels_are_those_of_the_two_step_task() -> None:
    task, _ = chain(2, label_noise=0.3)
    assert task.levels().model_dump() == pytest.approx({"chance": 0.1, "shortcut": 0.4, "ceiling": 0.7})
    twin = image_task("two_step_glyphs-v1", label_noise=0.3)
    assert twin.levels().model_dump() == pytest.approx(task.levels().model_dump())


def test_the_levels_of_the_card_leave_every_partial_solver_below_the_threshold() -> None:
    for steps in (2, 3, 4):
        task, _ = chain(steps)
        levels = task.levels()
        assert levels.shortcut == task.accuracy_without(steps - 1)
        assert levels.ceiling == task.accuracy_without(0) == 1
        assert task.accuracy_without(1) == pytest.approx(0.55)
        assert levels.threshold() > task.accuracy_without(1)


def test_comparisons_are_fair_and_independent_coins() -> None:
    _, batch = chain(4, indicator_classes=(1, 2, 3))
    code = sum(2 ** (s - 1) * batch.steps[f"same_{s}"] for s in (1, 2, 3))
    assert isinstance(code, torch.Tensor)
    assert (torch.bincount(code, minlength=8) / N).tolist() == pytest.approx([1 / 8] * 8, abs=0.0133)


def test_a_chain_of_one_or_five_steps_is_refused() -> None:
    for steps in (1, 5):
        with pytest.raises(CardError, match=f"'steps'.*got {steps}"):
            make_task("n_step-v1", **{**GLYPHS, "steps": steps})
