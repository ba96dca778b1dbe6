"""Trigger: answers read from the tokens by an independent rule, and a solver for every level."""

import pytest
import torch
from image_data import stream
from sampling import accuracy, four_errors

from multistep_bench.batch import Batch
from multistep_bench.errors import CardError
from multistep_bench.generators.in_context.trigger import Trigger

N = 8000


def trigger(**parameters: float) -> Trigger:
    return Trigger(parameters, id="trigger-v1")


def draw(task: Trigger, n: int = N) -> Batch:
    return task.sample(n, split="train", rng=stream("trigger"))


def rows(batch: Batch) -> list[list[int]]:
    assert isinstance(batch.inputs, torch.Tensor)
    return batch.inputs.tolist()


def answer(row: list[int], symbols: int) -> int:
    """What follows token V + 1, or V, NULL."""
    return row[row.index(symbols + 1) + 1] if symbols + 1 in row else symbols


@pytest.mark.parametrize(("tokens", "symbols"), [(2, 2), (16, 16), (9, 30)])
def test_the_answer_follows_the_trigger(tokens: int, symbols: int) -> None:
    batch = draw(trigger(tokens=tokens, symbols=symbols), 1000)
    for row, target, place in zip(rows(batch), batch.targets.tolist(), batch.steps["place"].tolist(), strict=True):
        assert len(row) == tokens + 1
        assert row[0] == symbols + 2
        assert row.count(symbols + 1) == (place >= 0)
        assert max((token for token in row[1:] if token != symbols + 1), default=0) < symbols
        assert target == answer(row, symbols)
        assert place == (row.index(symbols + 1) - 1 if symbols + 1 in row else -1)


@pytest.mark.parametrize(
    ("tokens", "symbols", "probability"), [(16, 16, 0.5), (8, 5, 0.3), (24, 40, 0.5), (2, 3, 0.25)]
)
def test_a_solver_of_every_kind_lands_on_the_level_computed_for_it(
    tokens: int, symbols: int, probability: float
) -> None:
    task = trigger(tokens=tokens, symbols=symbols, probability=probability)
    batch, levels = draw(task), task.levels()

    def within(level: float | None) -> object:
        assert level is not None
        return pytest.approx(level, abs=four_errors(level, N))

    any_class = torch.randint(symbols + 1, (N,), generator=stream("chance"))
    assert accuracy(any_class, batch) == within(levels.chance)
    assert levels.shortcut == 1 - probability
    assert accuracy(torch.full((N,), symbols), batch) == within(levels.shortcut)
    frequent = [max(range(symbols), key=row.count) if symbols + 1 in row else symbols for row in rows(batch)]
    assert accuracy(torch.tensor(frequent), batch) == within(task.detected)
    assert accuracy(torch.tensor([answer(row, symbols) for row in rows(batch)]), batch) == levels.ceiling == 1


def test_a_trigger_stands_anywhere_but_at_the_end() -> None:
    batch = draw(trigger(tokens=5))
    shares = torch.bincount(batch.steps["place"] + 1, minlength=6) / N
    expected = [0.5, *[0.125] * 4, 0]
    assert shares.tolist() == [pytest.approx(share, abs=four_errors(share, N)) for share in expected]


def test_sequences_with_and_without_a_trigger_are_measured_apart() -> None:
    further = trigger(symbols=7).auxiliary(999, stream("secondary"))
    assert list(further) == ["trigger", "no trigger"]
    assert [len(batch.targets) for batch in further.values()] == [250, 250]
    assert all(8 in row for row in rows(further["trigger"]))
    assert not any(8 in row for row in rows(further["no trigger"]))
    assert further["trigger"].targets.tolist() == [answer(row, 7) for row in rows(further["trigger"])]
    assert set(further["no trigger"].targets.tolist()) == {7}


def test_tokens_and_the_answer_null_have_names() -> None:
    task = trigger(symbols=3)
    assert [task.token_name(token) for token in (0, 2, 3, 4, 5)] == ["0", "2", "NULL", "!", "⊢"]
    assert task.info.num_classes == 4


@pytest.mark.parametrize(("key", "value"), [("probability", 0.51), ("probability", 0.0), ("tokens", 1)])
def test_parameters_out_of_range_are_refused(key: str, value: float) -> None:
    with pytest.raises(CardError, match=f"'{key}': Input should be greater than|'{key}': Input should be less than"):
        trigger(**{key: value})
