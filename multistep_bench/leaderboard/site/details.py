"""What the page of one entry shows: its scores, every curve, every cell, and how to make it again."""

import json
import shlex
from collections.abc import Sequence
from typing import Any

from multistep_bench import __version__
from multistep_bench.leaderboard.checks.recipe import recipe_changes
from multistep_bench.leaderboard.entry import Entry
from multistep_bench.leaderboard.reproductions import FINAL_TOLERANCE, LEAST_POWER, agrees
from multistep_bench.leaderboard.site.board import SEED_MARKS, Row, Standing, Table
from multistep_bench.leaderboard.site.ranks import EXPLAINED
from multistep_bench.reporting.labels import number, rate_label
from multistep_bench.reporting.report import run_command
from multistep_bench.scoring.run import ROBUSTNESS_FRACTIONS

SPEC_SHOWN = 50_000  # characters


def detail(places: Sequence[tuple[Table, Row]]) -> dict[str, Any]:
    """The content of an entry's page from the rows that it has on the board."""
    row = places[0][1]
    standings = {
        (task, table.suite.protocol): standing for table, row in places for task, standing in row.standings.items()
    }
    return {
        "entry": row.entry,
        "row": row,
        "places": places,
        "fractions": ROBUSTNESS_FRACTIONS,
        "ranks_explained": EXPLAINED,
        "seeds_note": SEED_MARKS.get(row.seeds_mark),
        "runs": [_run(standing) for standing in standings.values()],
        "model": row.overall.model,
        "changes": ", ".join(f"{key}={json.dumps(value)}" for key, value in _recipe_changes(places).items()),
        "command": _command(row.entry),
        "agrees": agrees,
        "tolerance": FINAL_TOLERANCE,
        "least_power": LEAST_POWER,
        "version": __version__,
    }


def _run(standing: Standing) -> dict[str, Any]:
    spec, scored = standing.spec, standing.score
    levels, threshold = spec.task.levels, spec.task.levels.threshold(spec.task.scoring.threshold_fraction)
    known = [("chance", levels.chance), ("shortcut", levels.shortcut), ("threshold", threshold)]
    rates = spec.protocol.learning_rates
    return {
        "task": spec.task.id,
        "protocol": spec.protocol_name,
        "standing": standing,
        "score": scored,
        "levels": ", ".join(f"{name} {number(level)}" for name, level in [*known, ("ceiling", levels.ceiling)]),
        "sets": [
            *([("tuned", scored.tuned)] if scored.tuned else []),
            ("grid", scored.grid),
            *((rate_label(rate), its) for rate, its in zip(rates, scored.by_rate, strict=True)),
        ],
        "charts": list(zip(map(rate_label, rates), standing.charts, strict=True)),
        "cells": [cell for cells in scored.cells_by_rate for cell in cells],
        "command": run_command(spec),
        "sha256": spec.identity(),
        "spec": _shortened(json.dumps(spec.dump(), indent=1, ensure_ascii=False)),
    }


def _shortened(text: str) -> str:
    left = len(text) - SPEC_SHOWN
    return text if left <= 0 else f"{text[:SPEC_SHOWN]}\n… {left} more characters stand in the first line of the run"


def _command(entry: Entry) -> str | None:
    """The command that re-runs cells of a submitted entry; a reference is re-run by `run_command`."""
    if entry.reference:
        return None
    return shlex.join(["mstep-bench", "reproduce", f"leaderboard/entries/{entry.name}", "--fresh", "9", "--by", "NAME"])


def _recipe_changes(places: Sequence[tuple[Table, Row]]) -> dict[str, Any]:
    specs = [standing.spec for _, row in places for standing in row.standings.values()]
    return {key: value for spec in specs for key, value in recipe_changes(spec).items()}
