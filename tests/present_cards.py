"""The task of a stored run as the cards describe it now."""

import multistep_bench as mb
from multistep_bench.cards import TaskCard, load_task
from multistep_bench.runs.spec import RunSpec


def present_card(spec: RunSpec) -> TaskCard:
    """The present card of a run's task, with the changes that the run laid over it."""
    card = load_task(spec.task.id)
    given = {key.removeprefix("task."): value for key, value in spec.changes.items() if key.startswith("task.")}
    if not given:
        return card
    levels = mb.make_task(card.id, **given).levels()
    update = {"parameters": {**card.parameters, **given}, "levels": levels, "batch_sha256": ""}
    return card.model_copy(update=update)
