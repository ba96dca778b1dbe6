"""The map of Eureka probabilities by learning rate: a row a rule, a block of columns a task and model family."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap

from multistep_bench.reporting import figures
from multistep_bench.reporting.figures import FAINT, LETTER, MUTED, PAGE, PAPER, SERIES
from multistep_bench.reporting.labels import rate_label
from multistep_bench.reporting.references import PLAIN, RULES, Results, families
from multistep_bench.strict import content_sha256

ROW_HEIGHT = 0.17  # inches
FRAME_HEIGHT = 0.9  # of the names of rates, and of the legend
COLOURS = LinearSegmentedColormap.from_list("probability", (PAPER, SERIES[0]))
NOT_RUN = "–"
TICKS = 5  # points


@dataclass(frozen=True)
class RateBlock:
    """The runs of one family of models on one task under one protocol in one setting.

    title:  names task, family and setting.
    rates:  learning rates.
    shares: by rule or dose, plain softmax first, (cells with a Eureka-moment, cells) at each rate.
    """

    title: str
    rates: tuple[float, ...]
    shares: dict[str, tuple[tuple[int, int], ...]]


def rate_blocks(results: Results, protocol: str) -> list[RateBlock]:
    """Of the committed runs under one protocol as it ships, those of families with a plain model, in their order."""
    blocks = []
    for title, family in families(results, protocol):
        shares = {
            entry.rule_name: tuple((scores.events, scores.n) for scores in entry.score.by_rate) for entry in family
        }
        blocks.append(RateBlock(title, family[0].score.spec.protocol.learning_rates, shares))
    return blocks


def blocks_sha256(blocks: Sequence[RateBlock]) -> str:
    """A hash of what a map shows; the figure carries it as its source."""
    return content_sha256([asdict(block) for block in blocks])


def write_rate_map(blocks: Sequence[RateBlock], path: str | Path) -> Path:
    """Writes the map and returns its path; a PNG carries `blocks_sha256` as its description.

    Each cell is p, the share of cells with a Eureka-moment; empty where a rule was not run.
    """
    rules = [PLAIN, *RULES.values()]
    shown = dict.fromkeys(row for block in blocks for row in block.shares)
    rows = sorted(shown, key=lambda row: rules.index(row) if row in rules else 0.5)  # doses below plain softmax
    with figures.style():
        titles = LETTER * max(len(line) for block in blocks for line in _title(block).splitlines())
        figure = figures.new_figure(PAGE, len(rows) * ROW_HEIGHT + titles + FRAME_HEIGHT)
        panels = figure.subplots(
            1, len(blocks), sharey=True, squeeze=False, width_ratios=[len(block.rates) for block in blocks]
        )[0]
        for axes, block in zip(panels, blocks, strict=True):
            _draw(axes, block, rows)
        panels[0].set_yticks(range(len(rows)), rows)
        scale = figure.colorbar(panels[0].images[0], ax=list(panels), location="bottom", aspect=40, shrink=0.5)
        scale.set_label(f"Eureka probability p at each learning rate; {NOT_RUN} not run")
        scale.outline.set_visible(False)
        return figures.save(figure, path, source=blocks_sha256(blocks))


def _title(block: RateBlock) -> str:
    return block.title.replace(", ", "\n")


def _draw(axes: Axes, block: RateBlock, rows: Sequence[str]) -> None:
    missing = ((np.nan, 1),) * len(block.rates)
    counts = np.array([block.shares.get(row, missing) for row in rows], dtype=float)  # rows, rates, 2
    shares = counts[..., 0] / counts[..., 1]
    axes.imshow(shares, cmap=COLOURS, vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    for row, column in np.argwhere(np.isnan(shares)):
        axes.text(column, row, NOT_RUN, ha="center", va="center", color=MUTED, fontsize="xx-small")
    axes.set_xticks(range(len(block.rates)), [rate_label(rate) for rate in block.rates], rotation=90, fontsize=TICKS)
    axes.set_title(_title(block), rotation=90, fontsize="medium", multialignment="left")
    axes.tick_params(length=0)
    axes.set_xticks(np.arange(len(block.rates) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(rows) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color=FAINT, linewidth=0.4)
    axes.tick_params(which="minor", length=0)
    axes.spines[:].set_visible(False)
