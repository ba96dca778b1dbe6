"""From the name of an attention rule to a module."""

from typing import Any

from torch import nn

from multistep_bench import registry
from multistep_bench.models.construct import construct


def make_attention(name: str, **options: Any) -> nn.Module:
    """The attention rule of a registered name or an import path `package.module:Class`.

    Raises `NotFound` for an unknown name and `ModelError` for options that the rule does not take.
    """
    return construct(registry.attention_rules.get(name), (), options, what=f"attention rule '{name}'")
