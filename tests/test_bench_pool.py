"""The pool's own benchmark: what its ratios are of, and that simulated cells go through the real processes."""

from typing import Any

import pytest
import torch

from multistep_bench.bench import pool
from multistep_bench.bench.quick import quick_spec
from multistep_bench.runs.spec import Cell


def test_ratios_are_of_what_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    planned: list[dict[Cell, float]] = []

    def simulated(lengths: dict[Cell, float]) -> float:
        planned.append(dict(lengths))
        return 11.0 if len(planned) == 1 else 2.0

    def real(spec: Any, workers: int, launcher: str = "local") -> float:
        assert len(spec.cells()) == 4
        return {("local", 1): 10.0, ("local", 2): 4.0, ("ray", 2): 6.0}[launcher, workers]

    monkeypatch.setattr(pool, "_simulated", simulated)
    monkeypatch.setattr(pool, "_real", real)
    monkeypatch.setattr(pool, "find_spec", lambda name: name)
    rows = {row.what: row for row in pool.measure_pool(2.0, torch.device("cpu")).rows}
    lengths = list(planned[0].values())
    assert len(lengths) == 1000
    assert sum(lengths) == pytest.approx(20.0)
    assert lengths == sorted(lengths, reverse=True)  # longest first
    assert rows["plan of known lengths / lower bound"].ratio == pytest.approx(11.0 / 10.0)
    assert set(planned[1].values()) == {0.0}
    quick = 10.0 / 4 * quick_spec().protocol.budget / pool.REAL_BUDGET
    assert rows["pool's share of a group / a quick cell"].ratio == pytest.approx(2.0 / 200 / quick)
    assert rows["one worker / two"].ratio == pytest.approx(2.5)
    assert rows["ray / local"].ratio == pytest.approx(1.5)


def test_a_long_cell_is_the_bound_of_its_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "PLANNED", 2)
    monkeypatch.setattr(pool, "_simulated", lambda lengths: 7.0)
    bound, seconds = pool._planned(10.0)
    assert seconds == 7.0
    assert 5.0 < bound < 10.0  # two cells, one of them more than half of the whole


def test_simulated_cells_go_through_the_processes_of_the_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, Cell]] = []
    monkeypatch.setattr(pool.Times, "evaluated", lambda self, cell, evaluation, items: told.append(("began", cell)))
    monkeypatch.setattr(pool.Times, "ended", lambda self, cell, outcome: told.append((outcome.status, cell)))
    cells = [Cell(0, index) for index in range(5)]
    pool._simulated(dict.fromkeys(cells, 0.01))
    for cell in cells:
        assert [what for what, each in told if each == cell] == ["began", "completed"]
