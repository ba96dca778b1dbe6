"""Notes of re-runs: what agreement is, and whether a note is about this very entry."""

from collections.abc import Iterator

from multistep_bench.leaderboard.entry import Entry, Reproduction, RerunCell
from multistep_bench.scoring.eureka import CurveScore
from multistep_bench.scoring.score import Score

FINAL_TOLERANCE = 0.05  # of the final accuracy, where the machine differs; in nats where the curve is a loss
ROUNDING = 1e-9


def agrees(cell: RerunCell) -> bool:
    """Bit-equal on the same stack; elsewhere an event in both or in neither, and final accuracies within tolerance.

    On another machine rounding alone may move a Eureka-moment, so its time is reported and not judged.
    """
    if cell.same_stack:
        return cell.bit_equal
    theirs, ours = cell.eureka
    difference = abs(cell.final_accuracy[0] - cell.final_accuracy[1])
    return (theirs is None) == (ours is None) and difference <= FINAL_TOLERANCE


def reproduction_problems(note: Reproduction, entry: Entry, score: Score) -> Iterator[str]:
    """Why a note cannot be of this entry, whose score is `score`."""
    if note.root != entry.root:
        yield f"a reproduction of {note.date} is of another root; its curves are not the entry's"
        return
    scored = {(run.spec.task.id, cell.cell.name): cell for run in score.runs for cell in run.cells}
    seen = set()
    for cell in note.cells:
        where = f"the reproduction of {cell.task[:40]}/{cell.cell[:40]} of {note.date}"
        if (cell.task, cell.cell) in seen:
            yield f"{where} occurs twice"
        seen.add((cell.task, cell.cell))
        submitted = scored.get((cell.task, cell.cell))
        if submitted is None or submitted.record_sha256 != cell.record_sha256:
            yield f"{where} is of no record of the entry"
        elif not _same_numbers(cell, submitted.curve):
            yield f"{where} states other numbers than the entry's curve has"


def _same_numbers(cell: RerunCell, submitted: CurveScore) -> bool:
    event, final = cell.eureka[0], cell.final_accuracy[0]
    if (event is None) != (submitted.eureka is None) or abs(final - submitted.final_accuracy) > ROUNDING:
        return False
    same = event is None or submitted.eureka is None or abs(event - submitted.eureka) <= ROUNDING * max(1.0, event)
    return same and (not cell.bit_equal or (cell.eureka[1] == event and cell.final_accuracy[1] == final))
