"""Whether entry.json says what the entry's files say: its hashes, its track, and its scores to the ninth digit."""

from collections.abc import Iterator

from multistep_bench.leaderboard.checks.recipe import track_of
from multistep_bench.leaderboard.checks.subject import Subject
from multistep_bench.leaderboard.entry import SetSummary, is_url, summaries
from multistep_bench.leaderboard.reproductions import reproduction_problems
from multistep_bench.scoring.score import SCORER_VERSION

SCORE_TOLERANCE = 1e-9


def says_what_it_is(subject: Subject) -> Iterator[str]:
    """entry.json has the name of its folder, a plain https address, this version's scorer, and a root that is the
    hash of all of it."""
    file = subject.entry.file
    if file is None:
        return
    if file.name != subject.name:
        yield f"the entry calls itself {file.name[:80]!r} and lies in {subject.name}"
    if not is_url(file.url):
        yield "its url is no plain https address of at most 200 characters"
    if file.scorer != SCORER_VERSION:
        yield f"it was scored by scorer {file.scorer[:20]!r}, this is {SCORER_VERSION}; submit it again"
    if file.root != file.computed_root():
        yield "its root is not the hash of its manifest"


def names_its_runs(subject: Subject) -> Iterator[str]:
    """entry.json names every run with the hash of its file and of what it trains."""
    file, entry = subject.entry.file, subject.entry
    if file is None:
        return
    if [manifest.task for manifest in file.runs] != [run.spec.task.id for run in entry.runs]:
        yield "its manifest does not name the runs that lie in runs/, sorted"
        return
    for manifest, run, sha256 in zip(file.runs, entry.runs, entry.run_hashes, strict=True):
        if manifest.sha256 != sha256:
            yield f"{manifest.task}: its run is not the file that the manifest hashes"
        if manifest.identity != run.spec.identity():
            yield f"{manifest.task}: its run is another one than the manifest names"


def is_one_model(subject: Subject) -> Iterator[str]:
    """Its runs are of one model (builder, options, recipe and code) under one protocol."""
    runs = subject.entry.runs
    for run in runs:
        first, spec = runs[0].spec, run.spec
        for name, one, other in (
            ("protocol", first.protocol_name, spec.protocol_name),
            ("changes", first.changes, spec.changes),
            ("model", first.model.name, spec.model.name),
            ("builder", first.model.builder, spec.model.builder),
            ("options of the model", first.model.config, spec.model.config),
            ("recipe", first.model.recipe, spec.model.recipe),
            ("code", first.model.code_sha256, spec.model.code_sha256),
        ):
            if one != other and not subject.entry.reference:  # references were trained over time, by the code of then
                yield f"{spec.task.id}: its {name} differs from that of {first.task.id}; an entry is one model"


def is_of_its_track(subject: Subject) -> Iterator[str]:
    """It is on the track that its recipe belongs to."""
    tracks = {track_of(run.spec) for run in subject.entry.runs}
    track = "open" if "open" in tracks else "fixed"
    if track != subject.entry.track:
        yield f"it is of the {track} track and says {subject.entry.track}"


def starts_untrained(subject: Subject) -> Iterator[str]:
    """Every curve starts below the threshold."""
    for run in subject.score.runs if subject.score else ():
        invalid = [(cell.cell.name, cell.curve.invalid) for cell in run.cells if cell.curve.invalid]
        yield from (f"{run.spec.task.id}: {name}: {reason}" for name, reason in invalid)


def scores_are_those_of_its_curves(subject: Subject) -> Iterator[str]:
    """The scores in entry.json are those that its curves give when they are scored again, to 1e-9."""
    file = subject.entry.file
    for manifest, run in zip(file.runs if file else (), subject.score.runs if subject.score else (), strict=False):
        grid, tuned = summaries(run)
        for name, theirs, ours in (("grid", manifest.grid, grid), ("tuned", manifest.tuned, tuned)):
            if not _equal(theirs, ours):
                yield f"{manifest.task}: its {name} score is not that of its curves"


def notes_are_about_it(subject: Subject) -> Iterator[str]:
    """Every note of a re-run is about this root, about cells that the entry has, and about their numbers."""
    for note in subject.entry.reproductions:
        if subject.score is not None:
            yield from reproduction_problems(note, subject.entry, subject.score)


def _equal(theirs: SetSummary | None, ours: SetSummary | None) -> bool:
    if theirs is None or ours is None:
        return theirs is ours
    pairs = zip(_numbers(theirs), _numbers(ours), strict=False)
    return len(_numbers(theirs)) == len(_numbers(ours)) and all(abs(a - b) <= SCORE_TOLERANCE for a, b in pairs)


def _numbers(summary: SetSummary) -> list[float]:
    triples = (summary.probability, summary.speed, summary.final_accuracy, summary.profile)
    given = [float(triple is not None) for triple in triples]
    return [summary.n, summary.events, *given, *(value for triple in triples if triple for value in triple)]
