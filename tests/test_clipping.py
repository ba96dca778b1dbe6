"""Clipping stacked gradients against torch's clipping of each cell's."""

import torch
from torch import nn

from multistep_bench.training.clipping import clip_stacked


def test_each_cell_is_clipped_by_its_own_norm_as_torch_clips_it() -> None:
    torch.manual_seed(0)
    weight, bias = torch.zeros(3, 2, 4, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    weight.grad = torch.randn_like(weight) * torch.tensor([0.01, 1.0, 100.0]).view(3, 1, 1)
    bias.grad = torch.tensor([0.02, 5.0, 1.0], dtype=torch.float64)
    without = torch.zeros(3, 5)
    cells = [(weight.grad[index].clone(), bias.grad[index].clone()) for index in range(3)]
    clip_stacked([weight, without, bias], 0.5)
    assert without.grad is None
    for index, gradients in enumerate(cells):
        alone = [nn.Parameter(torch.zeros_like(gradient)) for gradient in gradients]
        for parameter, gradient in zip(alone, gradients, strict=True):
            parameter.grad = gradient
        nn.utils.clip_grad_norm_(alone, 0.5)
        for tensor, parameter in zip((weight, bias), alone, strict=True):
            assert tensor.grad is not None
            torch.testing.assert_close(tensor.grad[index], parameter.grad)
    assert torch.equal(weight.grad[0], cells[0][0])  # below the norm: as it was
