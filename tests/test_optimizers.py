"""Every optimiser that a protocol can name: it learns, resumes bit for bit, and stacked cells are as cells alone."""

import io

import pytest
import torch
from torch import nn

from multistep_bench.errors import CardError, NotFound
from multistep_bench.protocol import Protocol
from multistep_bench.training.decay import decayed_names
from multistep_bench.training.optimizers import (
    OPTIMIZER_KINDS,
    make_optimizer,
    make_stacked_optimizer,
    optimizer_names,
    set_learning_rate,
    why_not_stacked,
)
from multistep_bench.training.timm_optimizers import options as timm_options

RATES = {"adadelta": 1.0, "adagrad": 0.1, "sgd": 0.1}


def protocol(optimizer: str, **changes: object) -> Protocol:
    base = {
        "budget": 1000,
        "batch_size": 10,
        "evaluations": 100,
        "evaluation_items": 300,
        "seeds": 1,
        "learning_rates": [1e-2],
        "optimizer": optimizer,
    }
    return Protocol.model_validate({**base, **changes})


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Embedding(6, 8), nn.Flatten(), nn.LayerNorm(16), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 6)
    )


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int, rate: float) -> list[float]:
    """The losses of steps on sums modulo 6 of two tokens, all pairs in every batch."""
    tokens = torch.cartesian_prod(torch.arange(6), torch.arange(6))
    losses = []
    for _ in range(steps):
        set_learning_rate(optimizer, rate)
        loss = nn.functional.cross_entropy(model(tokens), tokens.sum(1) % 6)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("name", optimizer_names())
def test_an_optimizer_learns_and_resumes_bit_for_bit(name: str) -> None:
    rate = next((rate for part, rate in RATES.items() if part in name), 1e-2)
    model = network()
    optimizer = make_optimizer(model, protocol(name))
    losses = train(model, optimizer, 20, rate)
    assert losses[-1] < losses[0]
    saved = io.BytesIO()
    torch.save((model.state_dict(), optimizer.state_dict()), saved)
    saved.seek(0)
    weights, state = torch.load(saved, weights_only=True)
    again = network()
    restored = make_optimizer(again, protocol(name))
    again.load_state_dict(weights)
    restored.load_state_dict(state)
    assert train(again, restored, 5, rate) == train(model, optimizer, 5, rate)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("adamw", {}),
        ("adamw", {"eps": 1e-2}),
        ("sgd", {}),
        ("sgd", {"momentum": 0.9}),
        ("sgd", {"momentum": 0.8, "dampening": 0.3}),
        ("sgd", {"momentum": 0.8, "nesterov": True}),
    ],
)
def test_stacked_cells_are_updated_as_torch_updates_each(name: str, options: dict[str, object]) -> None:
    """In float64, over 30 steps of random gradients, with a rate and weights of its own for each cell."""
    given = protocol(name, optimizer_options=options, weight_decay=0.3)
    torch.manual_seed(0)
    rates = [1e-3, 0.1]
    models = [nn.Linear(3, 2).double() for _ in rates]
    stacks = {
        key: torch.stack([model.get_parameter(key).detach() for model in models]).requires_grad_()
        for key in ("weight", "bias")
    }
    stacked = make_stacked_optimizer(models[0], stacks, given)
    singles = [make_optimizer(model, given) for model in models]
    for step in range(30):
        gradients = {key: torch.randn_like(stack) for key, stack in stacks.items()}
        for key, stack in stacks.items():
            stack.grad = gradients[key].clone()
        if step == 15:  # a state that is saved and restored is the same state
            state = {
                key: value if key == "steps" else [each.clone() for each in value]
                for key, value in stacked.state_dict().items()
            }
            stacked = make_stacked_optimizer(models[0], stacks, given)
            stacked.load_state_dict(state)
        stacked.step(torch.tensor(rates, dtype=torch.float64))
        for index, (model, single) in enumerate(zip(models, singles, strict=True)):
            for key, parameter in model.named_parameters():
                parameter.grad = gradients[key][index].clone()
            set_learning_rate(single, rates[index])
            single.step()
    for index, model in enumerate(models):
        for key, parameter in model.named_parameters():
            torch.testing.assert_close(stacks[key][index], parameter, rtol=1e-12, atol=1e-12)


def test_every_stacked_optimizer_is_tested_here_and_timms_are_none() -> None:
    assert set(OPTIMIZER_KINDS) == {"adamw", "sgd"}
    assert why_not_stacked(protocol("sgd")) is None
    assert why_not_stacked(protocol("timm/muon")) == "optimizer 'timm/muon' cannot be stacked"


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("adamw", {"optimizer_options": {"epsilon": 1e-6}}, "'adamw' has no option 'epsilon'"),
        ("adamw", {"optimizer_options": {"betas": 1}}, "set protocol.betas"),
        ("sgd", {"optimizer_options": {"betas": 1}}, "'sgd' has no option 'betas'; it takes dampening, momentum"),
        ("sgd", {"optimizer_options": {"momentun": 0.9}}, "did you mean 'momentum'"),
        ("sgd", {"optimizer_options": {"momentum": True}}, "another type than 0.0"),
        ("sgd", {"optimizer_options": {"weight_decay": 0.1}}, "set protocol.weight_decay"),
        ("sgd", {"betas": [0.9, 0.98]}, "'sgd' has no betas"),
        ("timm/muon", {"optimizer_options": {"ns_step": 3}}, "did you mean 'ns_steps'"),
        ("timm/lion", {"optimizer_options": {"lr": 3}}, "set protocol.learning_rates"),
        ("timm/sgd", {"betas": [0.9, 0.98]}, "'timm/sgd' has no betas"),
        ("timm/adahessian", {}, "cannot be resumed"),
        ("timm/muon", {"optimizer_options": {"algo": "none"}}, "cannot be made"),
    ],
)
def test_an_option_that_is_not_taken_is_one_sentence(name: str, changes: dict[str, object], words: str) -> None:
    with pytest.raises(CardError, match=words):
        make_optimizer(network(), protocol(name, **changes))


def test_an_unknown_optimizer_names_the_closest() -> None:
    with pytest.raises(ValueError, match=r"no optimizer 'adamv'\. Did you mean 'adamw'"):
        protocol("adamv")
    with pytest.raises(NotFound, match="Did you mean 'timm/muon'"):
        make_optimizer(network(), protocol("timm/muonn"))


def test_betas_reach_an_optimizer_of_timm_only_where_they_are_set() -> None:
    def betas(**changes: object) -> object:
        return make_optimizer(network(), protocol("timm/lion", **changes)).param_groups[0]["betas"]

    assert betas() == (0.9, 0.99)  # Lion's own, Chen et al. 2023
    assert betas(betas=[0.8, 0.9]) == (0.8, 0.9)


def test_frozen_parameters_are_not_given_to_an_optimizer() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    model[0].requires_grad_(False)
    groups = make_optimizer(model, protocol("timm/lamb")).param_groups
    assert {id(each) for group in groups for each in group["params"]} == {id(each) for each in model[1].parameters()}


def test_an_option_that_a_name_stands_for_is_its_default() -> None:
    assert timm_options("nesterov")["nesterov"] is True
    assert timm_options("momentum")["nesterov"] is False


def test_muon_leaves_embeddings_and_vectors_to_adamw() -> None:
    model = network()
    optimizer = make_optimizer(model, protocol("timm/muon", weight_decay=0.5))
    train(model, optimizer, 1, 1e-2)
    names: dict[torch.Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    by_muon = {names[parameter] for parameter, state in optimizer.state.items() if "momentum_buffer" in state}
    assert by_muon == {"3.weight", "5.weight"}
    decays = {names[p]: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert {name for name, decay in decays.items() if decay == 0.5} == {"0.weight", "3.weight", "5.weight"}
    assert set(decays) == set(names.values())


class Odd(nn.Module):
    """Names that say the opposite of what the parameters are."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Linear(3, 3)
        self.norm = nn.LayerNorm([2, 3])
        self.weight = nn.Parameter(torch.ones(3))
        self.frozen = nn.Parameter(torch.ones(2, 2), requires_grad=False)
        self.inner = Inner()


class Inner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.ones(1, 4, 3))
        self.bias = nn.Parameter(torch.ones(2, 2))

    def no_weight_decay(self) -> set[str]:
        return {"positions"}


def test_weight_decay_depends_on_shapes_and_modules_and_not_on_names() -> None:
    assert decayed_names(Odd()) == {"bias.weight", "inner.bias"}


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
        for group in make_optimizer(model, protocol("adamw", weight_decay=0.05)).param_groups
        for parameter in group["params"]
    }
    found = {name: decay[parameter] for name, parameter in model.named_parameters()}
    assert found == {"linear.weight": 0.05, "linear.bias": 0, "norm.weight": 0, "norm.bias": 0, "cls_token": 0}


def test_betas_and_rate_reach_every_group() -> None:
    optimizer = make_optimizer(nn.Linear(2, 2), protocol("adamw", betas=[0.8, 0.9]))
    set_learning_rate(optimizer, 0.25)
    assert [(group["betas"], group["lr"]) for group in optimizer.param_groups] == [((0.8, 0.9), 0.25)] * 2
