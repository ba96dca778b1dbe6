"""Sees what passes through a module during one forward pass: calls of attention rules, of blocks, of projections."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from multistep_bench.diagnostics.layers import Projections, find_blocks, find_rules, is_transposed, linear_layers


@dataclass(frozen=True)
class RuleCall:
    """q [B, heads, queries, d], k and v [B, heads, keys, d] and the mask that a rule was called with."""

    rule: nn.Module
    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    mask: torch.Tensor | None


@dataclass(frozen=True)
class BlockCall:
    """The tokens [B, N, width] that enter a block and leave it."""

    entering: torch.Tensor
    leaving: torch.Tensor


@dataclass(frozen=True)
class ProjectionCall:
    """What enters a linear layer, [B, N, inputs] or another number of axes, and leaves it, [B, N, outputs].

    parameter: the name of `source`, the parameter that the layer's weight [outputs, inputs] is, or is made of.
    transposed: the weight is [inputs, outputs].
    """

    parameter: str
    entering: torch.Tensor
    leaving: torch.Tensor
    weight: torch.Tensor
    source: torch.Tensor
    transposed: bool = False

    def by_weight(self, gradients: torch.Tensor) -> torch.Tensor:
        """[R, outputs, inputs], gradients by the weight → [R, …], by the parameter, where that is another tensor."""
        if self.transposed:
            gradients = gradients.mT
        if self.weight is self.source:
            return gradients
        through = [torch.autograd.grad(self.weight, self.source, each, retain_graph=True)[0] for each in gradients]
        return torch.stack(through)


@dataclass
class Captured:
    """Calls in their order, of rules and blocks with the path of the module, or of the layer that a rule stands in."""

    rules: list[tuple[str, RuleCall]] = field(default_factory=list)
    blocks: list[tuple[str, BlockCall]] = field(default_factory=list)
    projections: list[ProjectionCall] = field(default_factory=list)


@contextmanager
def captured(model: nn.Module, projections: Sequence[Projections] = ()) -> Iterator[Captured]:
    """Fills what it yields while the model runs; afterwards the model has no hook more than before.

    projections: those whose calls are captured, where they are layers of `linear_layers`.
    """
    found = Captured()
    with ExitStack() as hooks:
        for path, rule in find_rules(model).items():
            hook = rule.register_forward_pre_hook(_rule_hook(found, path.rpartition(".")[0] or path), with_kwargs=True)
            hooks.callback(hook.remove)
        for path, block in find_blocks(model).items():
            hooks.callback(block.register_forward_hook(_block_hook(found, path), with_kwargs=True).remove)
        for name, layer in linear_layers(model, projections).items():
            source = model.get_parameter(name)
            hooks.callback(layer.register_forward_hook(_projection_hook(found, name, source)).remove)
        yield found


def labels(names: list[str]) -> list[str]:
    """Names of calls: the path of a module, numbered where it is called more than once."""
    counts, seen, told = Counter(names), Counter(), []
    for name in names:
        told.append(f"{name}[{seen[name]}]" if counts[name] > 1 else name)
        seen[name] += 1
    return told


def _rule_hook(found: Captured, name: str) -> Any:
    def hook(rule: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        given = dict(zip(("q", "k", "v", "mask"), args, strict=False)) | dict(kwargs)
        q, k, v = (given[part].detach() for part in "qkv")
        found.rules.append((name, RuleCall(rule, q, k, v, given.get("mask"))))

    return hook


def _block_hook(found: Captured, name: str) -> Any:
    def hook(block: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any) -> None:
        if (call := block_call(args, kwargs, output)) is not None:
            found.blocks.append((name, call))

    return hook


def block_call(args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any) -> BlockCall | None:
    """What entered and left a block, of several things the first; None where they are no tokens [B, N, width]."""
    entering = args[0] if args else next(iter(kwargs.values()), None)
    leaving = output[0] if isinstance(output, tuple) else output
    if all(isinstance(each, torch.Tensor) and each.ndim == 3 for each in (entering, leaving)):
        return BlockCall(entering, leaving)  # pyright: ignore[reportArgumentType]
    return None


def _projection_hook(found: Captured, name: str, source: nn.Parameter) -> Any:
    def hook(layer: nn.Module, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        weight: Any = layer.weight
        call = ProjectionCall(name, args[0].detach(), output, weight, source, is_transposed(layer))
        found.projections.append(call)

    return hook
