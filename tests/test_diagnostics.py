"""Figures of a model's inside follow by hand: gradients, entropy, shares of regions, effective rank, spread."""

import math
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from torch import nn

from multistep_bench import make_attention, make_model, make_task
from multistep_bench.batch import IGNORED, Batch, TaskInfo
from multistep_bench.diagnostics.attention import (
    attention_figures,
    attention_weights,
    effective_rank,
    entropy,
    relative_entropy,
)
from multistep_bench.diagnostics.capture import BlockCall, RuleCall, labels
from multistep_bench.diagnostics.gradients import region_norms
from multistep_bench.diagnostics.layers import find_blocks, find_projections, find_rules
from multistep_bench.diagnostics.logits import logits_std, residual_norm
from multistep_bench.diagnostics.options import DiagnosticOptions, parse_diagnostics
from multistep_bench.diagnostics.recorder import Recorder
from multistep_bench.diagnostics.regions import reading_tokens, region_masks
from multistep_bench.errors import ModelError, NotFound, RunError
from multistep_bench.generators.base import TaskGenerator
from multistep_bench.models.build import logits
from multistep_bench.registry import attention_rules
from multistep_bench.training.losses import flat_cross_entropy

CPU = torch.device("cpu")
ALL = parse_diagnostics("gradients,attention,logits")


def call(name: str, tokens: int = 5, width: int = 4, mask: torch.Tensor | None = None, **options: Any) -> RuleCall:
    """A rule called with two samples and two heads of random q, k and v."""
    rng = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 2, tokens, width, generator=rng) for _ in range(3))
    return RuleCall(make_attention(name, **options), q, k, v, mask)


def info(kind: Any, shape: tuple[int, ...], layout: dict[str, tuple[int, int, int, int]]) -> TaskInfo:
    space, target = gymnasium.spaces.Box(0, 1, shape), gymnasium.spaces.Discrete(2)
    return TaskInfo("t-v1", space, target, 2, kind, layout, "tiny", 0.5, None, 1.0, ())


def batch(targets: torch.Tensor) -> Batch:
    return Batch(torch.zeros(len(targets), 1), targets, {})


def test_options_are_read_and_mistakes_are_answered() -> None:
    assert parse_diagnostics("logits, gradients,every=5") == DiagnosticOptions(("gradients", "logits"), 5)
    with pytest.raises(NotFound, match=r"no kind of diagnostics 'atention'. Did you mean 'attention'"):
        parse_diagnostics("gradients,atention")
    for every in ("0", "-1", "x", "1.5", ""):
        with pytest.raises(RunError, match=f"every={every}: a whole number"):
            parse_diagnostics(f"gradients,every={every}")
    with pytest.raises(RunError, match="names no kind"):
        parse_diagnostics("every=3")


def test_every_nth_evaluation_is_recorded_and_the_first_and_last_too() -> None:
    options = DiagnosticOptions(("logits",), 3)
    assert [index for index in range(9) if options.due(index, 8)] == [0, 3, 6, 8]


def test_softmax_weights_are_read_from_the_rule() -> None:
    made = call("softmax")
    wanted = torch.softmax(made.q @ made.k.mT / 2, -1).double()
    weights = attention_weights(made)
    assert weights is not None
    torch.testing.assert_close(weights, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("tokens", [3, 4, 9])  # fewer than channels, as many, more and no multiple
def test_a_rule_that_wants_values_like_queries_is_read_in_pieces(tokens: int) -> None:
    weights = attention_weights(call("uniform", tokens))
    assert weights is not None
    torch.testing.assert_close(weights, torch.full((2, 2, tokens, tokens), 1 / tokens).double())


@pytest.mark.parametrize("name", sorted({*attention_rules.builtin} - {"laser", "regions"}))
def test_weights_of_every_rule_sum_to_one(name: str) -> None:
    weights = attention_weights(call(name, tokens=6))
    assert weights is not None
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 2, 6).double())
    assert (weights >= 0).all()


def test_a_causal_mask_hides_later_keys_and_a_masked_query_knows_what_it_sees() -> None:
    mask = torch.ones(5, 5, dtype=torch.bool).tril()
    made = call("softmax", mask=mask)
    weights = attention_weights(made)
    assert weights is not None
    assert (weights.triu(1) == 0).all()
    uniform = attention_figures(call("uniform", mask=mask), torch.ones(2, 5, dtype=torch.bool), None)
    nats = sum(math.log(n) for n in range(1, 6)) / 5
    assert uniform["entropy"].tolist() == pytest.approx([nats, nats])
    assert uniform["relative_entropy"].tolist() == pytest.approx([1.0, 1.0])  # the first query, which sees one, is out


def test_a_rule_that_averages_no_values_has_no_weights_and_its_figures_are_nan() -> None:
    made = call("laser")
    assert attention_weights(made) is None
    figures = attention_figures(made, torch.ones(2, 5, dtype=torch.bool), torch.ones(1, 5, dtype=torch.bool))
    assert all(values.isnan().all() for values in figures.values())


def test_entropy_is_ln_n_for_equal_weights_and_zero_for_one() -> None:
    assert entropy(torch.full((7,), 1 / 7)).item() == pytest.approx(math.log(7))
    assert entropy(torch.eye(7)).tolist() == [0.0] * 7
    visible = torch.tensor([[True] * 4, [True, True, False, False], [True, False, False, False]])
    weights = torch.tensor([[0.5, 0.5, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]])
    half, whole, alone = relative_entropy(weights, visible).tolist()
    assert (half, whole) == pytest.approx((0.5, 1.0))
    assert math.isnan(alone)
    leaking = relative_entropy(torch.tensor([0.9, 0.1]), torch.tensor([True, False]))
    assert leaking.isnan(), "weight on a hidden key, and an entropy in units of ln 1"


def test_effective_rank_counts_how_many_ways_queries_attend() -> None:
    assert effective_rank(torch.full((6, 6), 1 / 6).double()).item() == pytest.approx(1.0)
    assert effective_rank(torch.eye(6).double()).item() == pytest.approx(6.0)
    two = torch.zeros(4, 4).double()
    two[:2, 0] = two[2:, 1] = 1.0
    assert effective_rank(two).item() == pytest.approx(2.0)


def test_shares_of_regions_are_sums_of_weights_from_the_reading_token_and_on_average() -> None:
    """Keys 2·e_i against query e_i·s: with large s each query attends to its own key."""
    eye = torch.eye(4).expand(1, 1, 4, 4)
    made = RuleCall(make_attention("softmax", temperature=1.0), 1000 * eye, eye, eye, None)
    regions = torch.tensor([[True, True, False, False], [False, False, False, True]])
    figures = attention_figures(made, torch.tensor([[False, False, False, True]]), regions)
    assert figures["share"].tolist() == [[0.5, 0.25]]
    assert figures["share_reading"].tolist() == [[0.0, 1.0]]
    assert figures["rank"].tolist() == pytest.approx([4.0])
    assert figures["entropy"].tolist() == pytest.approx([0.0])
    uniform = RuleCall(make_attention("uniform"), eye, eye, eye, None)
    assert attention_figures(uniform, torch.ones(1, 4, dtype=torch.bool), regions)["share"].tolist() == [[0.5, 0.25]]


def test_the_rank_of_a_single_query_is_unknown() -> None:
    made = call("softmax")
    one = RuleCall(made.rule, made.q[:, :, :1], made.k, made.v, None)
    assert attention_figures(one, torch.ones(2, 1, dtype=torch.bool), None)["rank"].isnan().all()


def test_logits_spread_over_the_keys_that_are_seen() -> None:
    """q = 2 in one channel of four, keys 1 and 5 and a hidden 100: logits 1 and 5, standard deviation 2."""
    q = torch.tensor([[[[2.0, 0.0, 0.0, 0.0]]]])
    k = torch.zeros(1, 1, 3, 4)
    k[0, 0, :, 0] = torch.tensor([1.0, 5.0, 100.0])
    made = RuleCall(make_attention("softmax"), q, k, k, torch.tensor([True, True, False]))
    assert logits_std(made).tolist() == pytest.approx([2.0])


def test_residual_norm_is_the_mean_length_of_what_leaves() -> None:
    leaving = torch.tensor([[[3.0, 4.0], [0.0, 1.0]]])
    assert residual_norm(BlockCall(torch.zeros(1, 2, 2), leaving)).item() == 3.0


def test_gradients_by_region_are_lengths_over_its_tokens_whatever_the_batch() -> None:
    gradient = torch.tensor([[[3.0], [4.0], [1.0]], [[0.0], [0.0], [2.0]]]) / 2  # of a mean over two samples
    regions = torch.tensor([[True, True, False], [False, False, True]])
    assert region_norms(gradient, regions).tolist() == [2.5, 1.5]


def test_patches_lie_in_the_region_of_their_centre_after_a_class_token() -> None:
    halves = info("image", (1, 4, 8), {"left": (0, 0, 4, 4), "right": (0, 4, 4, 4)})
    masks = region_masks(halves, 9)  # patches of two pixels
    assert masks is not None
    assert masks.int().tolist() == [[0, 1, 1, 0, 0, 1, 1, 0, 0], [0, 0, 0, 1, 1, 0, 0, 1, 1]]
    without = region_masks(halves, 8)
    assert without is not None
    assert torch.equal(without, masks[:, 1:])
    assert region_masks(halves, 6) is None
    corner = info("image", (1, 8, 8), {"small": (0, 0, 2, 2)})
    assert region_masks(corner, 5) is None  # the centre of no patch of four pixels lies in it


def test_tokens_lie_where_the_layout_says() -> None:
    sequence = info("tokens", (4,), {"pairs": (0, 0, 1, 3), "query": (0, 3, 1, 1)})
    masks = region_masks(sequence, 4)
    assert masks is not None
    assert masks.int().tolist() == [[1, 1, 1, 0], [0, 0, 0, 1]]
    assert region_masks(sequence, 5) is None


def test_logits_are_read_from_scored_tokens_the_last_or_the_class_token() -> None:
    sequence = info("tokens", (3,), {"all": (0, 0, 1, 3)})
    scored = batch(torch.tensor([[IGNORED, 1, IGNORED], [IGNORED, IGNORED, 0]]))
    assert reading_tokens(sequence, scored, 3).int().tolist() == [[0, 1, 0], [0, 0, 1]]
    assert reading_tokens(sequence, batch(torch.zeros(1)), 3).int().tolist() == [[0, 0, 1]]
    image = info("image", (1, 4, 4), {"all": (0, 0, 4, 4)})
    assert reading_tokens(image, batch(torch.zeros(1)), 5).int().tolist() == [[1, 0, 0, 0, 0]]
    assert reading_tokens(image, batch(torch.zeros(1)), 4).int().tolist() == [[1, 1, 1, 1]]
    assert reading_tokens(image, batch(torch.zeros(1)), 1).int().tolist() == [[1]]


@pytest.fixture(scope="module")
def digits() -> TaskGenerator:
    return make_task("two_step_digits-v1")


def test_gradients_are_those_of_numerical_differentiation(digits: TaskGenerator) -> None:
    """Of the loss by single weights of W_Q, W_K and W_V, in float64: l2 of a layer within a part in a million."""
    torch.manual_seed(1)
    model = make_model("vit", digits.info, width=4, depth=1, heads=1, mlp_ratio=1.0).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    recorder = Recorder(parse_diagnostics("gradients"), digits, CPU)
    recorder.batch = recorder.batch.each(lambda tensor: tensor.double() if tensor.is_floating_point() else tensor)
    figures = recorder.record(model)
    weight: Any = model.get_parameter("blocks.0.attn.qkv.weight")
    slopes = torch.zeros_like(weight)
    with torch.no_grad():
        for row in range(len(weight)):
            for column in range(weight.shape[1]):
                for sign in (1, -1):
                    weight[row, column] += sign * 1e-5
                    loss = flat_cross_entropy(logits(model.eval(), recorder.batch), recorder.batch.targets)
                    slopes[row, column] += sign * loss / 2e-5
                    weight[row, column] -= sign * 1e-5
    parts = slopes.chunk(3)
    assert figures["gradients.l2"][0].tolist() == pytest.approx([part.norm().item() for part in parts], rel=1e-6)
    assert figures["gradients.l1"][0].tolist() == pytest.approx([part.abs().sum().item() for part in parts], rel=1e-6)


def test_fixed_attention_gives_no_gradient_to_queries_and_keys(digits: TaskGenerator) -> None:
    figures = Recorder(ALL, digits, CPU).record(make_model("vit", digits.info, attention="uniform"))
    assert (figures["gradients.l2"][:, :2] == 0).all()
    assert (figures["gradients.l2"][:, 2] > 0).all()
    assert figures["attention.relative_entropy"] == pytest.approx(np.ones((3, 2)))
    assert figures["attention.share"] == pytest.approx(np.full((3, 2, 4), 0.2))  # four tiles and the class token
    assert figures["attention.layers"].tolist() == ["blocks.0.attn", "blocks.1.attn", "blocks.2.attn"]
    assert figures["regions"].tolist() == list(digits.info.layout)


def test_recording_leaves_model_and_random_states_as_they_were(digits: TaskGenerator) -> None:
    model = make_model("vit", digits.info).train()
    logits(model, digits.sample(4, split="train", rng=torch.Generator())).sum().backward()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    gradients = {name: each.grad.clone() for name, each in model.named_parameters() if each.grad is not None}
    state = torch.get_rng_state()
    recorder = Recorder(ALL, digits, CPU)
    first, second = recorder.record(model), recorder.record(model)
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    for name, each in model.named_parameters():
        assert torch.equal(each.grad, gradients[name])  # pyright: ignore[reportArgumentType]
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])  # NaN where NaN is


class Own(nn.Module):
    """A user's layer: projections under names of its own, a rule of the suite, no block around it."""

    def __init__(self, info: TaskInfo) -> None:
        super().__init__()
        self.diagnostic_projections = {"q": "ask.weight", "k": "match.weight", "v": "tell.weight"}
        self.patch = nn.Unfold(8, stride=8)
        self.ask, self.match, self.tell = (nn.LazyLinear(6) for _ in range(3))
        self.weigh = make_attention("normsoftmax")
        self.head = nn.Linear(6, info.num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.patch(images).mT
        q, k, v = (project(x).unsqueeze(1) for project in (self.ask, self.match, self.tell))
        return self.head(self.weigh(q, k=k, v=v).squeeze(1).mean(1))


def own(digits: TaskGenerator) -> Own:
    model = Own(digits.info)
    logits(model, digits.sample(2, split="train", rng=torch.Generator()))
    return model


def test_a_users_module_is_seen_through_our_rule_and_its_named_projections(digits: TaskGenerator) -> None:
    model = own(digits)
    assert list(find_rules(model)) == ["weigh"]
    (layer,) = find_projections(model)
    assert [name for name, _ in layer.parts] == ["ask.weight", "match.weight", "tell.weight"]
    assert not find_blocks(model)
    figures = Recorder(ALL, digits, CPU).record(model)
    assert figures["gradients.l2"].shape == (1, 3)
    assert figures["attention.share"].sum(-1) == pytest.approx(np.ones((1, 1)))  # its tokens are the four tiles
    assert {"gradients.regions", "logits.residual", "blocks"}.isdisjoint(figures)
    model.diagnostic_projections = {"q": "asks.weight", "k": "match.weight", "v": "tell.weight"}
    with pytest.raises(ModelError, match=r"names 'asks.weight' as q, no parameter below it"):
        find_projections(model)
    model.diagnostic_projections = {"q": "ask.weight"}
    with pytest.raises(ModelError, match="give a dictionary of the paths of three parameters"):
        find_projections(model)


def test_projections_are_found_in_modules_of_other_libraries() -> None:
    torchs = nn.TransformerEncoderLayer(8, 2, 16)
    ((_, rows),) = [(layer.layer, [place for _, place in layer.parts]) for layer in find_projections(torchs)]
    assert rows == [slice(0, 8), slice(8, 16), slice(16, 24)]
    apart = nn.ModuleDict({name: nn.Linear(4, 4) for name in ("query", "key", "value", "dense")})
    (layer,) = find_projections(nn.ModuleDict({"self": apart}))
    assert (layer.layer, layer.parts[1][0]) == ("self", "self.key.weight")


def test_what_a_model_does_not_have_is_named(digits: TaskGenerator) -> None:
    model = make_model("resnet9", digits.info)
    for kind, message in (
        ("attention", "holds none of the suite's attention rules"),
        ("logits", "holds none of the suite's attention rules"),
        ("gradients", "no projections W_Q, W_K and W_V were found"),
    ):
        with pytest.raises(ModelError, match=f"--diagnostics {kind}: .*{message}"):
            Recorder(parse_diagnostics(kind), digits, CPU).record(model)


def test_calls_of_one_module_are_numbered() -> None:
    assert labels(["a", "b", "a"]) == ["a[0]", "b", "a[1]"]
