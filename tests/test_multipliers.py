"""Learning-rate multipliers: which parameters a pattern means, and that a factor is a rate m times as high."""

import pytest
import torch
from torch import nn

import multistep_bench as mb
from multistep_bench.errors import ModelError
from multistep_bench.models.build import build
from multistep_bench.protocol import Recipe
from multistep_bench.training.multipliers import scaled_updates, update_factors
from multistep_bench.training.plan import plan, task_of
from multistep_bench.training.stacked import StackedTrainer
from multistep_bench.training.trainer import SingleTrainer

TASK = mb.make_task("two_step_digits-v1")
CPU = torch.device("cpu")


def shared(factor: torch.Tensor, rows: int) -> list[float]:
    """The factors of each third of a fused projection, which are one number each."""
    thirds = factor.flatten().split(rows // 3)
    assert all(len(third.unique()) == 1 for third in thirds)
    return [third[0].item() for third in thirds]


def test_q_and_k_of_a_fused_projection_are_rows_of_it() -> None:
    factors = update_factors(mb.make_model("vit", TASK.info), {"attn.q": 4.0, "attn.k": 0.5})
    assert set(factors) == {f"blocks.{index}.attn.qkv.weight" for index in range(3)}
    assert all(shared(factor, 96) == [4.0, 0.5, 1.0] for factor in factors.values())


def test_patterns_cover_whole_parts_of_names_and_factors_multiply() -> None:
    model = mb.make_model("vit", TASK.info)
    assert set(update_factors(model, {"head": 2.0})) == {"head.weight", "head.bias"}
    assert set(update_factors(model, {"blocks.0.*.weight": 2.0})) == {
        name for name, _ in model.named_parameters() if name.startswith("blocks.0.") and name.endswith("weight")
    }
    factors = update_factors(model, {"blocks.1.attn.v": 3.0, "blocks.1.attn.qkv": 2.0})
    assert shared(factors["blocks.1.attn.qkv.weight"], 96) == [2.0, 2.0, 6.0]
    with pytest.raises(ModelError):
        update_factors(model, {"ead": 2.0})


def test_torchs_multihead_attention_and_timms_bias_are_split_too() -> None:
    attention = nn.Sequential(nn.MultiheadAttention(6, 2))
    factors = update_factors(attention, {"0.k": 5.0})
    assert {name: shared(factor, 18) for name, factor in factors.items()} == {
        "0.in_proj_weight": [1.0, 5.0, 1.0],
        "0.in_proj_bias": [1.0, 5.0, 1.0],
    }
    timm = mb.make_model("timm/vit_tiny_patch16_224", TASK.info, depth=1, patch_size=8)
    assert set(update_factors(timm, {"q": 2.0})) == {"blocks.0.attn.qkv.weight", "blocks.0.attn.qkv.bias"}


@pytest.mark.parametrize(("pattern", "close"), [("atn.q", "attn.q"), ("attn.qkw", "attn.qkv"), ("heads", "head")])
def test_a_pattern_that_matches_nothing_names_close_ones(pattern: str, close: str) -> None:
    with pytest.raises(ModelError, match=rf"'{pattern}' matches no parameter of ViT; close names are .*{close}"):
        update_factors(mb.make_model("vit", TASK.info), {pattern: 2.0})


@pytest.mark.parametrize("make", [torch.optim.AdamW, torch.optim.SGD])
def test_a_factor_is_what_a_rate_as_many_times_higher_gives(make: type[torch.optim.Optimizer]) -> None:
    torch.manual_seed(0)
    ours, theirs = nn.Linear(4, 3).double(), nn.Linear(4, 3).double()
    theirs.load_state_dict(ours.state_dict())
    single = make(ours.parameters(), lr=0.01, weight_decay=0.2)  # pyright: ignore[reportCallIssue]
    grouped = make([{"params": [theirs.weight], "lr": 0.04}, {"params": [theirs.bias]}], lr=0.01, weight_decay=0.2)  # pyright: ignore[reportCallIssue]
    factors = update_factors(ours, {"weight": 4.0})
    for _ in range(10):
        inputs = torch.randn(5, 4, dtype=torch.float64)
        for model, optimizer in ((ours, single), (theirs, grouped)):
            optimizer.zero_grad()
            model(inputs).square().sum().backward()
            with scaled_updates(dict(model.named_parameters()), factors if model is ours else {}):
                optimizer.step()
    for mine, wanted in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, wanted, rtol=1e-12, atol=1e-12)


def test_a_recipe_reaches_cells_alone_and_stacked_alike() -> None:
    """W_Q stands still at a factor of 0 and the others move; stacked in float64 as alone."""
    changes = {
        "protocol.budget": 1600,
        "protocol.seeds": 2,
        "protocol.learning_rates": [1e-3],
        "protocol.max_grad_norm": 0.1,
    }
    spec = plan("two_step_digits-v1", "vit", "smoke", changes)
    recipe = Recipe(learning_rate_multipliers={"attn.q": 0.0, "attn.k": 3.0})
    spec = spec.model_copy(update={"model": spec.model.model_copy(update={"recipe": recipe})})
    task = task_of(spec)
    with torch.random.fork_rng():
        stacked = StackedTrainer(spec, spec.cells(), task, lambda: build(spec.model.card(), task.info), CPU)
        name = "blocks.0.attn.qkv.weight"
        before = stacked.parameters[name].detach().clone()
        losses = stacked.train_interval(0)
        moved = (stacked.parameters[name].detach() - before).abs().amax((0, 2))
        assert moved[:32].max() == 0
        assert moved[32:].min() > 0
        for index, cell in enumerate(spec.cells()):
            single = SingleTrainer(spec, [cell], task, lambda: build(spec.model.card(), task.info), CPU)
            assert single.train_interval(0) == pytest.approx([losses[index]], rel=1e-4)
            torch.testing.assert_close(
                stacked.parameters[name][index], single.model.get_parameter(name), atol=1e-4, rtol=1e-3
            )


def test_a_multiplier_below_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="greater than or equal to 0"):
        Recipe.model_validate({"learning_rate_multipliers": {"attn.q": -1.0}})
