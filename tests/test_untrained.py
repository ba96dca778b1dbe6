"""A model that knows the task before it is trained is refused."""

from pathlib import Path

import pytest
import torch
from records import make_spec
from test_launch import Notes
from torch import nn

from multistep_bench.batch import TaskInfo
from multistep_bench.cards import Levels
from multistep_bench.models.build import build
from multistep_bench.runs.events import Evaluation, Outcome
from multistep_bench.runs.spec import RunSpec
from multistep_bench.training.launch import launch
from multistep_bench.training.plan import plan, task_of
from multistep_bench.training.stacked import StackedTrainer
from multistep_bench.training.untrained import knows_too_much

TASK = "two_step_digits-v1"
CHANGES = {"protocol.budget": 3200, "protocol.seeds": 1, "protocol.learning_rates": [1e-3]}


@pytest.fixture(scope="module")
def spec() -> RunSpec:
    return plan(TASK, "user_models:linear", "smoke", {**CHANGES, "protocol.evaluation_items": 700})


def first(correct: int, loss: float | None = 2.0) -> Evaluation:
    return Evaluation(samples=0, correct=None if loss is None else correct, loss=loss, train_loss=None, seconds=0.0)


def test_six_standard_errors_of_an_accuracy_over_a_hundred_answers(spec: RunSpec) -> None:
    """Chance 1/8: the error is √(7/64/100) = 0.03307, so 700·(0.125 + 0.19843) = 226.4 may be right."""
    assert knows_too_much(spec, first(226), 700) is None
    assert "pretrained weights are not allowed" in str(knows_too_much(spec, first(227), 700))
    assert knows_too_much(spec, first(0, None), 700) is None


def test_targets_of_one_sample_and_few_samples_count_as_they_should(spec: RunSpec) -> None:
    """Of 25 samples the error is √(7/64/25) = 0.06614, whatever the number of their targets."""
    few = spec.protocol.model_copy(update={"evaluation_items": 25})
    task = spec.task.model_copy(update={"protocols": {spec.protocol_name: few}})
    spec = spec.model_copy(update={"task": task})
    assert knows_too_much(spec, first(521), 1000) is None
    assert knows_too_much(spec, first(522), 1000) is not None


def test_a_loss_far_below_chance_is_none_of_an_untrained_model() -> None:
    levels = Levels(chance=4.0, shortcut=3.0, ceiling=1.0)
    text = make_spec(task={"levels": levels}, protocol={"evaluation_items": 3600})
    assert knows_too_much(text, first(0, 0.91 * 4.0), 9999) is None  # the error is 4/60
    assert "loss is" in str(knows_too_much(text, first(0, 0.89 * 4.0), 9999))


class Knows(nn.Module):
    """Knows the answer without training, as weights that were trained elsewhere do."""

    uses_steps = True

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(classes))

    def forward(self, images: torch.Tensor, steps: dict[str, torch.Tensor]) -> torch.Tensor:
        answers = torch.where(steps["same"] == 1, steps["answer_same"], steps["answer_other"])
        return 5.0 * nn.functional.one_hot(answers, len(self.scale)) * self.scale


def knows(info: TaskInfo) -> nn.Module:
    return Knows(info.num_classes)


def test_its_cell_fails_at_once_with_one_sentence(tmp_path: Path) -> None:
    notes = Notes()
    launch(plan(TASK, "test_untrained:knows", "smoke", CHANGES), tmp_path / "run", workers=1, observer=notes)
    (outcome,) = notes.outcomes.values()
    assert (outcome.status, outcome.samples) == ("failed", 0)
    assert "before training its accuracy is 1, more than 6 standard errors better than chance, 0.125" in str(
        outcome.reason
    )


def test_the_other_cells_of_a_stacked_group_go_on() -> None:
    spec = plan(TASK, "user_models:linear", "smoke", {**CHANGES, "protocol.seeds": 2})
    task = task_of(spec)
    with torch.random.fork_rng():
        trainer = StackedTrainer(
            spec, spec.cells(), task, lambda: build(spec.model.card(), task.info), torch.device("cpu")
        )
        evaluate, calls = trainer.evaluate, []

        def right_at_first(name: str | None = None) -> list[tuple[int, float]]:
            calls.append(name)
            (_, loss), other = evaluate(name)
            return [(spec.protocol.evaluation_items if len(calls) == 1 else 0, loss), other]

        trainer.evaluate = right_at_first  # type: ignore[method-assign]
        outcomes = {cell: event for cell, event in trainer.curve() if isinstance(event, Outcome)}
    assert [outcomes[cell].status for cell in spec.cells()] == ["failed", "completed"]
    assert [len(trainer.evaluations[cell]) for cell in spec.cells()] == [1, spec.protocol.evaluations + 1]
