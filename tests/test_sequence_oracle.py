"""The sequence oracle: which tokens it marks on each task, and that the mark is all it is told."""

import dataclasses

import pytest
import torch

import multistep_bench as mb
from multistep_bench.batch import IGNORED
from multistep_bench.errors import ModelError
from multistep_bench.models.sequence_oracle import (
    bridged_value,
    followers,
    last_value,
    marker_of,
    matching_labels,
    pointed_noun,
)


def marked(marks: torch.Tensor) -> list[list[int]]:
    """The positions that are marked in each row."""
    return [row.nonzero().flatten().tolist() for row in marks]


def test_the_noun_that_the_pointer_names() -> None:
    sentences = torch.zeros(2, 6, dtype=torch.int64)  # pointer, four nouns, verb
    assert marked(pointed_noun(sentences, {"pointer": torch.tensor([0, 3])})) == [[1], [4]]


def test_the_labels_behind_the_items_of_the_query_class_and_none_where_it_has_no_item() -> None:
    inputs = {"items": torch.zeros(2, 4, 5), "labels": torch.zeros(2, 3, dtype=torch.int64)}  # i l i l i l query
    steps = {
        "query_class": torch.tensor([7, 9]),
        "item_0_class": torch.tensor([7, 7]),
        "item_1_class": torch.tensor([4, 4]),
        "item_2_class": torch.tensor([7, 8]),
    }
    assert marked(matching_labels(inputs, steps)) == [[1, 5], []]


def test_the_value_of_the_last_hops_pair() -> None:
    #                       7 → 2, 5 → 9, 2 → 5, then hops and start; two hops from 7 end at 5, one hop at 2
    inputs = torch.tensor([[7, 2, 5, 9, 2, 5, 17, 7], [5, 9, 7, 2, 2, 5, 16, 7]])
    assert marked(last_value(inputs, {"symbol_1": torch.tensor([2, IGNORED])})) == [[5], [3]]


def test_of_a_chain_with_a_bridge_the_value_behind_it() -> None:
    inputs = torch.tensor([[4, 9, 7, 2, 9, 1, 2, 5, 7]])  # 7 → 2 → 5
    assert marked(bridged_value(inputs, {"bridge": torch.tensor([2])})) == [[7]]


def test_the_tokens_that_follow_the_last_state() -> None:
    walk = torch.tensor([[1, 0, 1, 0, 0, 2, 0]])
    assert marked(followers(walk, {"state": torch.tensor([0])})) == [[2, 4, 5]]


@pytest.mark.parametrize("name", ["mlm_agreement-v1", "icl_gaussian-v1", "lookup-v1", "two_hop-v1"])
def test_the_marked_tokens_hold_the_answer_of_every_drawn_sample(name: str) -> None:
    task = mb.make_task(name)
    batch = task.sample(64, split="eval", rng=torch.Generator().manual_seed(0))
    marks = marker_of(task.info)(batch.inputs, batch.steps)
    assert marks.sum(1).tolist() == [1] * 64
    if isinstance(batch.inputs, dict):
        tokens = torch.full_like(marks, -1, dtype=torch.int64)
        tokens[:, 1::2] = batch.inputs["labels"]
    else:
        tokens = batch.inputs
    found = tokens[marks]
    if name == "mlm_agreement-v1":  # the noun's class is the verb's
        kinds = task.kinds  # type: ignore[attr-defined]
        assert (kinds[found] - task.parameters.nouns).tolist() == batch.steps["class"].tolist()
    else:
        assert found.tolist() == batch.targets.tolist()


@pytest.mark.parametrize("name", ["mlm_agreement-v1", "icl_gaussian-v1"])
def test_the_oracle_is_the_plain_model_with_one_vector_on_the_marked_tokens(name: str) -> None:
    task = mb.make_task(name)
    batch = task.sample(4, split="eval", rng=torch.Generator().manual_seed(0))
    family = "bert" if name.startswith("mlm") else "gpt"
    oracle = mb.make_model(f"{family}_oracle", task.info).eval()
    plain = mb.make_model(family, task.info).eval()
    weights = oracle.get_submodule("sequence").state_dict().items()
    ours = {name.replace("embedding.embedding.", "embedding."): value for name, value in weights}
    mark = ours.pop("embedding.mark")
    plain.load_state_dict(ours)
    answers = oracle(batch.inputs, batch.steps)
    assert not torch.allclose(answers, plain(batch.inputs))
    with torch.no_grad():
        mark.zero_()
    assert torch.allclose(oracle(batch.inputs, batch.steps), plain(batch.inputs))


def test_the_mark_starts_like_the_other_weights() -> None:
    task = mb.make_task("mlm_agreement-v1")
    for std, options in ((1.0, {}), (0.02, {"init_std": 0.02})):
        mark = mb.make_model("bert_oracle", task.info, width=512, **options).get_parameter("sequence.embedding.mark")
        assert mark.std().item() == pytest.approx(std, rel=0.15)


def test_it_is_barred_and_refuses_a_task_that_does_not_say_where_the_answer_stands() -> None:
    info = mb.make_task("mlm_agreement-v1").info
    model = mb.make_model("bert_oracle", info)
    assert model.uses_steps
    assert model.no_weight_decay() == {"sequence.pos_embed"}  # type: ignore[operator]
    with pytest.raises(ModelError, match=r"knows no place of the answer in mlm_agreement-v1, whose steps are class;"):
        mb.make_model("bert_oracle", dataclasses.replace(info, steps=("class",)))
