"""Checks a task card against the generator it names."""

import json
import time
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from multistep_bench import seeds
from multistep_bench.cards import Levels, TaskCard
from multistep_bench.errors import CardError
from multistep_bench.generators.base import TaskGenerator
from multistep_bench.generators.task import batch_sha256, make_task
from multistep_bench.strict import changed

LEVEL_TOLERANCE = 1e-9
TIMED_BATCH = 512
TIMED_SECONDS = 1.0


@dataclass(frozen=True)
class CardCheck:
    """What was found: the levels and batch hash that the generator gives, and every way the card differs.

    missing: the keys, levels or batch_sha256, that the card does not have yet, which is no problem.
    """

    id: str
    problems: list[str]
    levels: dict[str, Any]
    batch_sha256: str
    samples_per_second: float
    missing: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "ok": self.ok}

    def lines(self) -> list[str]:
        """For a person to read."""
        levels = ", ".join(f"{name} {value:.6g}" for name, value in self.levels.items() if value is not None)
        verdict = [f"{self.id}: {problem}" for problem in self.problems] or [f"{self.id}: the card is right"]
        return [
            *verdict,
            f"levels: {levels}",
            f"batch_sha256: {self.batch_sha256}",
            f"speed: {self.samples_per_second:,.0f} samples a second in batches of {TIMED_BATCH}",
            *self._to_paste(),
        ]

    def _to_paste(self) -> list[str]:
        """What the card lacks, as TOML; the hash stands above the first table."""
        lines = []
        if "batch_sha256" in self.missing:
            lines.append(f'batch_sha256 = "{self.batch_sha256}"')
        if "levels" in self.missing:
            known = {name: value for name, value in self.levels.items() if value is not None}
            lines += ["[levels]", *(f"{name} = {json.dumps(value)}" for name, value in known.items())]
        return ["add these lines to the card, and a change of its data will be noticed:", *lines] if lines else []


def check_card(
    card: TaskCard, data_root: str | Path | None = None, missing: Collection[str] = frozenset()
) -> CardCheck:
    """Builds the card's generator, recomputes levels and batch hash, and times its batches.

    missing: what the card does not have yet, see `load_draft`; an empty hash counts too.
    Raises a `BenchError` where the generator cannot be built.
    """
    task = make_task(card, data_root)
    levels, digest = task.levels(), batch_sha256(task)
    missing = {*missing, *([] if card.batch_sha256 else ["batch_sha256"])}
    problems = _draft_problems(card, levels) if "levels" in missing else _level_problems(card.levels, levels)
    if card.batch_sha256 and digest != card.batch_sha256:
        problems.append(
            f"batch_sha256 is {card.batch_sha256} in the card, but the generator's batches hash to {digest};"
            " a task whose data change needs a new version"
        )
    return CardCheck(card.id, problems, levels.model_dump(), digest, _speed(task), tuple(sorted(missing)))


def _draft_problems(card: TaskCard, levels: Levels) -> list[str]:
    """What is wrong with a card once its levels stand in it."""
    try:
        changed(card, {"levels": levels.model_dump()}, "with these levels")
    except CardError as error:
        return [str(error)]
    return []


def _level_problems(written: Levels, computed: Levels) -> list[str]:
    problems = []
    for name, value in computed.model_dump().items():
        there = getattr(written, name)
        if (there is None) != (value is None) or (value is not None and abs(there - value) > LEVEL_TOLERANCE):
            problems.append(f"levels.{name} is {there} in the card, but the generator computes {value}")
    return problems


def _speed(task: TaskGenerator) -> float:
    """Training samples a second on one CPU thread, as in a worker."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rng = seeds.generator(seeds.derive("speed"))
        task.sample(TIMED_BATCH, split="train", rng=rng)
        batches, begin = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - begin) < TIMED_SECONDS:
            task.sample(TIMED_BATCH, split="train", rng=rng)
            batches += 1
        return batches * TIMED_BATCH / elapsed
    finally:
        torch.set_num_threads(threads)
