"""`check TASK --gate`: trains an oracle, fixed attention and softmax, and prints what they say about the plateau."""

from pathlib import Path
from typing import Any

from rich.table import Table

from multistep_bench.reporting.labels import short_count
from multistep_bench.reporting.terminal import Terminal, print_json, say
from multistep_bench.scoring.gate import Gate

UNDECIDED = 1


def check_gate(task: str, protocol: str, out: Path | None, as_json: bool, **options: Any) -> int:
    """Runs the gate and prints it; the exit code. options: those of `training.gate.run_gate`."""
    from multistep_bench.reporting.console import make_observer
    from multistep_bench.training.gate import run_gate

    console = Terminal(stderr=as_json)
    gate = run_gate(task, protocol, out, observer=make_observer(console), **options)
    if as_json:
        print_json(gate.to_dict())
    else:
        console.print(gate_table(gate))
        say(gate.sentence())
    return UNDECIDED if gate.verdict == "undecided" else 0


def gate_table(gate: Gate) -> Table:
    """A row a run: who jumps, when, and the corrected test against softmax."""
    table = Table(title=f"{gate.task}, protocol {gate.protocol}", title_justify="left", box=None, padding=(0, 2))
    for column in ("run", "model", "jump", "median time", "mean time/budget", "p"):
        table.add_column(column, no_wrap=True)
    for row in gate.rows:
        mean = row.mean_time
        table.add_row(
            row.role,
            row.model,
            f"{row.events}/{row.n}",
            "–" if row.median is None else short_count(row.median),
            f"{mean.estimate:.2f} [{mean.low:.2f}, {mean.high:.2f}]",
            "–" if row.p is None else f"{row.p:.2g}",
        )
    return table
