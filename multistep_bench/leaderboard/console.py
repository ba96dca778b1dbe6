"""The leaderboard's commands in a terminal: what will be published, what is wrong, what a re-run gave."""

from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from multistep_bench.leaderboard.notes import ControlRun
from multistep_bench.leaderboard.proposal import Proposal
from multistep_bench.leaderboard.reproductions import Reproduced, agrees
from multistep_bench.leaderboard.site.build import Built
from multistep_bench.leaderboard.submission import Submission
from multistep_bench.leaderboard.verify import Verdict
from multistep_bench.printable import ONE_LINE, printable
from multistep_bench.reporting.console import print_score
from multistep_bench.reporting.labels import counted, number, short_count


def print_submission(console: Console, made: Submission) -> None:
    """Everything that a pull request with this entry makes public."""
    entry, score = made.verdict.entry, made.verdict.score
    assert entry is not None
    assert score is not None
    print_score(console, score)
    model = entry.runs[0].spec.model
    record = entry.runs[0].records[0]
    grid = Grid.grid(padding=(0, 2, 0, 0))
    for name, value in (
        ("name", entry.name),
        ("url", entry.url),
        ("track", entry.track),
        ("model", f"{model.name}, {short_count(model.parameters)} parameters, code {model.code_sha256[:12]}"),
        ("versions", ", ".join(f"{key} {value}" for key, value in record.environment.versions.items())),
        ("hardware", ", ".join(f"{key} {value}" for key, value in record.environment.hardware.items())),
        ("hash of all", entry.root),
    ):
        grid.add_row(Text(name, style="bold"), Text(value))
    console.print("To be published, with every raw curve:", style="bold")
    console.print(grid)
    _say(console, f"{made.folder}: {len(made.files)} files, {made.size:,} bytes. Nothing else was written.")
    console.print("Look at it, commit that folder and open a pull request; leaderboard/README.md says how.")


def print_verdict(console: Console, verdict: Verdict) -> None:
    """Every problem of an entry, or that it has none."""
    for problem in verdict.problems:
        _say(console, f"{verdict.name}: {problem}", style="red")
    for note in verdict.notes:
        _say(console, f"{verdict.name}: not checked: {note}", style="dim")
    if verdict.sound:
        cells = sum(len(run.records) for run in verdict.entry.runs) if verdict.entry else 0
        _say(console, f"{verdict.name}: {counted(cells, 'cell')} verified, {verdict.tier}", style="green")
    else:
        kind = "is false" if verdict.readable else "cannot be read"
        _say(console, f"{verdict.name} {kind}: {counted(len(verdict.problems), 'problem')}", style="bold red")


def print_proposal(console: Console, proposal: Proposal) -> None:
    """What a pull request may not change, and every problem of its entries."""
    for problem in proposal.problems:
        _say(console, problem, style="red")
    for verdict in proposal.verdicts:
        print_verdict(console, verdict)


def print_reproduction(console: Console, done: Reproduced) -> None:
    """How each cell that was trained again compares, and what all of it proves."""
    note = done.note
    for cell in note.cells:
        stack = "same stack" if cell.same_stack else "another stack"
        curve = "bit-equal" if cell.bit_equal else "another curve"
        events = " and ".join("no Eureka-moment" if at is None else f"Eureka at {at:,.0f}" for at in cell.eureka)
        finals = " and ".join(number(at) for at in cell.final_accuracy)
        verdict = "agrees" if agrees(cell) else "DISAGREES"
        _say(
            console,
            f"{cell.task} {cell.cell}: {verdict} ({stack}, {curve}; submitted and here: {events}; final {finals})",
            style="green" if agrees(cell) else "bold red",
        )
    control = note.control
    _say(console, f"{control.task} {control.cell} on shuffled answers: {control.best:.3f}, limit {control.limit:.3f}")
    if note.fresh is not None:
        fresh = note.fresh
        _say(
            console,
            f"{counted(len(fresh.cells), 'cell')} on fresh seeds: p = {fresh.rank:.2g} by rank,"
            f" {fresh.proportion:.2g} by proportion; power {fresh.power:.2f} against Eureka-moments four times as late",
        )
    for sentence in done.disagreements:
        _say(console, f"against the entry: {sentence}", style="bold red")
    if not done.counts:
        more = f"--fresh {done.fresh_needed}" if done.fresh_needed else "an entry with more Eureka-moments"
        _say(console, f"The note does not lift the tier: that takes {more}.")
    _say(console, f"The note stands in the entry, signed {note.by}.")


def print_control(console: Console, done: ControlRun, honest: bool) -> None:
    """What a control run gave."""
    verdict = "as an honest model does" if honest else "and so knows what it was not taught"
    _say(
        console,
        f"{done.task} {done.cell}, trained on shuffled answers: {done.best:.3f} on the real ones at best, limit"
        f" {done.limit:.3f}; it {'stays below' if honest else 'goes beyond'}, {verdict}",
        style="green" if honest else "bold red",
    )


def print_board(console: Console, built: Built) -> None:
    """What a build wrote, and what it left out."""
    for table in built.tables:
        _say(console, f"{table.suite.title}: {counted(len(table.rows), 'entry', 'entries')}")
    for name, problems in built.refused.items():
        _say(console, f"left out {name}: {problems[0]} ({counted(len(problems), 'problem')})", style="red")
    for name in built.apart:
        _say(console, f"left out {name}: it is of no suite", style="dim")
    if built.note:
        _say(console, built.note, style="dim")
    _say(console, str(built.index))


def _say(console: Console, text: str, style: str = "") -> None:
    """A line as it is: names and problems come from entries, and escape codes in them must not work."""
    console.print(Text(printable(text, ONE_LINE), style=style), soft_wrap=True)
