"""The map of p by learning rate: which runs it shows, in which order, and what of them is drawn."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import records
from matplotlib.figure import Figure

from multistep_bench.reporting import figures
from multistep_bench.reporting.figures import source_of
from multistep_bench.reporting.rate_maps import ROW_HEIGHT, RateBlock, blocks_sha256, rate_blocks, write_rate_map
from multistep_bench.reporting.references import Results, read_references
from multistep_bench.runs.store import RUN_FILE

RATES = [5e-4, 2e-3]


def grid(*jumps: int) -> dict[tuple[int, int], Any]:
    """Four seeds at each of two rates, of which so many jump."""
    return {(r, s): records.jump(0.5) if s < jumps[r] else records.flat() for r in range(2) for s in range(4)}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    root = tmp_path_factory.mktemp("map")
    runs = {"vit": grid(1, 4), "vit_tau": grid(0, 2), "vit_sigma_reparam": grid(3, 3), "bert": grid(4, 4)}
    paths = []
    for model, curves in runs.items():
        made = records.make_run(root / model, curves, rates=RATES, model=model) / RUN_FILE
        paths.append(made.rename(_place(root, model)))
    other = records.make_run(root / "changed", grid(4, 4), rates=RATES, model="vit_heat", changes={"model.depth": 9})
    paths.append((other / RUN_FILE).rename(_place(root, "vit_heat")))
    return read_references(paths)


def _place(root: Path, model: str) -> Path:
    place = root / "results" / "steps-v1" / "quick" / f"{model}.jsonl"
    place.parent.mkdir(parents=True, exist_ok=True)
    return place


def test_a_block_counts_the_cells_that_jump_at_each_rate_by_rule(results: Results) -> None:
    """A family of its plain model alone, and a run of a changed model, are not shown."""
    (block,) = rate_blocks(results, "quick")
    assert (block.title, block.rates) == ("steps-v1, vit", (5e-4, 2e-3))
    assert block.shares == {
        "plain softmax": ((1, 4), (4, 4)),
        "temperature ⅓": ((0, 4), (2, 4)),
        "σReparam": ((3, 4), (3, 4)),
    }
    assert rate_blocks(results, "standard") == []


def test_a_map_has_a_row_a_rule_and_says_what_was_not_run(
    results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (block,) = rate_blocks(results, "quick")
    other = RateBlock(
        "hops-v1, gpt", (1e-3,), {"plain softmax": ((2, 2),), "temperature 16": ((0, 2),), "temperature ⅓": ((1, 2),)}
    )
    drawn: list[Figure] = []
    save = figures.save
    monkeypatch.setattr(
        figures, "save", lambda figure, *rest, **options: drawn.append(figure) or save(figure, *rest, **options)
    )
    path = write_rate_map([block, other], tmp_path / "map.png")
    assert source_of(path) == blocks_sha256([block, other])
    first, second, _ = drawn[0].axes
    rows = ["plain softmax", "temperature 16", "temperature ⅓", "σReparam"]
    assert [label.get_text() for label in first.get_yticklabels()] == rows
    assert [label.get_text() for label in first.get_xticklabels()] == ["5e-4", "2e-3"]
    np.testing.assert_array_equal(first.images[0].get_array(), [[0.25, 1], [np.nan, np.nan], [0, 0.5], [0.75, 0.75]])
    np.testing.assert_array_equal(second.images[0].get_array(), [[1], [0], [0.5], [np.nan]])
    assert (second.get_title(), [text.get_text() for text in second.texts]) == ("hops-v1\ngpt", ["–"])


def test_a_long_name_of_a_setting_takes_no_room_from_the_rows(results: Results, tmp_path: Path) -> None:
    (block,) = rate_blocks(results, "quick")
    setting = "two_step_digits-v1, vit, model.init_std=scaled, model.patches_per_tile=2, task.arrangement=any"
    with figures.collected() as drawn:
        write_rate_map([block, replace(block, title=setting)], tmp_path / "map.png")
    drawn[0].draw_without_rendering()
    for axes in drawn[0].axes[:2]:
        assert axes.get_window_extent().height / drawn[0].dpi >= 0.9 * ROW_HEIGHT * 3  # inches of three rows
        assert drawn[0].bbox.containsx(axes.title.get_window_extent().x1)
        assert axes.title.get_window_extent().y1 <= drawn[0].bbox.y1


def test_another_share_makes_the_map_stale(results: Results) -> None:
    (block,) = rate_blocks(results, "quick")
    changed = replace(block, shares=block.shares | {"temperature ⅓": ((1, 4), (2, 4))})
    assert blocks_sha256([changed]) != blocks_sha256([block])
