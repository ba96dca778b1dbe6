"""Optimisers over parameters stacked on a leading cell axis, with a learning rate per cell."""
# pyright: reportPrivateImportUsage=false
# torch's _foreach functions are public in all but name.

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch

from multistep_bench.protocol import Protocol


class StackedOptimizer(ABC):
    """Updates the parameters of G cells at once.

    parameters: name → [G, ...], the stacks of G cells; `decayed` names those that decay.
    """

    OPTIONS: Mapping[str, Any]  # keys of the protocol's `optimizer_options`, with torch's defaults

    def __init__(self, parameters: dict[str, torch.Tensor], decayed: set[str], protocol: Protocol) -> None:
        self.parameters = list(parameters.values())
        self.decayed = [index for index, name in enumerate(parameters) if name in decayed]
        self.weight_decay = protocol.weight_decay
        self.options = {**self.OPTIONS, **protocol.optimizer_options}
        self.steps = 0

    @torch.no_grad()
    def step(self, rates: torch.Tensor) -> None:
        """One update from the parameters' gradients, which are then cleared; rates [G]."""
        gradients = [tensor.grad if tensor.grad is not None else torch.zeros_like(tensor) for tensor in self.parameters]
        self.steps += 1
        self._update(gradients, rates)
        for tensor in self.parameters:
            tensor.grad = None

    @abstractmethod
    def _update(self, gradients: list[torch.Tensor], rates: torch.Tensor) -> None:
        """Moves `parameters` by their gradients; `steps` counts this one."""

    @abstractmethod
    def moments(self) -> dict[str, list[torch.Tensor]]:
        """The state besides the number of steps: name → a tensor for each parameter."""

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps, **self.moments()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.steps = state["steps"]
        for name, tensors in self.moments().items():
            for tensor, value in zip(tensors, state[name], strict=True):
                tensor.copy_(value)

    def _decaying(self, tensors: list[torch.Tensor]) -> list[torch.Tensor]:
        return [tensors[index] for index in self.decayed]


class StackedAdamW(StackedOptimizer):
    """For each cell the update of `torch.optim.AdamW` (Loshchilov and Hutter 2019, algorithm 2)."""

    OPTIONS: Mapping[str, Any] = {"eps": 1e-8}

    def __init__(self, parameters: dict[str, torch.Tensor], decayed: set[str], protocol: Protocol) -> None:
        super().__init__(parameters, decayed, protocol)
        self.betas = protocol.betas
        self.means = [torch.zeros_like(tensor) for tensor in self.parameters]
        self.squares = [torch.zeros_like(tensor) for tensor in self.parameters]

    def _update(self, gradients: list[torch.Tensor], rates: torch.Tensor) -> None:
        first, second = self.betas
        if self.decayed:  # torch's functions take no empty list
            decaying = self._decaying(self.parameters)
            kept = [_along(1 - rates * self.weight_decay, tensor) for tensor in decaying]
            torch._foreach_mul_(decaying, kept)
        torch._foreach_lerp_(self.means, gradients, 1 - first)
        torch._foreach_mul_(self.squares, second)
        torch._foreach_addcmul_(self.squares, gradients, gradients, 1 - second)
        deviations = torch._foreach_sqrt(self.squares)
        torch._foreach_div_(deviations, math.sqrt(1 - second**self.steps))
        torch._foreach_add_(deviations, self.options["eps"])
        updates = torch._foreach_div(self.means, deviations)
        scales = rates / (1 - first**self.steps)
        torch._foreach_mul_(updates, [_along(scales, tensor) for tensor in updates])
        torch._foreach_sub_(self.parameters, updates)

    def moments(self) -> dict[str, list[torch.Tensor]]:
        return {"means": self.means, "squares": self.squares}


class StackedSGD(StackedOptimizer):
    """For each cell the update of `torch.optim.SGD`, weight decay added to the gradient, as there.

    b ← momentum·b + (1 − dampening)·g, with b = g at the first step; θ ← θ − η·b, or with `nesterov`
    θ ← θ − η·(g + momentum·b) (Sutskever et al. 2013, in torch's form).
    """

    OPTIONS: Mapping[str, Any] = {"momentum": 0.0, "dampening": 0.0, "nesterov": False}

    def __init__(self, parameters: dict[str, torch.Tensor], decayed: set[str], protocol: Protocol) -> None:
        super().__init__(parameters, decayed, protocol)
        self.momenta = [torch.zeros_like(tensor) for tensor in self.parameters] if self.options["momentum"] else []

    def _update(self, gradients: list[torch.Tensor], rates: torch.Tensor) -> None:
        if self.decayed and self.weight_decay:
            decaying = set(self.decayed)
            gradients = [
                gradient.add(tensor, alpha=self.weight_decay) if index in decaying else gradient
                for index, (gradient, tensor) in enumerate(zip(gradients, self.parameters, strict=True))
            ]
        updates = gradients
        if self.momenta:
            momentum, dampening = self.options["momentum"], self.options["dampening"]
            torch._foreach_mul_(self.momenta, momentum)
            torch._foreach_add_(self.momenta, gradients, alpha=1.0 if self.steps == 1 else 1 - dampening)
            updates = self.momenta
            if self.options["nesterov"]:
                updates = torch._foreach_add(gradients, self.momenta, alpha=momentum)
        torch._foreach_sub_(self.parameters, torch._foreach_mul(updates, [_along(rates, each) for each in updates]))

    def moments(self) -> dict[str, list[torch.Tensor]]:
        return {"momenta": self.momenta}


def _along(rates: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    """rates [G] shaped to multiply `tensor` [G, ...] cell by cell, in its type."""
    return rates.to(tensor.dtype).view(-1, *[1] * (tensor.ndim - 1))
