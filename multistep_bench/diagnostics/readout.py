"""Probes of a run: what can be read off each layer at moments of its training, over the seeds of a learning rate."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from multistep_bench import seeds
from multistep_bench.batch import Batch
from multistep_bench.diagnostics.activations import Activations, capture
from multistep_bench.diagnostics.code_length import code_length
from multistep_bench.diagnostics.places import (
    MEAN,
    READING,
    TOKENS,
    features,
    has_reading_token,
    reading_tokens,
    region_tokens,
    single_tokens,
)
from multistep_bench.diagnostics.probes import ProbeResult, probe
from multistep_bench.errors import BenchError
from multistep_bench.generators.base import TaskGenerator
from multistep_bench.runs.spec import Cell
from multistep_bench.runs.store import Run
from multistep_bench.scoring.probe_rows import Row
from multistep_bench.scoring.statistics import mean_interval, wilson
from multistep_bench.training.kept import PLATEAU, event_samples, kept_on_plateau, model_at, samples_at
from multistep_bench.training.plan import task_of

REPRESENTATIONS = ("residual", "q", "k", "v", "heads")
STEPS, LABEL = "steps", "label"
ALL_RATES = ALL_PLACES = "all"
MOST_CLASSES = 16  # of a step that "steps" stands for: numbers of images are none


@dataclass(frozen=True)
class Question:
    """What is probed. of: names of steps, "label", or "steps" for every step of 2 to 16
    classes that is no other one under another name. places: "reading", regions of
    the layout (means over their tokens), one token of a region ("context 3"), "tokens" for each of these, "mean"; "all"
    but single tokens. items: of training, and half as many of testing. bits: whether code lengths are wanted.
    """

    at: Sequence[str] = ("before", "after", "final")
    of: Sequence[str] = (STEPS, LABEL)
    representations: Sequence[str] = ("residual", "heads")
    places: Sequence[str] = (READING,)
    by_head: bool = False
    items: int = 2000
    bits: bool = True


def probe_run(
    run: Run, question: Question, rate: float | str | None = None, data_root: str | Path | None = None
) -> list[Row]:
    """Probes the cells of one learning rate, or of all, of a run that keeps their weights.

    rate: by default the one with the most Eureka-moments, of equal ones the lowest; "all" of them. Cells without a
    Eureka-moment are left out where a moment is "before" or "after" it, and those that keep no weights from their
    plateau where it is "plateau"; other moments take every cell.
    Items come from the held-out split, from streams of their own, the same for every cell; no test item is also a
    training item. Raises `BenchError` for names that are none, and `RunError` where weights are not kept.
    """
    for name in question.representations:
        if name not in REPRESENTATIONS:
            raise BenchError(f"representation '{name}' is none of {', '.join(REPRESENTATIONS)}")
    task = task_of(run.spec, data_root)
    train, test = probe_items(task, question.items)
    variables = _variables(task, train, question.of)
    known = {name: (_values(task, train, name), _values(task, test, name)) for name in variables}
    rows = []
    for at in question.at:
        measured: dict[tuple[str, int, str, str], list[tuple[ProbeResult, float | None]]] = {}
        for cell in cells_of(run, rate, at):
            model = model_at(run, cell, samples_at(run, cell, at), data_root)
            found = [_representations(capture(model, batch), task, batch, question) for batch in (train, test)]
            for key, x in found[0].items():
                for name, result in probe(x, found[1][key], known).items():
                    bits = _bits(x, known[name][0]) if question.bits else None
                    measured.setdefault((name, *key), []).append((result, bits))
        rows += [_row(at, key, results) for key, results in measured.items()]
    return sorted(rows, key=lambda row: (variables.index(row.variable), question.at.index(row.at)))


def probe_items(task: TaskGenerator, items: int) -> tuple[Batch, Batch]:
    """Held-out samples to fit probes to and half as many to test them on, none of which is among the former."""
    draws = [
        task.sample(count, split="eval", rng=seeds.generator(seeds.derive("probe", name)))
        for name, count in (("train", items), ("test", max(1, items // 2)))
    ]
    rows = [
        [b"".join(part[i].numpy().tobytes() for part in _inputs(batch)) for i in range(len(batch.targets))]
        for batch in draws
    ]
    seen = set(rows[0])
    fresh = torch.tensor([row not in seen for row in rows[1]])
    if not fresh.any():
        raise BenchError(f"every test item of {task.id} is among {items} training items; give fewer with --items")
    return draws[0], draws[1].each(lambda tensor: tensor[fresh])


def _inputs(batch: Batch) -> list[torch.Tensor]:
    inputs = batch.inputs if isinstance(batch.inputs, dict) else {"": batch.inputs}
    return [inputs[name].contiguous() for name in sorted(inputs)]


def _variables(task: TaskGenerator, batch: Batch, of: Sequence[str]) -> list[str]:
    names = []
    for name in of:
        if name == STEPS:
            names += _steps(batch)
        elif name != LABEL and name not in batch.steps:
            raise BenchError(f"--of {name}: {task.id} has no such step; it has {', '.join(batch.steps)} and {LABEL}")
        elif len(np.unique(_values(task, batch, name))) < 2:
            raise BenchError(f"--of {name}: it is the same in every sample of {task.id}; name another step")
        else:
            names.append(name)
    return list(dict.fromkeys(names))


def _steps(batch: Batch) -> list[str]:
    """Steps of two classes or more, not too many; of several that are one variable under other names, the first."""
    found: dict[bytes, str] = {}
    for name, values in batch.steps.items():
        classes, first, numbers = np.unique(values.numpy(), return_index=True, return_inverse=True)
        if 2 <= len(classes) <= MOST_CLASSES:
            renamed = first.argsort().argsort()[numbers]  # classes numbered as they first appear
            found.setdefault(renamed.astype(np.int64).tobytes(), name)
    return list(found.values())


def _values(task: TaskGenerator, batch: Batch, name: str) -> np.ndarray:
    """[B] int64; the label of a sample with several targets is that at the token its answer is read from."""
    if name != LABEL:
        return batch.steps[name].numpy()
    if batch.targets.ndim == 1:
        return batch.targets.numpy()
    place = reading_tokens(task.info, batch, batch.targets.shape[1])
    return batch.targets.gather(1, place.unsqueeze(1)).squeeze(1).numpy()


def cells_of(run: Run, rate: float | str | None, at: str) -> list[Cell]:
    """The cells of a learning rate, or of all, that have a moment; see `probe_run`."""
    rates = run.spec.protocol.learning_rates
    events = {record.cell: event_samples(run, record.cell) for record in run.records}
    if rate not in (None, ALL_RATES, *rates):
        raise BenchError(f"--lr {rate}: the run has the learning rates {', '.join(map(str, rates))}; or give all")
    counts = [
        sum(event is not None for cell, event in events.items() if cell.rate_index == i) for i in range(len(rates))
    ]
    indices = {i for i, each in enumerate(rates) if rate in (ALL_RATES, each)} or {counts.index(max(counts))}
    cells = sorted(cell for cell in events if cell.rate_index in indices)
    where = "any learning rate" if len(indices) > 1 else f"learning rate {rates[min(indices)]}"
    if at in ("before", "after"):
        cells = [cell for cell in cells if events[cell] is not None]
        if not cells:
            raise BenchError(
                f"no cell of {run.path} at {where} has a Eureka-moment, so nothing is {at} it;"
                " give --at final, or another --lr"
            )
    if at == PLATEAU:
        cells = [cell for cell in cells if kept_on_plateau(run, cell)]
        if not cells:
            raise BenchError(
                f"no cell of {run.path} at {where} keeps weights from its time on the shortcut; give --at before, or"
                " another --lr"
            )
    return cells


def _representations(
    found: Activations, task: TaskGenerator, batch: Batch, question: Question
) -> dict[tuple[int, str, str], np.ndarray]:
    """(layer, representation, place) → [B, features]."""
    tokens = found.tokens
    regions, reading = region_tokens(task.info, tokens), reading_tokens(task.info, batch, tokens)
    singles = single_tokens(regions)
    known = (READING, *regions, MEAN)
    places: list[str] = []
    for place in question.places:
        if place not in (*known, *singles, TOKENS, ALL_PLACES):
            raise BenchError(
                f"--place {place}: there are {', '.join(known)} and all; tokens, or one as '{next(iter(singles), '')}'"
            )
        places += known if place == ALL_PLACES else singles if place == TOKENS else [place]
    if TOKENS in question.places and not singles:
        raise BenchError(f"--place tokens: the {tokens} tokens of the model match no region of {task.id}; give mean")
    if READING in places and not has_reading_token(task.info, tokens):
        raise BenchError(f"--place {READING}: the model reads {task.id} from all of its {tokens} patches; give mean")
    chosen = {}
    for layer, name, values in _streams(found, question):
        for place in dict.fromkeys(places):
            x = features(values, place, reading, {**regions, **singles}, tokens)
            if x is not None:
                chosen[layer, name, place] = x.float().numpy()
    return chosen


def _streams(found: Activations, question: Question) -> list[tuple[int, str, torch.Tensor]]:
    """(layer, representation, values [B, tokens, channels])"""
    streams = []
    for name in question.representations:
        if name == "residual":
            if not found.residual:
                raise BenchError("--representation residual: the model has no blocks of tokens; give heads, q, k or v")
            streams += [(layer, name, values) for layer, values in enumerate(found.residual)]
            continue
        if not found.attention:
            raise BenchError(
                f"--representation {name}: the model calls no attention rule of the suite; give residual alone"
            )
        for layer, call in enumerate(found.attention, start=1):
            values = call.out if name == "heads" else getattr(call, name)  # B, heads, tokens, head_dim
            if question.by_head:
                streams += [(layer, f"{name} {h}", each) for h, each in enumerate(values.unbind(1), start=1)]
            else:
                streams.append((layer, name, values.transpose(1, 2).flatten(2)))
    return streams


def _bits(x: np.ndarray, values: np.ndarray) -> float:
    """Bits of the online code for an item."""
    classes, numbers = np.unique(values, return_inverse=True)
    return code_length(x, numbers, len(classes)) / len(values)


def _row(at: str, key: tuple[str, int, str, str], results: list[tuple[ProbeResult, float | None]]) -> Row:
    name, layer, representation, place = key
    probes = [result for result, _ in results]
    first = probes[0]
    if len(probes) == 1:
        accuracy = wilson(first.correct, first.items)
    else:
        accuracy = mean_interval([np.array([each.correct / each.items for each in probes])])
    bits = [each for _, each in results if each is not None]
    return Row(
        at,
        name,
        layer,
        representation,
        place,
        len(probes),
        first.items,
        accuracy,
        first.chance,
        float(np.mean(bits)) if bits else None,
        math.log2(first.classes),
    )
