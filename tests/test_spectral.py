"""σReparam: the spectral norm of every linear layer is γ, alone and stacked, through interruptions too."""

import pytest
import torch
from torch import nn

import multistep_bench as mb
from multistep_bench.errors import CardError, ModelError
from multistep_bench.models.build import build, resolve_model
from multistep_bench.models.spectral import Spectral, make_spectral
from multistep_bench.strict import changed
from multistep_bench.training.plan import plan, task_of
from multistep_bench.training.stackable import why_not_stackable
from multistep_bench.training.stacked import StackedTrainer
from multistep_bench.training.trainer import SingleTrainer

TASK = mb.make_task("two_step_digits-v1")
CPU = torch.device("cpu")


def test_a_weight_is_divided_by_its_largest_singular_value_and_multiplied_by_gamma() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3))
    before = [layer.weight.detach().clone() for layer in (model[0], model[2])]  # pyright: ignore
    make_spectral(model)
    for _ in range(100):  # the power iteration converges
        model(torch.randn(2, 6))
    model[2].get_parameter("parametrizations.weight.0.gamma").data.fill_(2.5)
    for layer, weight, gamma in ((model[0], before[0], 1.0), (model[2], before[1], 2.5)):
        torch.testing.assert_close(
            layer.weight, gamma * weight / torch.linalg.matrix_norm(weight, 2), rtol=1e-4, atol=1e-5
        )


def test_the_first_weights_already_have_a_spectral_norm_of_about_one() -> None:
    torch.manual_seed(0)
    layer = make_spectral(nn.Sequential(nn.Linear(32, 64))).eval()[0]  # pyright: ignore[reportIndexIssue]
    assert torch.linalg.matrix_norm(layer.weight.detach(), 2).item() == pytest.approx(1, abs=0.06)


def test_the_gradient_is_that_of_the_formula() -> None:
    """d/dW of γ·⟨A, W⟩/(uᵀWv) with u, v constant is γ·(A/σ − ⟨A, W⟩·uvᵀ/σ²); of γ it is ⟨A, W⟩/σ."""
    torch.manual_seed(0)
    weight, target = torch.randn(4, 3, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)
    spectral = Spectral(weight).eval()
    weight.requires_grad_()
    (spectral(weight) * target).sum().backward()
    sigma = (spectral.u @ weight @ spectral.v).detach()
    inner = (target * weight).sum().detach()
    outer = spectral.u[:, None] * spectral.v
    torch.testing.assert_close(weight.grad, target / sigma - inner * outer / sigma**2)
    torch.testing.assert_close(spectral.gamma.grad, inner / sigma)


def test_one_power_iteration_a_pass_in_training_and_none_in_evaluation() -> None:
    torch.manual_seed(0)
    weight = torch.randn(4, 3)
    spectral = Spectral(weight)
    other = torch.randn(4, 3)
    v = nn.functional.normalize(other.t() @ spectral.u, dim=0)
    u = nn.functional.normalize(other @ v, dim=0)
    spectral.eval()(other)
    assert not torch.allclose(spectral.u, u)
    spectral.train()(other)
    torch.testing.assert_close((spectral.u, spectral.v), (u, v))


def test_a_recipe_makes_every_linear_layer_of_a_model_so_and_counts_gamma() -> None:
    card = resolve_model("vit_sigma_reparam")
    model = build(card, TASK.info)
    layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
    assert len(layers) == 3 * 4 + 1
    assert all(hasattr(layer, "parametrizations") for layer in layers)
    plain = mb.make_model("vit", TASK.info)
    extra = sum(p.numel() for p in model.parameters()) - sum(p.numel() for p in plain.parameters())
    assert extra == len(layers)


def test_stacked_cells_train_as_alone() -> None:
    changes = {
        "protocol.budget": 3200,
        "protocol.seeds": 2,
        "protocol.learning_rates": [1e-3],
        "protocol.max_grad_norm": 1.0,
    }
    spec = plan("two_step_digits-v1", "vit_sigma_reparam", "smoke", changes)
    task = task_of(spec)

    def make() -> nn.Module:
        return build(spec.model.card(), task.info)

    with torch.random.fork_rng():
        batch = task.sample(2, split="eval", rng=torch.Generator().manual_seed(0))
        assert why_not_stackable(spec, make(), batch.inputs) is None
        stacked = StackedTrainer(spec, spec.cells(), task, make, CPU)
        together = [stacked.train_interval(0), stacked.train_interval(32)]
        for index, cell in enumerate(spec.cells()):
            single = SingleTrainer(spec, [cell], task, make, CPU)
            alone = [single.train_interval(0)[0], single.train_interval(32)[0]]
            assert [losses[index] for losses in together] == pytest.approx(alone, rel=1e-4)
            for name, buffer in single.model.named_buffers():
                torch.testing.assert_close(stacked.buffers[name][index], buffer, rtol=1e-3, atol=1e-4)


def test_tied_weights_and_zeros_stay_and_a_model_without_layers_is_refused() -> None:
    tied = nn.Sequential(nn.Embedding(4, 4), nn.Linear(4, 4, bias=False), nn.Linear(4, 2), nn.Linear(2, 2))
    tied[1].weight = tied[0].weight  # pyright: ignore
    nn.init.zeros_(tied[2].weight)  # pyright: ignore
    make_spectral(tied)
    assert [hasattr(module, "parametrizations") for module in tied] == [False, False, False, True]
    with pytest.raises(ModelError, match="Conv2d has none"):
        make_spectral(nn.Conv2d(1, 1, 1))


def test_it_does_not_go_with_rescaled_gradients() -> None:
    with pytest.raises(CardError, match="leave one of them out"):
        changed(resolve_model("vit"), {"recipe": {"gradient_rescaling": "head", "linear_layers": "spectral"}}, "here")
