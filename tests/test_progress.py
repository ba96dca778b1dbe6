"""Who is told how far training is."""

import torch
from torch import nn

import multistep_bench as mb
from multistep_bench.training.progress import progress_setter


class Listener(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[float] = []

    def set_progress(self, fraction: float) -> None:
        self.seen.append(fraction)


def test_every_module_is_told_however_deep_it_stands() -> None:
    deep, top = Listener(), Listener()
    top.add_module("inner", nn.ModuleList([nn.Sequential(nn.ReLU(), deep)]))
    tell = progress_setter(top)
    tell(0.25)
    tell(0.5)
    assert (top.seen, deep.seen) == ([0.25, 0.5], [0.25, 0.5])


def test_a_rule_inside_a_users_module_changes_its_temperature() -> None:
    rule = mb.make_attention("heat", start=3.0)
    model = nn.ModuleDict({"block": nn.Sequential(rule)})
    q, k, v = torch.randn(3, 1, 2, 5, 4, generator=torch.Generator().manual_seed(0))
    first = rule(q, k, v)
    progress_setter(model)(1.0)
    assert not torch.allclose(rule(q, k, v), first)


def test_a_model_that_listens_nowhere_is_told_nothing() -> None:
    progress_setter(nn.Linear(2, 2))(0.5)
