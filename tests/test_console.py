"""Score tables and comparisons as a person reads them in a terminal of 80 columns."""

import io
import re
from pathlib import Path

import records
from rich.console import Console

from multistep_bench.reporting.console import print_comparison, print_score
from multistep_bench.reporting.labels import counted, duration, number, rate_label, run_labels, short_count
from multistep_bench.scoring.compare import compare
from multistep_bench.scoring.score import score


def test_numbers_are_written_briefly() -> None:
    assert [rate_label(rate) for rate in (1e-3, 3e-4, 0.00025, 1.0, 0.5)] == ["1e-3", "3e-4", "2.5e-4", "1e0", "5e-1"]
    counts = (0, 999, 1000, 9949, 143360, 999_949, 1_200_000, 18e6, 2e9)
    assert [short_count(count) for count in counts] == [
        "0",
        "999",
        "1.0k",
        "9.9k",
        "143k",
        "1.0M",
        "1.2M",
        "18M",
        "2.0G",
    ]
    assert [counted(count, "cell") for count in (0, 1, 2)] == ["0 cells", "1 cell", "2 cells"]
    assert [counted(count, "entry", "entries") for count in (1, 3)] == ["1 entry", "3 entries"]
    assert [duration(seconds) for seconds in (0.4, 59.6, 83, 3599.7, 5000, 259_199, 400_000, 1e8)] == [
        "0 s",
        "1:00 min",
        "1:23 min",
        "1:00 h",
        "1:23 h",
        "71:59 h",
        "4.6 days",
        "1,157 days",
    ]
    assert [number(value) for value in (0.56251, None, float("nan"))] == ["0.563", "–", "–"]


def printed(show: object, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    (print_score if hasattr(show, "runs") else print_comparison)(console, show)  # type: ignore[arg-type]
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def row_of(name: str, lines: list[str]) -> int:
    """Index of the line of a score table that begins with `name` and a count of events."""
    return next(index for index, line in enumerate(lines) if re.match(rf" *{name} +\d+/\d+", line))


def test_the_score_table_shows_every_number_with_its_interval_in_80_columns(tmp_path: Path) -> None:
    curves = {(0, 0): records.jump(0.3), (0, 1): records.flat(), (1, 0): records.flat(), (1, 1): records.flat()}
    text = printed(score([records.make_run(tmp_path / "run", curves)]))
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    lines = text.splitlines()
    assert lines[row_of("1e-3", lines)].split() == [
        "1e-3",
        "1/2",
        "0.500",
        "0.350",
        "0.750",
        "0.950",
        "30k",
    ]  # S = (1 − .3) / 2
    grid = row_of("grid", lines)
    assert lines[grid].split() == ["grid", "1/4", "0.250", "0.175", "0.650", "0.950", "–"]
    assert lines[grid + 1].split()[0] == "0.05–0.70"  # Wilson's interval of 1/4
    assert "levels: chance 0.100, shortcut 0.550, threshold 0.750, ceiling 0.950" in text
    assert "the best learning rate, 1e-3, is at the edge of the learning-rate grid" in text
    assert "Q over 1 task: grid 0.072" in text  # ln(1/.3)/ln 64 / 4


def test_the_score_names_cells_that_are_missing_or_broken(tmp_path: Path) -> None:
    broken = records.Ended("failed", reason="RuntimeError: [red]out of luck[/red]")
    text = printed(score([records.make_run(tmp_path / "run", {(0, 0): records.flat(), (0, 1): broken}, seeds=3)]))
    assert "2 of 3 cells are missing or broken and count as having no Eureka-moment" in text
    assert "rate0-seed1 failed: RuntimeError: [red]out of luck[/red]" in text
    assert "rate0-seed2 missing" in text
    assert "edge" not in text  # one rate is no grid


def test_no_learning_rate_is_best_where_none_had_an_event(tmp_path: Path) -> None:
    run = records.make_run(tmp_path / "run", {(0, 0): records.flat(), (1, 0): records.flat()})
    assert "edge" not in printed(score([run]))


def test_a_control_task_has_no_probability(tmp_path: Path) -> None:
    levels = {"chance": 0.1, "ceiling": 0.95}
    run = records.make_run(tmp_path / "run", {(0, 0): records.jump(0.3)}, task={"levels": levels})
    text = printed(score([run]))
    lines = text.splitlines()
    assert lines[row_of("grid", lines)].split()[2] == "–"
    assert "shortcut –" in text


def test_a_comparison_ends_with_its_sentence(tmp_path: Path) -> None:
    ours = {(0, seed): records.jump(0.3) for seed in range(4)}
    theirs = {(0, seed): records.flat() for seed in range(4)}
    a = records.make_run(tmp_path / "a", ours, model="new")
    b = records.make_run(tmp_path / "b", theirs, model="old")
    comparison = compare(a, b)
    text = printed(comparison)
    assert max(map(len, text.splitlines())) <= 80
    assert "new (A) against old (B) on steps-v1 quick" in text
    row = next(line for line in text.splitlines() if "S of A − S of B" in line)
    assert "+0.700" in row
    assert " ".join(text.split()).endswith(comparison.sentence())


def test_runs_of_one_model_are_told_apart_by_their_changes(tmp_path: Path) -> None:
    curves = {(0, 0): records.flat()}
    plain = records.make_run(tmp_path / "a", curves)
    deeper = records.make_run(tmp_path / "b", curves, changes={"model.depth": 4})
    other = records.make_run(tmp_path / "c", curves, model="other", changes={"model.depth": 4})
    scored = score([plain, deeper, other])
    assert run_labels(scored.runs) == ["vit", "vit · depth=4", "other"]
    text = printed(scored)
    assert "vit · depth=4 on steps-v1 quick" in text
    assert re.findall(r"^(.*): Q over", text, re.MULTILINE) == ["vit quick", "vit · depth=4 quick", "other quick"]


def test_the_shortest_difference_comes_first_without_its_section(tmp_path: Path) -> None:
    curves = {(0, 0): records.flat()}
    changed = {"model.attention": "cosine:Cosine", "protocol.schedule": "wsd", "model.tau": 0.1 + 0.2}
    runs = [records.make_run(tmp_path / "a", curves), records.make_run(tmp_path / "b", curves, changes=changed)]
    assert run_labels(score(runs).runs) == ["vit", "vit · tau=0.3, schedule=wsd, attention=cosine:Cosine"]


def test_q_names_what_differs_on_any_task(tmp_path: Path) -> None:
    curves, changes = {(0, 0): records.flat()}, {"model.depth": 4}
    runs = [records.make_run(tmp_path / "a", curves), records.make_run(tmp_path / "b", curves, changes=changes)]
    runs.append(records.make_run(tmp_path / "c", curves, task={"id": "two-v1"}, changes=changes))
    text = printed(score(runs))
    assert re.findall(r"^(.*): Q over (\d)", text, re.MULTILINE) == [("vit quick", "1"), ("vit · depth=4 quick", "2")]


def test_a_section_is_named_where_two_keys_have_the_same_name_in_it(tmp_path: Path) -> None:
    curves = {(0, 0): records.flat()}
    runs = [
        records.make_run(tmp_path / "a", curves, changes={"model.clip": 1, "model.depth": 2}),
        records.make_run(tmp_path / "b", curves, changes={"protocol.clip": 1}),
    ]
    assert run_labels(score(runs).runs) == ["vit · depth=2, model.clip=1", "vit · protocol.clip=1"]


def test_the_columns_of_a_task_scored_by_its_loss_say_so(tmp_path: Path) -> None:
    losses = records.make_run(tmp_path / "loss", {(0, 0): records.fall(0.3)}, task=records.LOSS_TASK)
    other = {**records.LOSS_TASK, "id": "accuracies-v1", "levels": {"chance": 0.1, "shortcut": 0.55, "ceiling": 0.95}}
    accuracies = records.make_run(tmp_path / "accuracy", {(0, 0): records.flat()}, task=other)
    text = printed(score([losses]))
    assert "accuracy" not in text
    lines = text.splitlines()
    assert any(re.match("final loss +mean of the last five evaluations", line) for line in lines)
    assert ["rate", "moments", "p", "S", "loss", "Eureka", "time"] in [line.split() for line in lines]
    assert lines[row_of("1e-3", lines)].split()[:5] == ["1e-3", "1/1", "1.000", "0.700", "1.500"]
    assert "levels: chance 4.000, shortcut 3.000, threshold 2.000, ceiling 2.000" in text
    assert "final accuracy or loss" in printed(score([losses, accuracies]))


def test_auxiliary_measurements_have_a_line_each(tmp_path: Path) -> None:
    further = {"hop 1": [950] * 101, "[red]torn": [None] * 101}
    text = printed(score([records.make_run(tmp_path / "run", {(0, 0): records.flat()}, auxiliary=further)]))
    assert "hop 1: final accuracy 0.950, not scored" in text
    assert "[red]torn: final accuracy –, not scored" in text
    assert "not scored" not in printed(score([records.make_run(tmp_path / "other", {(0, 0): records.flat()})]))
