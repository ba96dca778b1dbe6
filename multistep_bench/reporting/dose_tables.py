"""The dose tables and dose plots of baselines/README.md: reference runs of one model along one of its options.

The plot over all tasks of a protocol, `dose_rows`, is of the temperature.

A table begins with the line `<!-- dose: TASK PROTOCOL MODEL KEY -->`, where KEY is an option of the model as the dose
plot takes it, "attention_options.temperature" say, and ends with `<!-- end -->`. Above the table stands the plot, with
the other runs of the model's family as level lines.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from multistep_bench.errors import BenchError
from multistep_bench.reporting.dose_plots import Dosed, Named, dose_of, part_doses, write_doses
from multistep_bench.reporting.labels import rate_label
from multistep_bench.reporting.markdown import difference, ends, interval, share, table
from multistep_bench.reporting.references import Reference, Results, families, split_name
from multistep_bench.reporting.task_plots import QUANTITIES
from multistep_bench.scoring.run import RunScore
from multistep_bench.strict import content_sha256

TEMPERATURE = "attention_options.temperature"

_BLOCK = re.compile(r"^<!-- dose: (.+?) -->\n(.*?)^<!-- end -->$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class DoseSeries:
    """The reference runs of one model under one protocol whose option `key` is a number.

    doses:   by rising number; entries: the same runs with their comparisons.
    others:  the runs of the model's family as their cards say, the plain model first.
    """

    task: str
    protocol: str
    model: str
    key: str
    doses: Dosed
    entries: tuple[Reference, ...]
    others: Named

    @property
    def figure(self) -> str:
        """Where the plot lies, from the folder of the page."""
        return f"figures/dose-{self.task}-{self.protocol}-{self.model}-{self.option}.png"

    @property
    def option(self) -> str:
        """The last part of the key."""
        return self.key.rpartition(".")[2]

    def draw(self, folder: Path) -> Path:
        """Writes the plot below a folder; it carries `sha256` as its source."""
        parted = {f"{self.task} {self.protocol}": (self.doses, self.others)}
        return write_doses(parted, self.key, folder / self.figure, source=self.sha256())

    def sha256(self) -> str:
        """A hash of what the plot shows, numbers to six places."""
        return content_sha256([self.task, self.protocol, self.key, _shown_all(self.doses, self.others)])


def dose_rows(results: Results, protocol: str) -> dict[str, tuple[Dosed, Named]]:
    """Of the committed runs under one protocol, task, plain model and setting → what `part_doses` makes of them.

    Only where several temperatures were run.
    """
    rows: dict[str, tuple[Dosed, Named]] = {}
    for title, family in families(results, protocol):
        if sum(dose_of(entry.score.spec, TEMPERATURE) is not None for entry in family) > 1:
            rows[title] = part_doses([(entry.rule_name, entry.score) for entry in family], TEMPERATURE)
    return rows


def dose_rows_sha256(rows: Mapping[str, tuple[Dosed, Named]]) -> str:
    """A hash of what the plot of `dose_rows` shows, numbers to six places."""
    return content_sha256([[title, _shown_all(*parted)] for title, parted in rows.items()])


def _shown_all(doses: Dosed, others: Named) -> list[list[object]]:
    return [_shown(name, run) for name, run in (*doses, *others)]


def _shown(name: float | str, run: RunScore) -> list[object]:
    sets = [run.grid, *run.by_rate]
    values = [getattr(each, quantity) for quantity in QUANTITIES for each in sets]
    rates = run.spec.protocol.learning_rates
    return [name, rates, [f"{v.estimate:.6f} {v.low:.6f} {v.high:.6f}" if v else "" for v in values]]


def replace_doses(text: str, results: Results, where: str) -> tuple[str, list[DoseSeries]]:
    """The text of a page with every dose table made anew, and what the tables are of; where: the page, for errors.

    Raises `BenchError` for a table that is there twice or that no run belongs to, and for runs that cannot share a line
    (`part_doses`).
    """
    found = [match[1] for match in _BLOCK.finditer(text)]
    for name in found:
        if found.count(name) > 1:
            raise BenchError(f"{where} has the table '{name}' twice; remove one `<!-- dose: {name} -->`")
    series = {name: _series(name, results, where) for name in found}
    tables = {name: "\n".join(dose_table(each)) for name, each in series.items()}
    made = _BLOCK.sub(lambda match: f"<!-- dose: {match[1]} -->\n\n{tables[match[1]]}\n\n<!-- end -->", text)
    return made, list(series.values())


def _series(name: str, results: Results, where: str) -> DoseSeries:
    parts = name.split()
    if len(parts) != 4:
        raise BenchError(f"{where} has a table '{name}'; write TASK PROTOCOL MODEL KEY after `dose:`")
    task, protocol, model, key = parts
    entries = results.get((task, protocol), [])
    dosed = [entry for entry in entries if entry.model == model and dose_of(entry.score.spec, key) is not None]
    if not dosed:
        raise BenchError(f"{where} has a table '{name}' without runs; remove `<!-- dose: {name} -->`")
    family = [entry for entry in entries if split_name(entry.model)[0] == model and not entry.score.spec.changes]
    members = [(entry.model, entry.score) for entry in [*dosed, *(each for each in family if each not in dosed)]]
    doses, others = part_doses(members, key)
    by_run = {id(entry.score): entry for entry in dosed}
    return DoseSeries(task, protocol, model, key, doses, tuple(by_run[id(run)] for _, run in doses), others)


def dose_table(series: DoseSeries) -> Iterator[str]:
    """The plot, and a row a dose with its comparison with the plain model."""
    rates = [rate_label(rate) for rate in series.doses[0][1].spec.protocol.learning_rates]
    alternative = f"Eureka probability and convergence speed of {series.model} against its {series.option}"
    yield f"![{alternative}]({series.figure})"
    yield ""
    yield from table(
        [series.option, *rates, "p", "S", f"ΔS against `{split_name(series.model)[0]}`", "p of ΔS"],
        (
            [f"{dose:.3g}", *_numbers(run), *_effect(entry)]
            for (dose, run), entry in zip(series.doses, series.entries, strict=True)
        ),
    )


def _numbers(run: RunScore) -> list[str]:
    grid = run.grid
    shares = [f"{rate.events}/{rate.n}" for rate in run.by_rate]
    return [*shares, f"{share(grid.events, grid.n)} {ends(grid.probability)}", interval(grid.speed)]


def _effect(entry: Reference) -> tuple[str, str]:
    if entry.comparison is None or entry.corrected_p is None:
        return "–", "–"
    return difference(entry.comparison.speed), f"{entry.corrected_p:.2g}"
