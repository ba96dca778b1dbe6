"""Window sum: answers recomputed number by number, and a solver for every level."""

import pytest
import torch
from image_data import stream
from sampling import four_errors

from multistep_bench.batch import IGNORED, Batch
from multistep_bench.errors import CardError
from multistep_bench.generators.arithmetic.window_sum import WindowSum
from multistep_bench.generators.base import Split

N = 2000


def window_sum(**parameters: int) -> WindowSum:
    return WindowSum(parameters, id="window_sum-v1")


def draw(task: WindowSum, split: Split, n: int = N) -> Batch:
    return task.sample(n, split=split, rng=stream("window_sum", split))


def rows(batch: Batch) -> list[list[int]]:
    assert isinstance(batch.inputs, torch.Tensor)
    return batch.inputs.tolist()


def accuracy(task: WindowSum, batch: Batch, answers: list[list[int]]) -> float:
    """The share of scored positions that a run would count as right."""
    logits = torch.nn.functional.one_hot(torch.tensor(answers), task.info.num_classes).double()
    return float(task.correct(logits, batch).sum() / (batch.targets != IGNORED).sum())


def test_a_sum_is_that_of_a_number_and_the_one_before() -> None:
    task = window_sum(modulus=5, tokens=7)
    for split in ("train", "eval"):
        batch = draw(task, split, 300)
        for i, row in enumerate(rows(batch)):
            first = row[0] if split == "train" else IGNORED
            assert batch.targets[i].tolist() == [first, *((row[j - 1] + row[j]) % 5 for j in range(1, 7))]
            assert int(batch.steps["neighbour"][i]) == row[5]


@pytest.mark.parametrize(("modulus", "tokens"), [(17, 16), (3, 8), (2, 2), (29, 6)])
def test_a_solver_of_every_kind_lands_on_the_level_computed_for_it(modulus: int, tokens: int) -> None:
    task = window_sum(modulus=modulus, tokens=tokens)
    batch, levels = draw(task, "eval"), task.levels()
    numbers = rows(batch)

    def within(level: float) -> object:
        return pytest.approx(level, abs=four_errors(level, N))  # positions of a sequence may depend on each other

    assert levels.chance == levels.shortcut == 1 / modulus
    assert accuracy(task, batch, numbers) == within(1 / modulus)  # from one of the two numbers
    assert accuracy(task, batch, [[0] * tokens] * N) == within(1 / modulus)
    frequent = [
        [(max(range(modulus), key=row[:i].count) + row[i]) % modulus if i else 0 for i in range(tokens)]
        for row in numbers
    ]
    assert accuracy(task, batch, frequent) == within(task.any_earlier)
    right = [[(row[i - 1] + row[i]) % modulus for i in range(tokens)] for row in numbers]
    assert accuracy(task, batch, right) == levels.ceiling == 1


def test_the_plateau_over_whole_sequences_is_that_of_the_paper() -> None:
    task = window_sum()
    batch = draw(task, "train")
    copied = [[row[0], *[0] * 15] for row in rows(batch)]
    assert accuracy(task, batch, copied) == pytest.approx(0.118, abs=0.004)


def test_adding_any_earlier_number_is_right_half_of_the_time_where_there_are_two() -> None:
    assert window_sum(modulus=2, tokens=2).any_earlier == 1  # the one earlier number is the neighbour
    # At the third position: the two earlier numbers are equal (1/2), so certain, or the neighbour is one of two.
    assert window_sum(modulus=2, tokens=3).any_earlier == pytest.approx((1 + 0.75) / 2)


def test_the_first_position_is_measured_apart() -> None:
    further = window_sum().auxiliary(999, stream("secondary"))
    assert list(further) == ["first"]
    targets = further["first"].targets
    assert len(targets) == 250
    assert targets[:, 0].tolist() == [row[0] for row in rows(further["first"])]
    assert (targets[:, 1:] == IGNORED).all()


@pytest.mark.parametrize(("key", "value"), [("modulus", 1), ("tokens", 1)])
def test_parameters_out_of_range_are_refused(key: str, value: int) -> None:
    with pytest.raises(CardError, match=f"'{key}': Input should be greater than or equal to 2"):
        window_sum(**{key: value})
