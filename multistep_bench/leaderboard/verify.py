"""Verifies an entry: every hash, every copy of a number, every curve, and the score computed anew.

`verify` finds every problem and raises for none: an entry is hostile input. What passes is *re-scored*: its curves
are consistent and its score is ours. That somebody trained those curves is shown by `reproduce` alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from multistep_bench.errors import BenchError, DataError
from multistep_bench.leaderboard.checks import AFTER_SCORING, BEFORE_SCORING, Subject
from multistep_bench.leaderboard.checks.copies import Trace, copied_from_others, traces_of
from multistep_bench.leaderboard.checks.items import EvaluationSets
from multistep_bench.leaderboard.checks.recipe import shipped
from multistep_bench.leaderboard.entry import Entry, Tier, entry_folders
from multistep_bench.leaderboard.reading import read_entry
from multistep_bench.leaderboard.references import NO_REFERENCES, references
from multistep_bench.leaderboard.reproductions import tier_of
from multistep_bench.leaderboard.strict_json import Unreadable
from multistep_bench.printable import ONE_LINE, printable
from multistep_bench.scoring.score import Score, score

PROBLEMS_SHOWN = 200


@dataclass(frozen=True)
class Verdict:
    """What was found of an entry.

    problems:   why it is false, or cannot be read where `readable` is False; none for a sound entry.
    notes:      what could not be checked here.
    entry, score: what was read, None where it cannot be; `score` only of a sound entry.
    traces:     of every cell, to find copies in other entries.
    """

    name: str
    problems: tuple[str, ...] = ()
    readable: bool = True
    notes: tuple[str, ...] = ()
    entry: Entry | None = None
    score: Score | None = None
    traces: tuple[Trace, ...] = ()

    @property
    def sound(self) -> bool:
        return not self.problems

    def refused(self, *problems: str) -> "Verdict":
        """The same with further problems, if any."""
        if not problems:
            return self
        return replace(self, problems=(*self.problems, *problems)[:PROBLEMS_SHOWN], score=None)

    def to_dict(self) -> dict[str, Any]:
        return {
            "entry": self.name,
            "sound": self.sound,
            "readable": self.readable,
            "tier": self.tier,
            "problems": list(self.problems),
            "notes": list(self.notes),
            "score": self.score.to_dict() if self.score else None,
        }

    @property
    def tier(self) -> Tier:
        """self-reported until it is found sound, re-scored from then on, reproduced if its notes of re-runs say so."""
        if not self.sound or self.entry is None or self.score is None:
            return "self-reported"
        return tier_of(self.entry.reproductions, self.score)


def verify(
    folder: Path, *, among: Path | None = None, data_root: Path | None = None, draw_items: bool = True
) -> Verdict:
    """Everything that is wrong with the entry in a folder.

    among:      the folder of a board, whose other entries and references must not share a curve with this one.
    draw_items: draw the evaluation items of every cell again, for which a task needs its data files.
    """
    try:
        entry = read_entry(folder)
    except Unreadable as error:
        return unreadable(folder, *error.problems)
    except OSError as error:
        return unreadable(folder, f"{folder}: {error.strerror}")
    verdict = verify_entry(entry, folder.name)
    if draw_items and verdict.sound:
        problems, notes = _draw_problems(entry, data_root)
        verdict = replace(verdict.refused(*problems), notes=tuple(notes))
    if among is not None:
        verdict = verdict.refused(*copied_from_others(verdict.traces, _others(folder, among)))
        if not references():
            verdict = replace(verdict, notes=(*verdict.notes, f"copies of reference curves, {NO_REFERENCES}"))
    return verdict


def unreadable(folder: Path, *problems: str) -> Verdict:
    """Of a folder that is no entry, or none that can be read; its name and path may be no text."""
    shown = tuple(printable(problem, ONE_LINE) for problem in problems[:PROBLEMS_SHOWN])
    return Verdict(printable(folder.name, ONE_LINE), shown, readable=False)


def verify_entry(entry: Entry, name: str) -> Verdict:
    """Everything that is wrong with an entry by itself; `name` is what it should be called."""
    subject = Subject(entry, name, tuple(traces_of(entry)))
    problems = [problem for check in BEFORE_SCORING for problem in check(subject)]
    if not problems:
        try:
            subject = replace(subject, score=score(entry.runs))
        except BenchError as error:
            problems.append(str(error))
        else:
            problems += [problem for check in AFTER_SCORING for problem in check(subject)]
    shown = tuple(problems[:PROBLEMS_SHOWN])
    scored = None if problems else subject.score
    return Verdict(name, shown, entry=entry, score=scored, traces=subject.traces)


def _others(folder: Path, board: Path) -> Iterator[Trace]:
    """The curves of the references and of a board's other entries; one that cannot be read has none."""
    yield from reference_traces()
    for other in entry_folders(board):
        if other.resolve() != folder.resolve():
            try:
                yield from traces_of(read_entry(other))
            except (Unreadable, OSError):
                continue  # whoever verifies that one is told


@lru_cache(maxsize=1)
def reference_traces() -> tuple[Trace, ...]:
    """The curves of the references."""
    return tuple(trace for entry in references() for trace in traces_of(entry))


def _draw_problems(entry: Entry, data_root: Path | None) -> tuple[list[str], list[str]]:
    sets, problems, notes = EvaluationSets(data_root), [], []
    for run in entry.runs:
        try:
            problems += sets.problems(run)
            if shipped(run.spec):
                problems += sets.start_problems(run)
        except DataError as error:
            notes.append(f"{run.spec.task.id}: evaluation items not drawn again, {error}")
        if any(record.environment.hardware.get("device") != "cpu" for record in run.records):
            notes.append(f"{run.spec.task.id}: evaluation items of cells trained on a GPU are not drawn again")
    return problems, notes
