"""The tables of baselines/README.md: generated from the committed runs, between markers in a hand-written page.

A table begins with the line `<!-- results: TASK PROTOCOL -->`, the one over all tasks with `<!-- results: all -->`, and
ends with `<!-- end -->`. What stands between the two is replaced; everything else is left as it is. The forest plot
that a page shows as figures/forest-PROTOCOL.png, the map of p by learning rate in figures/rates-PROTOCOL.png and the
plot against temperature in figures/dose-PROTOCOL.png are drawn with them; see also `claims_table` and `dose_tables`.
"""

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path

from multistep_bench.atomic import write_atomically
from multistep_bench.cards import card_folder
from multistep_bench.errors import BenchError
from multistep_bench.reporting.claims_table import replace_claims
from multistep_bench.reporting.dose_plots import write_doses
from multistep_bench.reporting.dose_tables import TEMPERATURE, dose_rows, dose_rows_sha256, replace_doses
from multistep_bench.reporting.figures import source_of
from multistep_bench.reporting.forest_plots import reference_rows, rows_sha256, write_forest
from multistep_bench.reporting.labels import changes_label, counted, number, rate_label
from multistep_bench.reporting.markdown import difference, ends, interval, share, table
from multistep_bench.reporting.rate_maps import blocks_sha256, rate_blocks, write_rate_map
from multistep_bench.reporting.references import (
    RULES,
    Reference,
    Results,
    read_references,
    reference_runs,
    split_name,
)
from multistep_bench.scoring.run import RunScore

PAGE = "README.md"
ALL = "all"  # the name of the table over all tasks
COMMAND = "mstep-bench baselines build"
SIGNIFICANT = 0.05

_FIGURE = re.compile(r"\(figures/((forest|rates|dose)-([a-z0-9_]+)\.png)\)")
_BLOCK = re.compile(r"^<!-- results: (.+?) -->\n(.*?)^<!-- end -->$", re.DOTALL | re.MULTILINE)


def update_page(folder: Path | None = None, *, check: bool = False) -> bool:
    """Brings the tables and plots of a page up to date; returns whether they were.

    folder: of the baselines, with README.md and results/. check: write nothing.
    Raises `BenchError` where there is no page or run, or where their tables and runs are not of the same tasks.
    """
    folder = folder or card_folder("baselines")
    page, paths = folder / PAGE, reference_runs(folder)
    if not page.is_file() or not paths:
        raise BenchError(f"{folder} holds no {PAGE} or no results; run `{COMMAND}` in a checkout of the suite")
    text = page.read_text(encoding="utf-8")
    results = read_references(paths)
    made, doses = replace_doses(text, results, str(page))
    shown = {id(entry) for each in doses for entry in each.entries if entry.variant}
    made = replace_claims(replace_tables(made, results, str(page), shown), folder, paths, str(page))
    draws = [draw for draw in _overviews(made, folder, results) if draw is not None]
    undrawn = [each for each in doses if source_of(folder / each.figure) != each.sha256()]
    if not check:
        for each in undrawn:
            each.draw(folder)
        for draw in draws:
            draw()
        if made != text:
            write_atomically(page, made)
    return made == text and not draws and not undrawn


def _overviews(text: str, folder: Path, results: Results) -> Iterator[Callable[[], Path] | None]:
    """For each figure over all tasks that a page shows how to draw it, or None where it is of the present runs."""
    for name, kind, protocol in _FIGURE.findall(text):
        path = folder / "figures" / name
        if kind == "forest":
            shown = reference_rows(results, protocol)
            source, draw = rows_sha256(shown), partial(write_forest, shown, path)
        elif kind == "dose":
            shown = dose_rows(results, protocol)
            source = dose_rows_sha256(shown)
            draw = partial(write_doses, shown, TEMPERATURE, path, source=source)
        else:
            shown = rate_blocks(results, protocol)
            source, draw = blocks_sha256(shown), partial(write_rate_map, shown, path)
        if not shown:
            raise BenchError(f"{folder / PAGE} shows figures/{name}, and no runs under {protocol} belong in it")
        yield draw if source_of(path) != source else None


def replace_tables(text: str, results: Results, where: str, doses: Collection[int] = ()) -> str:
    """The text of a page with every table made anew; where: the page, for errors; doses: see `details`."""
    tables = {ALL: "\n".join(overview(results))}
    tables |= {" ".join(key): "\n".join(details(entries, doses)) for key, entries in results.items()}
    found = [match[1] for match in _BLOCK.finditer(text)]
    for name in found:
        if name not in tables or found.count(name) > 1:
            raise BenchError(f"{where} has a table '{name}' without runs, or twice; remove `<!-- results: {name} -->`")
    for name in tables:
        if name not in found:
            lines = f"`<!-- results: {name} -->` and `<!-- end -->`"
            raise BenchError(f"{where} has no table '{name}'; write the two lines {lines} where it belongs")
    return _BLOCK.sub(lambda match: f"<!-- results: {match[1]} -->\n\n{tables[match[1]]}\n\n<!-- end -->", text)


def overview(results: Results) -> Iterator[str]:
    """A row a task and protocol, a column a rule that was run in more than one of them: ΔS against the plain model."""
    results = {key: [entry for entry in entries if not entry.variant] for key, entries in results.items()}
    ran = [entry.rule for entries in results.values() for entry in entries if entry.comparison]
    rules = [rule for rule in RULES if ran.count(rule) > 1]
    yield from table(
        ("task", "protocol", "plain model", "its p", "its S", *(f"ΔS {RULES[rule]}" for rule in rules)),
        (row for key, entries in results.items() for row in _overview_rows(key, entries, rules)),
    )
    yield ""
    yield f"Bold: p < {SIGNIFICANT}, corrected by Holm for the number of models compared on that task and protocol."


def _overview_rows(key: tuple[str, str], entries: Sequence[Reference], rules: Sequence[str]) -> Iterator[list[str]]:
    for plain in entries:
        family = {entry.rule: entry for entry in entries if split_name(entry.model)[0] == plain.model}
        if not plain.rule and any(entry.comparison for entry in family.values()):
            grid = plain.score.grid
            effects = [_effect(family[rule]) if rule in family else "–" for rule in rules]
            yield [f"`{key[0]}`", key[1], f"`{plain.model}`", share(grid.events, grid.n), _speed(plain), *effects]


def _effect(entry: Reference) -> str:
    if entry.comparison is None or entry.corrected_p is None:
        return "–"
    text = f"{entry.comparison.speed.estimate:+.2f}"
    return f"**{text}**" if entry.corrected_p < SIGNIFICANT else text


def _speed(entry: Reference) -> str:
    return f"{entry.score.grid.speed.estimate:.2f}"


def details(entries: Sequence[Reference], doses: Collection[int] = ()) -> Iterator[str]:
    """The protocol and levels of a task, a row a run, setting by setting, then the runs under a changed protocol.

    doses: ids of entries that stand in another table, see `dose_tables`.
    """
    regular = [entry for entry in entries if not entry.changed_protocol and id(entry) not in doses]
    paragraphs: list[str] = []
    for setting, group in groupby(regular, key=lambda entry: entry.setting):
        members = list(group)
        if (protocol := _protocol(members[0].score)) not in paragraphs:
            paragraphs.append(protocol)
        if setting:
            paragraphs.append(f"With `{setting}`:")
        rows = (_cells(entry, _auxiliary(members)) for entry in members)
        paragraphs.append("\n".join(table(_columns(members), rows)))
    for entry in entries:
        if entry.changed_protocol:
            grid = entry.score.grid
            paragraphs.append(
                f"`{entry.model}` with {changes_label(entry.score.spec)}: {share(grid.events, grid.n)},"
                f" S {interval(grid.speed)}, {_final(entry.score)} {interval(grid.final_accuracy)}."
            )
    yield from "\n\n".join(paragraphs).splitlines()


def _protocol(score: RunScore) -> str:
    """Seeds, rates and samples, and the levels of the task."""
    protocol, task = score.spec.protocol, score.spec.task
    threshold = task.levels.threshold(task.scoring.threshold_fraction)
    levels = {"chance": task.levels.chance, "shortcut": task.levels.shortcut}
    levels |= {"threshold": threshold, "ceiling": task.levels.ceiling}
    return (
        f"{counted(protocol.seeds, 'seed')} × {counted(len(protocol.learning_rates), 'learning rate')},"
        f" {protocol.budget:,} samples a cell, {protocol.evaluations} evaluations of {protocol.evaluation_items} items."
        f" Levels: {', '.join(f'{name} {level:.4g}' for name, level in levels.items() if level is not None)}."
    )


def _final(score: RunScore) -> str:
    return f"final {score.spec.task.levels.measure}"


def _auxiliary(entries: Sequence[Reference]) -> list[str]:
    return list(dict.fromkeys(name for entry in entries for name in entry.score.auxiliary))


def _columns(entries: Sequence[Reference]) -> list[str]:
    score = entries[0].score
    rates = map(rate_label, score.spec.protocol.learning_rates)
    return ["model", *rates, "p", "S", _final(score), *_auxiliary(entries), "ΔS", "p of ΔS"]


def _cells(entry: Reference, auxiliary: Sequence[str]) -> list[str]:
    score, compared = entry.score, entry.comparison
    return [
        f"`{entry.model}`, {entry.dose}" if entry.dose else f"`{entry.model}`",
        *(f"{rate.events}/{rate.n}" for rate in score.by_rate),
        f"{share(score.grid.events, score.grid.n)} {ends(score.grid.probability)}",
        interval(score.grid.speed),
        interval(score.grid.final_accuracy),
        *(number(score.auxiliary.get(name)) for name in auxiliary),
        difference(compared.speed) if compared else "–",
        "–" if entry.corrected_p is None else f"{entry.corrected_p:.2g}",
    ]
