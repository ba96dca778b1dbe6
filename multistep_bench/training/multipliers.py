"""Learning-rate multipliers: factors of the rate of some parameters, q, k and v of a fused projection apart.

A factor scales the update that the optimiser made, θ ← θ + m·Δθ: with AdamW and SGD exactly what a learning rate m
times as high does, weight decay included. A factor of the gradient would not do: Adam cancels it.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn

from multistep_bench.errors import ModelError

PARTS = "qkv"
Factors = dict[str, torch.Tensor]


def update_factors(model: nn.Module, multipliers: Mapping[str, float]) -> Factors:
    """Parameter name → factor of its updates, a number or broadcastable to the parameter; only of those that match.

    multipliers: pattern → factor. A pattern is one of `fnmatch` that covers whole parts of a parameter's dotted name:
    "attn.proj", "blocks.0.*.weight", "head". A projection whose weight [3·width, ...] holds q, k and v (`qkv` as here
    and in timm, `in_proj_weight` of torch's `MultiheadAttention`) is three parameters more: "attn.q", "attn.k" and
    "attn.v" are its thirds of rows. Factors of several patterns that match one parameter are multiplied.
    Raises `ModelError` for a pattern that matches nothing, naming the closest names.
    """
    rows: dict[str, tuple[str, slice]] = {}  # name as patterns see it → name of the parameter, rows of it
    for name, parameter in model.named_parameters():
        rows[plain_name(name)] = (name, slice(None))
        for part, place in thirds(model, name, parameter).items():
            rows[part] = (name, place)
    parameters = dict(model.named_parameters())
    factors: Factors = {}
    for pattern, factor in multipliers.items():
        matches = [target for seen, target in rows.items() if _matches(seen, pattern)]
        if not matches:
            raise ModelError(_no_match(pattern, rows, model))
        for name, place in matches:
            parameter = parameters[name]
            column = factors.setdefault(
                name, parameter.new_ones(len(parameter) if parameter.ndim else 1, *[1] * (parameter.ndim - 1))
            )
            column[place] *= factor
    return {name: column if parameters[name].ndim else column.squeeze(0) for name, column in factors.items()}


@contextmanager
def scaled_updates(parameters: Mapping[str, torch.Tensor], factors: Factors) -> Iterator[None]:
    """What moves the parameters inside moves them m times as far; parameters may have a leading cell axis."""
    before = {name: parameters[name].detach().clone() for name in factors}
    yield
    with torch.no_grad():
        for name, factor in factors.items():
            parameters[name].copy_(torch.lerp(before[name], parameters[name], factor.expand_as(before[name])))


def _matches(name: str, pattern: str) -> bool:
    return any(fnmatchcase(name, form) for form in (pattern, f"{pattern}.*", f"*.{pattern}", f"*.{pattern}.*"))


def plain_name(name: str) -> str:
    """The name that a parametrised weight had: "a.parametrizations.weight.original" is "a.weight"."""
    parts = name.split(".")
    if len(parts) > 3 and parts[-3] == "parametrizations" and parts[-1] == "original":
        parts = [*parts[:-3], parts[-2]]
    return ".".join(parts)


def thirds(model: nn.Module, name: str, parameter: nn.Parameter) -> dict[str, slice]:
    """Names of q, k and v, in this order, and their rows, where a parameter holds all three one below the other."""
    path, _, attribute = plain_name(name).rpartition(".")
    owner, _, leaf = path.rpartition(".")
    if leaf == "qkv" and hasattr(model.get_submodule(owner), "num_heads"):
        template = f"{owner}.{{}}.{attribute}" if owner else f"{{}}.{attribute}"
    elif attribute in ("in_proj_weight", "in_proj_bias") and isinstance(
        model.get_submodule(path), nn.MultiheadAttention
    ):
        template = f"{path}.{{}}.{attribute.removeprefix('in_proj_')}" if path else "{}." + attribute[8:]
    else:
        return {}
    third = len(parameter) // len(PARTS)
    return {
        template.format(part): slice(index * third, (index + 1) * third)
        for index, part in enumerate(PARTS)
        if len(parameter) % len(PARTS) == 0
    }


def _no_match(pattern: str, names: Mapping[str, Any], model: nn.Module) -> str:
    pieces = {name.rpartition(".")[0] for name in names} | set(names)
    endings = {".".join(piece.split(".")[start:]) for piece in pieces for start in range(piece.count(".") + 1)}
    close = get_close_matches(pattern, sorted(endings), n=3) or sorted(pieces)[:3]
    return (
        f"learning_rate_multipliers: '{pattern}' matches no parameter of {type(model).__name__};"
        f" close names are {', '.join(close)}"
    )
