"""Attention maps: the weights that each head puts on each token, as the rule itself computes them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from multistep_bench import seeds
from multistep_bench.batch import Batch
from multistep_bench.diagnostics.activations import AttentionCall, capture
from multistep_bench.diagnostics.places import reading_tokens
from multistep_bench.diagnostics.readout import cells_of
from multistep_bench.errors import ModelError, RunError
from multistep_bench.generators.base import TaskGenerator
from multistep_bench.runs.inside import KeptMaps
from multistep_bench.runs.store import Run
from multistep_bench.training.kept import model_at, samples_at
from multistep_bench.training.plan import task_of

TOLERANCE = 1e-3  # of the largest output, for a rule in float32 that divides by small numbers


def attention_maps(model: nn.Module, batch: Batch) -> list[torch.Tensor]:
    """The weights of each layer's heads for a batch, [B, heads, queries, keys]; a last layer that is read at one token
    has one query.

    Raises `ModelError` for a model without attention rules, and for a rule whose output is no weighted sum of values.
    """
    return [weights(call) for call in capture(model, batch).attention]


def weights(call: AttentionCall) -> torch.Tensor:
    """What a rule multiplies values by, [B, heads, queries, keys]: its output where the values are the identity.

    That is the map of a rule that is linear in the values, which is checked on the values that it was given.
    """
    batch, heads, keys, _ = call.k.shape
    identity = torch.eye(keys, dtype=call.v.dtype, device=call.v.device).expand(batch, heads, keys, keys)
    name = type(call.rule).__name__
    with torch.no_grad():
        try:
            found = call.rule(call.q, call.k, identity, call.mask)
        except (RuntimeError, ModelError):  # it takes only values as wide as the keys
            found = _in_pieces(call, identity)
        again = found @ call.v
    limit = TOLERANCE * float(call.out.detach().abs().max().clamp(min=1e-12))
    if not torch.allclose(again, call.out, rtol=0, atol=limit):
        raise ModelError(
            f"attention rule '{name}' gives no weighted sum of values, so it has no map; probe its heads instead"
        )
    return found


def _in_pieces(call: AttentionCall, identity: torch.Tensor) -> torch.Tensor:
    """The same for a rule that takes only values of its own width: some columns of the identity at a time."""
    width = call.v.shape[-1]
    pieces = []
    for columns in identity.split(width, dim=-1):
        missing = width - columns.shape[-1]
        padded = torch.nn.functional.pad(columns, (0, missing))
        pieces.append(call.rule(call.q, call.k, padded, call.mask)[..., : width - missing])
    return torch.cat(pieces, dim=-1)


def kept_maps(maps: Mapping[str, Sequence[torch.Tensor]], batch: Batch, task: TaskGenerator, title: str) -> KeptMaps:
    """What of maps is kept in a run's folder: the rows of the token that logits are read from.

    maps: moment → a layer's weights, [B, heads, queries, keys].
    """
    layers = next(iter(maps.values()))
    tokens = layers[0].shape[-1]
    reading = reading_tokens(task.info, batch, tokens)
    heads = [f"layer {i} head {h}" for i, layer in enumerate(layers, 1) for h in range(1, layer.shape[1] + 1)]
    samples = range(len(batch.targets))
    rows = {at: torch.cat([_read(layer, reading) for layer in found], 1) for at, found in maps.items()}
    images = [_bytes(batch, i) for i in samples] if task.info.kind == "image" else []
    return KeptMaps(
        title,
        tuple(maps),
        tuple(heads),
        {at: each.float().cpu().numpy() for at, each in rows.items()},
        np.array([token_names(batch, i, task, tokens) for i in samples], dtype=np.str_),
        np.array(images, dtype=np.uint8),
    )


def _read(weights: torch.Tensor, reading: torch.Tensor) -> torch.Tensor:
    """[B, heads, queries, keys] → [B, heads, keys], of the token that is read; a single query is that token."""
    if weights.shape[2] == 1:
        return weights[:, :, 0]
    return weights[torch.arange(len(weights)), :, reading]


def _bytes(batch: Batch, sample: int) -> np.ndarray:
    """[H, W, 3] uint8"""
    assert isinstance(batch.inputs, torch.Tensor)  # image tasks keep to it: batch.Batch
    image = batch.inputs[sample].clamp(0, 1).cpu().expand(3, -1, -1)
    return (255 * image).round().byte().permute(1, 2, 0).numpy()


def token_names(batch: Batch, sample: int, task: TaskGenerator, tokens: int) -> list[str]:
    """Words of a sequence; x1 y1 x2 … of an episode, whose items and labels alternate; else numbers.

    In an episode items of the query's class, and their labels, are marked with a star.
    """
    if isinstance(batch.inputs, dict):
        steps = {name: int(values[sample]) for name, values in batch.steps.items()}
        same = [steps.get(f"item_{item}_class", -1) == steps.get("query_class") for item in range(tokens // 2)]
        marks = [*("*" if each else "" for each in same), ""]
        return [f"{'xy'[index % 2]}{index // 2 + 1}{marks[index // 2]}" for index in range(tokens)]
    if task.info.kind == "image":
        return [str(index) for index in range(tokens)]
    words = [task.token_name(token) for token in batch.inputs[sample].tolist()]
    return words if len(words) == tokens else [str(index) for index in range(tokens)]


def maps_of_run(
    run: Run,
    at: Sequence[str],
    samples: int,
    rate: float | str | None = None,
    seed: int | None = None,
    data_root: str | Path | None = None,
) -> tuple[dict[str, list[torch.Tensor]], Batch, TaskGenerator, str]:
    """The maps of one cell at moments of its training, the held-out samples that they are of, the task, the cell.

    rate: as `probe_run` has it. seed: an index, by default the first whose cell has all the moments.
    Raises `BenchError` where there is none.
    """
    task = task_of(run.spec, data_root)
    batch = task.sample(samples, split="eval", rng=seeds.generator(seeds.derive("attention")))
    cells = set.intersection(*(set(cells_of(run, rate, moment)) for moment in at))
    found = sorted(cell for cell in cells if seed is None or cell.seed_index == seed)
    if not found:
        raise RunError(
            f"--seed {seed}: it has not all of {', '.join(at)}; there are {sorted(c.seed_index for c in cells)}"
        )
    cell = found[0]
    maps = {
        moment: attention_maps(model_at(run, cell, samples_at(run, cell, moment), data_root), batch) for moment in at
    }
    return maps, batch, task, f"learning rate {run.spec.learning_rate(cell):g}, seed {cell.seed_index}"
