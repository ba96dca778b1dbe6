"""What a model may answer with besides a tensor."""

from collections import UserDict
from dataclasses import dataclass

import pytest
import torch
from torch import nn

import multistep_bench as mb
from multistep_bench.batch import Batch
from multistep_bench.errors import ModelError
from multistep_bench.models.answers import obvious_logits
from multistep_bench.models.build import check_contract, logits

LOGITS = torch.arange(6.0).reshape(2, 3)


@dataclass
class Output:
    loss: None
    logits: torch.Tensor


@pytest.mark.parametrize(
    "answer",
    [LOGITS, Output(None, LOGITS), {"loss": 1, "logits": LOGITS}, UserDict(logits=LOGITS), (LOGITS,), [LOGITS]],
    ids=["tensor", "object", "dict", "mapping", "tuple", "list"],
)
def test_logits_that_are_obvious_are_taken(answer: object) -> None:
    assert torch.equal(obvious_logits(answer), LOGITS)


@pytest.mark.parametrize("answer", [(LOGITS, LOGITS), {"scores": LOGITS}, Output(None, "none"), (), "text", None])  # type: ignore[arg-type]
def test_of_several_none_is_chosen(answer: object) -> None:
    assert obvious_logits(answer) is answer


class Answers(nn.Module):
    def __init__(self, form: type) -> None:
        super().__init__()
        self.form = form

    def forward(self, images: torch.Tensor) -> object:
        answer = torch.zeros(len(images), 8)
        return (answer, answer) if self.form is tuple else Output(None, answer)


def test_a_model_may_answer_so_and_a_pair_gets_the_error_of_before() -> None:
    task = mb.make_task("two_step_digits-v1")
    batch: Batch = task.sample(2, split="eval", rng=torch.Generator().manual_seed(0))
    check_contract(Answers(object), task.info, batch)
    assert logits(Answers(object), batch).shape == (2, 8)
    with pytest.raises(ModelError, match="answers with a tuple; return logits"):
        check_contract(Answers(tuple), task.info, batch)
