"""Whether entry.json says what the entry's files say: its hashes, its track, and its scores to the ninth digit."""

from collections.abc import Iterator

from multistep_bench.leaderboard.entry import Entry, RunManifest, SetSummary, is_url, summaries
from multistep_bench.leaderboard.recipe import track_of
from multistep_bench.leaderboard.reproductions import reproduction_problems
from multistep_bench.runs.record import Run
from multistep_bench.scoring.score import SCORER_VERSION, Score

SCORE_TOLERANCE = 1e-9


def file_problems(entry: Entry, name: str) -> Iterator[str]:
    """Where entry.json and the files differ; `name` is what the entry should be called."""
    file = entry.file
    if file is None:
        return
    if file.name != name:
        yield f"the entry calls itself {file.name[:80]!r} and lies in {name}"
    if not is_url(file.url):
        yield "its url is no plain https address of at most 200 characters"
    if file.scorer != SCORER_VERSION:
        yield f"it was scored by scorer {file.scorer[:20]!r}, this is {SCORER_VERSION}; submit it again"
    if file.root != file.computed_root():
        yield "its root is not the hash of its manifest"
    if [manifest.task for manifest in file.runs] != [run.spec.task.id for run in entry.runs]:
        yield "its manifest does not name the runs that lie in runs/, sorted"
        return
    for manifest, run, spec_sha256 in zip(file.runs, entry.runs, entry.spec_hashes, strict=True):
        yield from (f"{manifest.task}: {problem}" for problem in _manifest_problems(manifest, run, spec_sha256))
    yield from _together_problems(entry)


def _manifest_problems(manifest: RunManifest, run: Run, spec_sha256: str) -> Iterator[str]:
    if manifest.spec_sha256 != spec_sha256:
        yield "spec.json is not the file that the manifest hashes"
    present = {record.cell.name: record.sha256 for record in run.records}
    for cell in sorted(set(manifest.records) | set(present)):
        if manifest.records.get(cell) != present.get(cell):
            yield f"{cell[:40]} is not the file that the manifest hashes"


def _together_problems(entry: Entry) -> Iterator[str]:
    """An entry is one model under one protocol, on one task or more."""
    for run in entry.runs:
        first, spec = entry.runs[0].spec, run.spec
        for name, one, other in (
            ("protocol", first.protocol_name, spec.protocol_name),
            ("changes", first.changes, spec.changes),
            ("model", first.model.name, spec.model.name),
            ("builder", first.model.builder, spec.model.builder),
            ("options of the model", first.model.config, spec.model.config),
            ("recipe", first.model.recipe, spec.model.recipe),
            ("code", first.model.code_sha256, spec.model.code_sha256),
        ):
            if one != other:
                yield f"{spec.task.id}: its {name} differs from that of {first.task.id}; an entry is one model"


def score_problems(entry: Entry, scored: Score) -> Iterator[str]:
    """Where the entry says another track or score than `scored`, that of its curves, or a note does."""
    tracks = {track_of(run.spec) for run in entry.runs}
    track = "open" if "open" in tracks else "fixed"
    if track != entry.track:
        yield f"it is of the {track} track and says {entry.track}"
    for run in scored.runs:
        invalid = [(cell.cell.name, cell.curve.invalid) for cell in run.cells if cell.curve.invalid]
        yield from (f"{run.spec.task.id}: {name}: {reason}" for name, reason in invalid)
    for manifest, run in zip(entry.file.runs if entry.file else (), scored.runs, strict=False):
        grid, tuned = summaries(run)
        for name, theirs, ours in (("grid", manifest.grid, grid), ("tuned", manifest.tuned, tuned)):
            if not _equal(theirs, ours):
                yield f"{manifest.task}: its {name} score is not that of its curves"
    for note in entry.reproductions:
        yield from reproduction_problems(note, entry, scored)


def _equal(theirs: SetSummary | None, ours: SetSummary | None) -> bool:
    if theirs is None or ours is None:
        return theirs is ours
    pairs = zip(_numbers(theirs), _numbers(ours), strict=False)
    return len(_numbers(theirs)) == len(_numbers(ours)) and all(abs(a - b) <= SCORE_TOLERANCE for a, b in pairs)


def _numbers(summary: SetSummary) -> list[float]:
    triples = (summary.probability, summary.speed, summary.final_accuracy, summary.profile)
    given = [float(triple is not None) for triple in triples]
    return [summary.n, summary.events, *given, *(value for triple in triples if triple for value in triple)]
