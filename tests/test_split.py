"""The gradient of a projection is a sum over tokens: its parts by region follow by hand and add up to the whole."""

import math
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from torch import nn

from multistep_bench import make_attention, make_model, make_task
from multistep_bench.batch import Batch, TaskInfo
from multistep_bench.diagnostics.capture import ProjectionCall, captured
from multistep_bench.diagnostics.gradients import differentiated
from multistep_bench.diagnostics.layers import find_projections, linear_layers
from multistep_bench.diagnostics.options import parse_diagnostics
from multistep_bench.diagnostics.recorder import Recorder
from multistep_bench.diagnostics.regions import EPISODE, batch_regions, region_names
from multistep_bench.diagnostics.split import split_by_parameter, split_gradient, split_norms
from multistep_bench.models.build import logits
from multistep_bench.models.spectral import make_spectral
from multistep_bench.training.losses import flat_cross_entropy

CPU = torch.device("cpu")


def test_parts_of_a_layer_of_one_input_and_one_output_are_sums_of_products() -> None:
    """x = 1 2 3 and 4 5 6 over two samples, g = 1 everywhere but −1 at the last token."""
    entering = torch.tensor([[[1.0], [2.0], [3.0]], [[4.0], [5.0], [6.0]]])
    gradient = torch.tensor([[[1.0], [1.0], [1.0]], [[1.0], [1.0], [-1.0]]])
    regions = torch.tensor([[True, False, False], [False, False, True]])
    assert split_gradient(entering, gradient, regions).flatten().tolist() == [1 + 4, 3 - 6, 2 + 5]
    of_samples = torch.stack((regions, regions.flip(0)))  # the second sample's regions are the other way round
    assert split_gradient(entering, gradient, of_samples).flatten().tolist() == [1 - 6, 3 + 4, 2 + 5]


def test_rows_of_a_part_are_outputs_and_columns_inputs() -> None:
    parts = split_gradient(torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[3.0, 5.0, 7.0]]]), torch.tensor([[True]]))
    assert parts[0].tolist() == [[3.0, 6.0], [5.0, 10.0], [7.0, 14.0]]
    assert parts[1].tolist() == [[0.0, 0.0]] * 3


class Looking(nn.Module):
    """One layer: the last token of three asks, all are matched and told; the answer is what it hears."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(1, 1, bias=False) for _ in range(3))
        self.rule = make_attention("softmax")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (project(x).unsqueeze(1) for project in (self.query, self.key, self.value))
        return self.rule(q, k, v).squeeze(1)[:, -1]


def looking(weight: float) -> tuple[Looking, dict[str, torch.Tensor]]:
    """The model with W_Q = W_K = W_V = `weight` on tokens 1 2 3, and parts of the gradient of its answer."""
    model = Looking()
    for layer in (model.query, model.key, model.value):
        nn.init.constant_(layer.weight, weight)
    layers = find_projections(model)
    with captured(model, layers) as seen:
        answer = model(torch.tensor([[[1.0], [2.0], [3.0]]]))
    _, found = differentiated(answer.sum(), model, layers, [call.leaving for call in seen.projections])
    regions = torch.tensor([[True, False, False], [False, True, False]])
    return model, split_by_parameter(seen.projections, found, {3: regions})


def test_flat_attention_gives_each_region_the_share_of_its_tokens() -> None:
    """With W_Q = W_K = 0 attention is 1/3 everywhere: dL/dW_V = (1 + 2 + 3)/3, and W_Q, W_K have no gradient at all."""
    _, parts = looking(0.0)
    assert parts["value.weight"].flatten().tolist() == pytest.approx([1 / 3, 2 / 3, 1])
    assert not parts["query.weight"].any()
    assert not parts["key.weight"].any()


def test_parts_of_one_attention_layer_follow_by_hand() -> None:
    """All weights 1: a = softmax(3, 6, 9), y = Σ aₜ·xₜ, so dy/dkₜ = q·aₜ·(xₜ − y) and dy/dq = Σ aₜ·(xₜ − y)·kₜ."""
    _, parts = looking(1.0)
    x = (1.0, 2.0, 3.0)
    weights = [math.exp(3 * each) / sum(math.exp(3 * other) for other in x) for each in x]
    y = sum(a * each for a, each in zip(weights, x, strict=True))
    by_key = [3 * a * (each - y) * each for a, each in zip(weights, x, strict=True)]
    by_query = 3 * sum(a * (each - y) * each for a, each in zip(weights, x, strict=True))
    assert parts["key.weight"].flatten().tolist() == pytest.approx(by_key, abs=1e-6)
    assert parts["query.weight"].flatten().tolist() == pytest.approx([0, 0, by_query], abs=1e-6)
    told = [a * each for a, each in zip(weights, x, strict=True)]
    assert parts["value.weight"].flatten().tolist() == pytest.approx(told, abs=1e-6)


@pytest.mark.parametrize(
    ("task_id", "model"),
    [("two_step_digits-v1", "vit"), ("mlm_agreement-v1", "bert"), ("icl_gaussian-v1", "gpt"), ("lookup-v1", "gpt")],
)
@pytest.mark.parametrize("spectral", [False, True])
def test_parts_add_up_to_the_gradient_of_the_weight(task_id: str, model: str, spectral: bool) -> None:
    """Also where the weight is made of the parameter, γ·W/σ(W)."""
    task = make_task(task_id)
    torch.manual_seed(0)
    made = make_model(model, task.info)
    if spectral:
        make_spectral(made)
    made = made.eval().double()
    recorder = Recorder(parse_diagnostics("gradients"), task, CPU)
    recorder.batch = recorder.batch.each(lambda tensor: tensor.double() if tensor.is_floating_point() else tensor)
    layers = find_projections(made)
    with captured(made, layers) as seen:
        answer = logits(made, recorder.batch)
    loss = flat_cross_entropy(answer, recorder.batch.targets)
    whole, found = differentiated(loss, made, layers, [call.leaving for call in seen.projections])
    (tokens,) = {call.entering.shape[1] for call in seen.projections}
    masks = batch_regions(task.info, recorder.batch, tokens)
    assert masks is not None
    parts = split_by_parameter(seen.projections, found, {tokens: masks})
    assert parts.keys() == whole.keys()
    for name, gradient in whole.items():
        assert gradient.norm() > 1e-6
        torch.testing.assert_close(parts[name].sum(0), gradient, rtol=1e-9, atol=1e-12)
    figures = recorder.record(made)
    norms = split_norms(parts, layers, len(region_names(task.info)))
    for name, values in norms.items():
        np.testing.assert_allclose(figures[f"gradients.{name}"], values, rtol=1e-9)


def test_norms_are_of_the_rows_of_q_k_and_v_apart() -> None:
    """A fused weight with rows 3 −4, 0 5 and 6 8 from one region's only token."""
    model = nn.Module()
    model.num_heads = 1  # type: ignore[assignment]
    model.qkv = nn.Linear(2, 3, bias=False)
    layers = find_projections(model)
    part = torch.tensor([[3.0, -4.0], [0.0, 5.0], [6.0, 8.0]])
    figures = split_norms({"qkv.weight": torch.stack((part, torch.zeros(3, 2)))}, layers, 1)
    assert figures["l1_by_region"].tolist() == [[[7, 0], [5, 0], [14, 0]]]
    assert figures["l2_by_region"].tolist() == [[[5, 0], [5, 0], [10, 0]]]
    unknown = split_norms({}, layers, 1)
    assert all(values.shape == (1, 3, 2) and values.isnan().all() for values in unknown.values())


def call(tokens: int, leaving: float) -> ProjectionCall:
    weight = nn.Parameter(torch.ones(1, 1))
    return ProjectionCall("w", torch.ones(1, tokens, 1), torch.full((1, tokens, 1), leaving), weight, weight)


def test_a_layer_called_twice_has_the_sum_and_one_of_other_tokens_no_parts() -> None:
    masks = {2: torch.tensor([[True, False]])}
    gradient = torch.tensor([[[2.0], [3.0]]])
    twice = split_by_parameter([call(2, 0.0), call(2, 0.0)], [gradient, gradient], masks)
    assert twice["w"].flatten().tolist() == [4.0, 6.0]
    unused = split_by_parameter([call(2, 0.0), call(2, 0.0)], [gradient, None], masks)
    assert unused["w"].flatten().tolist() == [2.0, 3.0]
    assert split_by_parameter([call(2, 0.0), call(3, 0.0)], [gradient, torch.ones(1, 3, 1)], masks) == {}


def test_a_fused_weight_that_no_linear_layer_applies_has_no_parts() -> None:
    torchs = nn.MultiheadAttention(8, 2)
    assert linear_layers(torchs, find_projections(torchs)) == {}
    apart = nn.ModuleDict({name: nn.Linear(4, 4) for name in ("q_proj", "k_proj", "v_proj")})
    assert list(linear_layers(apart, find_projections(apart))) == ["q_proj.weight", "k_proj.weight", "v_proj.weight"]


def episodes(steps: tuple[str, ...]) -> TaskInfo:
    space, target = gymnasium.spaces.Box(0, 1, (3, 2)), gymnasium.spaces.Discrete(2)
    layout = {"context": (0, 0, 1, 4), "query": (0, 4, 1, 1)}
    return TaskInfo("t-v1", space, target, 2, "episode", layout, "tiny", 0.5, None, 1.0, steps)


def test_the_context_of_an_episode_is_told_apart_by_the_class_of_its_items() -> None:
    """Two items with labels and a query: the first sample's query is of its second item's class, then of both."""
    steps: dict[str, Any] = {
        "item_0_class": torch.tensor([7, 3]),
        "item_1_class": torch.tensor([5, 3]),
        "query_class": torch.tensor([5, 3]),
    }
    info, batch = episodes(tuple(steps)), Batch(torch.zeros(2, 1), torch.zeros(2), steps)
    assert region_names(info) == EPISODE == ("match", "match_label", "others", "other_labels", "query")
    masks = batch_regions(info, batch, 5)
    assert masks is not None
    assert masks[0].int().tolist() == [
        [0, 0, 1, 0, 0],
        [0, 0, 0, 1, 0],
        [1, 0, 0, 0, 0],
        [0, 1, 0, 0, 0],
        [0, 0, 0, 0, 1],
    ]
    assert masks[1].int().tolist() == [[1, 0, 1, 0, 0], [0, 1, 0, 1, 0], [0] * 5, [0] * 5, [0, 0, 0, 0, 1]]
    assert batch_regions(info, batch, 6) is None
    plain = episodes(("hidden",))
    assert region_names(plain) == ("context", "query")
    masks = batch_regions(plain, batch, 5)
    assert masks is not None
    assert masks.int().tolist() == [[[1, 1, 1, 1, 0], [0, 0, 0, 0, 1]]] * 2


def test_recorded_parts_have_names_and_the_last_layer_asks_from_the_class_token() -> None:
    task = make_task("two_step_digits-v1")
    torch.manual_seed(0)
    recorder = Recorder(parse_diagnostics("gradients"), task, CPU)
    figures = recorder.record(make_model("vit", task.info))
    assert figures["gradients.tokens"].tolist() == [*task.info.layout, "elsewhere"]
    assert figures["gradients.l1_by_region"].shape == figures["gradients.l2_by_region"].shape == (3, 3, 5)
    last = figures["gradients.l2_by_region"][-1]
    assert (last[0, :4] == 0).all(), "the last layer asks from the class token alone, which lies in no region"
    assert last[0, 4] == pytest.approx(figures["gradients.l2"][-1, 0])
