"""Finds the attention layers of any module: its rules, the projections W_Q, W_K, W_V and the blocks around them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from multistep_bench import registry
from multistep_bench.errors import ModelError
from multistep_bench.training.multipliers import PARTS, plain_name, thirds

ATTRIBUTE = "diagnostic_projections"
APART = (("q", "k", "v"), ("q_proj", "k_proj", "v_proj"), ("query", "key", "value"), ("to_q", "to_k", "to_v"))


Place = slice | tuple[slice, slice]  # rows of a parameter, or rows and columns
Part = tuple[str, Place]  # of a parameter of that name


@dataclass(frozen=True)
class Projections:
    """W_Q, W_K and W_V of one layer: for each the name of a parameter and the part of it that is meant."""

    layer: str
    parts: tuple[Part, Part, Part]


def find_rules(model: nn.Module) -> dict[str, nn.Module]:
    """Path → module of every attention rule: those of registered classes, and what an attention of ours calls."""
    registered = tuple(each for each in registry.attention_rules.loaded() if isinstance(each, type))
    found = {}
    for path, module in model.named_modules():
        owner = model.get_submodule(path.rpartition(".")[0])
        ours = path.rpartition(".")[2] == "rule" and hasattr(owner, "rowwise")
        if isinstance(module, registered) or ours:
            found[path] = module
    return found


def find_projections(model: nn.Module) -> list[Projections]:
    """The projections of every layer, in the order of the modules.

    Found are fused weights (`qkv` beside `num_heads`, torch's `MultiheadAttention`, `c_attn` of GPT-2 as transformers
    has it, whose weight is [inputs, 3·outputs]), linear layers side by side that are named as in `APART`, and what a
    module names in its attribute `diagnostic_projections`, a dictionary {"q": …, "k": …, "v": …} of paths of parameters
    below that module. Raises `ModelError` for such an attribute that does not hold three paths of parameters.
    """
    parameters = dict(model.named_parameters())
    found = []
    for path, module in model.named_modules():
        begin = f"{path}." if path else ""
        if hasattr(module, ATTRIBUTE):
            parts = _named(begin, getattr(module, ATTRIBUTE), parameters)
            found.append(Projections(path, parts))
            continue
        for names in APART:
            weights = [f"{begin}{name}.weight" for name in names]
            if all(weight in parameters and parameters[weight].ndim == 2 for weight in weights):
                q, k, v = ((weight, slice(None)) for weight in weights)
                found.append(Projections(path, (q, k, v)))
        if (weight := f"{begin}c_attn.weight") in parameters and is_transposed(module.get_submodule("c_attn")):
            third = parameters[weight].shape[1] // 3
            q, k, v = ((weight, (slice(None), slice(i * third, (i + 1) * third))) for i in range(3))
            found.append(Projections(path, (q, k, v)))
    for name, parameter in parameters.items():
        rows = thirds(model, name, parameter)
        if rows and parameter.ndim == 2:
            q, k, v = ((name, place) for place in rows.values())
            found.append(Projections(next(iter(rows)).removesuffix(".weight").rpartition(".")[0], (q, k, v)))
    order = {path: index for index, (path, _) in enumerate(model.named_modules())}
    return sorted(found, key=lambda each: order[each.layer])


def _named(begin: str, given: object, parameters: Mapping[str, nn.Parameter]) -> tuple[Part, Part, Part]:
    place = f"{ATTRIBUTE} of {begin[:-1] or 'the model'}"
    if not isinstance(given, Mapping) or set(given) != set(PARTS):
        raise ModelError(f"{place} is {given!r}; give a dictionary of the paths of three parameters, by q, k and v")
    for part in PARTS:
        if f"{begin}{given[part]}" not in parameters:
            raise ModelError(f"{place} names '{given[part]}' as {part}, no parameter below it; correct the path")
    q, k, v = ((f"{begin}{given[part]}", slice(None)) for part in PARTS)
    return q, k, v


def is_transposed(layer: nn.Module) -> bool:
    """Whether a layer is transformers' `Conv1D`, which is linear with a weight [inputs, outputs]."""
    return type(layer).__name__ == "Conv1D" and type(layer).__module__.startswith("transformers.")


def linear_layers(model: nn.Module, projections: Sequence[Projections]) -> dict[str, nn.Module]:
    """Parameter's name → the linear layer that applies it as its weight, of those projections that have one.

    Others, as `in_proj_weight` of torch's `MultiheadAttention`, are applied by no module of their own.
    """
    found = {}
    for name in dict.fromkeys(name for layer in projections for name, _ in layer.parts):
        path, _, attribute = plain_name(name).rpartition(".")
        layer = model.get_submodule(path)
        if attribute == "weight" and (isinstance(layer, nn.Linear) or is_transposed(layer)):
            found[name] = layer
    return found


def find_blocks(model: nn.Module) -> dict[str, nn.Module]:
    """Path → module of the blocks of a residual stream.

    A block is the innermost member of an `nn.ModuleList` or `nn.Sequential` that holds an attention layer. Where none
    is found, the blocks of a model of transformers are the members of the list of `num_hidden_layers`.
    """
    inside = [*find_rules(model), *(each.layer for each in find_projections(model))]
    found = {}
    for path, module in model.named_modules():
        owner = model.get_submodule(path.rpartition(".")[0]) if path else None
        if isinstance(owner, nn.ModuleList | nn.Sequential) and any(each.startswith(f"{path}.") for each in inside):
            found[path] = module
    found = {path: module for path, module in found.items() if not any(each.startswith(f"{path}.") for each in found)}
    return found or _configured_layers(model)


def _configured_layers(model: nn.Module) -> dict[str, nn.Module]:
    """The members of the first list of modules that is as long as a configuration says."""
    configurations = (getattr(module, "config", None) for module in model.modules())
    counts = {getattr(each, "num_hidden_layers", None) for each in configurations} - {None}
    for path, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) in counts:
            return {f"{path}.{name}": layer for name, layer in module.named_children()}
    return {}
