"""What passes through a transformer for a batch: queries, keys, values, outputs of heads, the residual stream."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from multistep_bench import registry
from multistep_bench.batch import Batch
from multistep_bench.diagnostics.capture import block_call
from multistep_bench.diagnostics.layers import find_blocks
from multistep_bench.errors import ModelError
from multistep_bench.models.build import logits
from multistep_bench.models.transformer import Attention


@dataclass(frozen=True)
class AttentionCall:
    """What one attention rule was given and gave, in the order in which the rules were called.

    q:    [B, heads, queries, head_dim]; a last layer that is read at one token has one query.
    k, v: [B, heads, keys, head_dim]. out: like q, what each head gives before the projection.
    mask: bool, True where a query attends, or None.
    """

    rule: nn.Module
    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    out: torch.Tensor
    mask: torch.Tensor | None


@dataclass(frozen=True)
class Activations:
    """What a model computed for a batch, without gradients.

    attention: one entry a layer, of rules of the suite. residual: [B, tokens, width] before the first block, then after
    each of `layers.find_blocks`; empty for a module without blocks that take and give tokens.
    """

    attention: list[AttentionCall] = field(default_factory=list)
    residual: list[torch.Tensor] = field(default_factory=list)

    @property
    def tokens(self) -> int:
        return max(
            (*(call.k.shape[2] for call in self.attention), *(each.shape[1] for each in self.residual)), default=0
        )


def capture(model: nn.Module, batch: Batch) -> Activations:
    """Shows a batch to a model in evaluation mode and returns what passed through it; the model is left as it was.

    Attention rules are found by themselves: modules of a registered class, and the rules of the reference transformers.
    A rule that is called several times gives a layer each time. Raises `ModelError` for a model without rules and
    blocks.
    """
    found = Activations()
    handles = [rule.register_forward_hook(_note_rule(found), with_kwargs=True) for rule in attention_rules(model)]
    for block in find_blocks(model).values():
        handles.append(block.register_forward_hook(_note_block(found), with_kwargs=True))
    training = model.training
    try:
        with torch.no_grad():
            logits(model.eval(), batch)
    finally:
        model.train(training)
        for handle in handles:
            handle.remove()
    if not found.attention and not found.residual:
        raise ModelError(
            f"{type(model).__name__} calls no attention rule of the suite and has no blocks of tokens, so there is"
            " nothing to look into; call a rule made by make_attention, as README.md shows under 'Your attention rule'"
        )
    return found


def attention_rules(model: nn.Module) -> list[nn.Module]:
    """The modules of a model that are attention rules, each once."""
    factories = map(registry.attention_rules.get, registry.attention_rules.names())
    registered = tuple(factory for factory in factories if isinstance(factory, type))
    found = {id(module): module for module in model.modules() if isinstance(module, registered)}
    found |= {id(module.rule): module.rule for module in model.modules() if isinstance(module, Attention)}
    return list(found.values())


def _note_rule(found: Activations) -> Callable[..., None]:
    def note(rule: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: torch.Tensor) -> None:
        given = dict(zip(("q", "k", "v", "mask"), args, strict=False)) | kwargs
        found.attention.append(AttentionCall(rule, given["q"], given["k"], given["v"], out, given.get("mask")))

    return note


def _note_block(found: Activations) -> Callable[..., None]:
    def note(block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        if (call := block_call(args, kwargs, out)) is None:
            return
        if not found.residual:
            found.residual.append(call.entering)
        found.residual.append(call.leaving)

    return note
