"""From the name of an attention rule to a module, and to the rules of a model's blocks."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from multistep_bench import registry
from multistep_bench.models.attention.contract import check_rule
from multistep_bench.models.construct import construct


def make_attention(name: str, **options: Any) -> nn.Module:
    """The attention rule of a registered name or an import path `package.module:Class`.

    Raises `NotFound` for an unknown name and `ModelError` for options that the rule does not take.
    """
    return construct(registry.attention_rules.get(name), (), options, what=f"attention rule '{name}'")


def block_rules(
    name: str,
    options: Mapping[str, Any] | None,
    *,
    depth: int,
    heads: int,
    tokens: int,
    head_dim: int,
    causal: bool = False,
    regions: torch.Tensor | None = None,
) -> list[nn.Module]:
    """One attention rule for each of `depth` blocks, the first of them checked by `check_rule`.

    regions: [regions, tokens] bool, given to rules that have `set_regions`. causal: the model masks what comes later.
    Raises `NotFound` or `ModelError`.
    """
    rules = [make_attention(name, **(options or {})) for _ in range(depth)]
    for rule in rules:
        if regions is not None and hasattr(rule, "set_regions"):
            rule.set_regions(regions)  # pyright: ignore[reportCallIssue]
    check_rule(rules[0], name, heads=heads, tokens=tokens, head_dim=head_dim, causal=causal)
    return rules
