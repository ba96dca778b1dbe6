"""Everything that is checked of an entry's files, in one list; leaderboard/README.md prints what each check says.

The checks of `BEFORE_SCORING` look at the entry alone, those of `AFTER_SCORING` also at the score of its curves, which
is computed only if the former found nothing. Evaluation items are drawn where they are asked for, and curves shared
with other entries are looked for where several are at hand.
"""

import inspect
from collections.abc import Iterator

from multistep_bench.leaderboard import reading
from multistep_bench.leaderboard.checks import copies, curves, environment, items, manifest, noise, recipe
from multistep_bench.leaderboard.checks.subject import Check, Subject

__all__ = ["AFTER_SCORING", "BEFORE_SCORING", "Check", "Subject", "described"]

BEFORE_SCORING: tuple[Check, ...] = (
    manifest.says_what_it_is,
    manifest.names_its_runs,
    manifest.is_one_model,
    recipe.is_a_shipped_task,
    recipe.is_a_model_that_may_compete,
    curves.has_every_cell,
    curves.follows_the_schedule,
    curves.counts_and_losses_are_possible,
    curves.takes_time,
    curves.auxiliary_curves_are_possible,
    environment.names_a_machine,
    noise.is_as_rough_as_counts,
    copies.shares_no_curve,
)
AFTER_SCORING: tuple[Check, ...] = (
    manifest.is_of_its_track,
    manifest.starts_untrained,
    manifest.scores_are_those_of_its_curves,
    manifest.notes_are_about_it,
)


def described() -> Iterator[str]:
    """A line of Markdown for each check: its docstring."""
    drawn = items.EvaluationSets.problems, items.EvaluationSets.start_problems
    for check in (reading.read_entry, *BEFORE_SCORING, *drawn, *AFTER_SCORING):
        text = (inspect.getdoc(check) or "").partition("\n\n")[0]
        yield f"- {' '.join(text.split())}"
