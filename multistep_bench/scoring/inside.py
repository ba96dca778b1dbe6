"""What diagnostics and probes say of a run by phase: ratios of gradients, where it attends, what can be read."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from multistep_bench.errors import RunError
from multistep_bench.runs.diagnostics import SAMPLES, Arrays, has_diagnostics, load_diagnostics
from multistep_bench.runs.store import Run
from multistep_bench.scoring.phases import by_phase, over_cells, phases_of
from multistep_bench.scoring.probe_rows import Row, probe_rows
from multistep_bench.scoring.run import RunScore
from multistep_bench.scoring.statistics import Interval

PROJECTIONS = {"W_K / W_V": 1, "W_Q / W_V": 0}  # name → place of the numerator in the figures' last axis
VALUES = 2

ByPhase = dict[str, Interval]


@dataclass(frozen=True)
class LayerAttention:
    """Of one layer, means over its heads: entropy in units of ln n over all queries, and the share of each group of
    regions from the token that is read.
    """

    layer: str
    entropy: ByPhase
    shares: dict[str, ByPhase]


@dataclass(frozen=True)
class Inside:
    """Intervals are over cells, of all learning rates; that of a single cell is all that is possible.

    cells: phase → cells that have it. ratios: geometric means over layers and cells. readable: of `probe`'s cells.
    """

    cells: dict[str, int] = field(default_factory=dict)
    ratios: dict[str, ByPhase] = field(default_factory=dict)
    attention: tuple[LayerAttention, ...] = ()
    readable: tuple[Row, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def inside_of(run: Run, scored: RunScore) -> Inside:
    """What stands in a run's folder of its inside.

    Only sound cells count. Raises `RunError` where the run has neither diagnostics nor a table of probes.
    """
    found = load_diagnostics(run) if has_diagnostics(run) else {}
    cells = [cell for cell in scored.cells if cell.cell in found and cell.problem is None]
    readable = tuple(_readable(run))
    if not cells and not readable:
        raise RunError(
            f"{run.path} has neither diagnostics nor probes; train with --diagnostics gradients,attention,logits"
            " --keep-checkpoints 5, then `mstep-bench probe`"
        )
    arrays = [found[cell.cell] for cell in cells]
    places = [phases_of(run, cell).places(each[SAMPLES]) for cell, each in zip(cells, arrays, strict=True)]
    return Inside(
        cells={phase: len(means) for phase, means in by_phase([each[SAMPLES] for each in arrays], places).items()},
        ratios=_ratios(arrays, places),
        attention=tuple(_attention(arrays, places)),
        readable=readable,
    )


def gradient_ratios(arrays: Arrays) -> dict[str, np.ndarray]:
    """Name → [E]: L2 norm of the gradient of W_K, and of W_Q, over that of W_V, geometric mean over layers."""
    norms = arrays["gradients.l2"]  # E, layers, 3
    with np.errstate(divide="ignore", invalid="ignore"):
        return {
            name: np.exp(np.log(norms[..., place] / norms[..., VALUES]).mean(1)) for name, place in PROJECTIONS.items()
        }


def region_groups(names: Sequence[str]) -> dict[str, list[int]]:
    """Regions that differ only in a last letter or number belong together: noun_0, noun_1 → noun; target_a → target."""
    groups: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        groups.setdefault(re.sub(r"_(\d+|[a-z])$", "", name), []).append(place)
    return groups


def _ratios(arrays: Sequence[Arrays], places: Sequence[dict[str, np.ndarray]]) -> dict[str, ByPhase]:
    known = [i for i, each in enumerate(arrays) if "gradients.l2" in each]
    if not known:
        return {}
    ratios = [gradient_ratios(arrays[i]) for i in known]
    found: dict[str, ByPhase] = {}
    with np.errstate(divide="ignore"):
        for name in PROJECTIONS:
            logs = [np.log(each[name]) for each in ratios]
            means = _intervals(by_phase(logs, [places[i] for i in known]), (-np.inf, np.inf))
            found[name] = {phase: _exp(interval) for phase, interval in means.items()}
    return found


def _attention(arrays: Sequence[Arrays], places: Sequence[dict[str, np.ndarray]]) -> list[LayerAttention]:
    """Layers whose rule averages no values are NaN throughout and have no intervals."""
    known = [i for i, each in enumerate(arrays) if "attention.relative_entropy" in each]
    if not known:
        return []
    first = arrays[known[0]]
    groups = region_groups(first["regions"].tolist()) if "attention.share_reading" in first else {}
    of = [places[i] for i in known]
    layers = []
    for layer, name in enumerate(first["attention.layers"].tolist()):
        entropy = [_heads(arrays[i]["attention.relative_entropy"][:, layer]) for i in known]
        shares = {}
        for group, regions in groups.items():
            values = [_heads(arrays[i]["attention.share_reading"][:, layer][..., regions].sum(-1)) for i in known]
            shares[group] = _intervals(by_phase(values, of))
        layers.append(LayerAttention(name, _intervals(by_phase(entropy, of)), shares))
    return layers


def _heads(values: np.ndarray) -> np.ndarray:
    """[E, heads] → [E], means over the heads that a layer has; NaN without any."""
    known = np.isfinite(values)
    return np.where(known, values, 0.0).sum(1) / np.where(known.any(1), known.sum(1), np.nan)


def _intervals(values: Mapping[str, np.ndarray], bounds: tuple[float, float] = (0.0, 1.0)) -> ByPhase:
    return {phase: interval for phase, each in values.items() if (interval := over_cells(each, bounds)) is not None}


def _exp(interval: Interval) -> Interval:
    return Interval(*np.exp([interval.estimate, interval.low, interval.high]).tolist())


def _readable(run: Run) -> list[Row]:
    """Rows about the intermediate variable that the task's card names first."""
    named = re.match(r"\w+", run.spec.task.intermediate)
    return [row for row in probe_rows(run) if named is not None and row.variable == named[0]]
