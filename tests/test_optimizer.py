"""The learning rate over a budget, and which parameters decay."""

import pytest
import torch
from torch import nn

from multistep_bench.protocol import Protocol
from multistep_bench.training.optimizers import make_optimizer, set_learning_rate
from multistep_bench.training.schedules import learning_rate


def protocol(**changes: object) -> Protocol:
    base = {
        "budget": 100_000,
        "batch_size": 10,
        "evaluations": 100,
        "evaluation_items": 300,
        "seeds": 1,
        "learning_rates": [1e-3],
    }
    return Protocol.model_validate({**base, **changes})


def test_constant_schedule_warms_up_linearly() -> None:
    constant = protocol(warmup=0.1, warmup_rate=2e-4)
    rates = [learning_rate(constant, 1e-3, samples) for samples in (0, 5_000, 10_000, 99_990)]
    assert rates == pytest.approx([2e-4, 6e-4, 1e-3, 1e-3])


def test_cosine_counts_from_the_start_and_ends_at_the_final_rate() -> None:
    cosine = protocol(schedule="cosine", warmup=0.1, warmup_rate=1e-6, final_rate=1e-5)
    # 1e-5 + ½(1e-3 − 1e-5)(1 + cos(π/4)) at a quarter of the budget
    rates = [learning_rate(cosine, 1e-3, samples) for samples in (0, 25_000, 50_000, 100_000)]
    assert rates == pytest.approx([1e-6, 8.5501785e-4, 5.05e-4, 1e-5])


def test_a_line_falls_from_the_warmup_to_the_final_rate() -> None:
    linear = protocol(schedule="linear", warmup=0.2, warmup_rate=1e-6, final_rate=1e-4)
    rates = [learning_rate(linear, 1e-3, samples) for samples in (0, 20_000, 60_000, 100_000)]
    assert rates == pytest.approx([1e-6, 1e-3, 5.5e-4, 1e-4])


def test_the_inverse_square_root_halves_the_rate_in_four_times_the_samples() -> None:
    root = protocol(schedule="inverse_sqrt", warmup=0.1)
    rates = [learning_rate(root, 1e-3, samples) for samples in (10_000, 40_000, 90_000)]
    assert rates == pytest.approx([1e-3, 5e-4, 1e-3 / 3])
    with pytest.raises(ValueError, match="set warmup above 0"):
        protocol(schedule="inverse_sqrt")


def test_a_schedule_period_holds_the_rate_for_an_epoch() -> None:
    stepped = protocol(schedule="cosine", schedule_period=50_000)
    assert learning_rate(stepped, 1e-3, 49_990) == pytest.approx(1e-3)
    assert learning_rate(stepped, 1e-3, 99_990) == pytest.approx(learning_rate(stepped, 1e-3, 50_000))


def test_a_rate_below_the_warmup_rate_never_rises_above_itself() -> None:
    low = protocol(warmup=0.5, warmup_rate=1e-3, schedule="cosine", final_rate=1e-3)
    assert all(learning_rate(low, 1e-5, samples) == pytest.approx(1e-5) for samples in (0, 30_000, 60_000, 90_000))


def test_biases_norms_and_named_parameters_do_not_decay() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 3)
            self.norm = nn.LayerNorm(3)
            self.cls_token = nn.Parameter(torch.ones(1, 1, 3))

        def no_weight_decay(self) -> set[str]:
            return {"cls_token"}

    model = Model()
    decay = {
        parameter: group["weight_decay"]
        for group in make_optimizer(model, protocol(weight_decay=0.05)).param_groups
        for parameter in group["params"]
    }
    found = {name: decay[parameter] for name, parameter in model.named_parameters()}
    assert found == {"linear.weight": 0.05, "linear.bias": 0, "norm.weight": 0, "norm.bias": 0, "cls_token": 0}


def test_betas_and_rate_reach_every_group() -> None:
    optimizer = make_optimizer(nn.Linear(2, 2), protocol(betas=[0.8, 0.9]))
    set_learning_rate(optimizer, 0.25)
    assert [(group["betas"], group["lr"]) for group in optimizer.param_groups] == [((0.8, 0.9), 0.25)] * 2
