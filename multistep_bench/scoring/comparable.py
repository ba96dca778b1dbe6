"""Whether two runs can be compared: what must be equal, and which differences are named beside the result."""

from collections.abc import Iterator

from multistep_bench.errors import RunError
from multistep_bench.runs.spec import RunSpec
from multistep_bench.strict import content_sha256

FIXED = ("budget",)  # keys of a protocol without which two times to the Eureka-moment say nothing about one another


def refusals(ours: RunSpec, theirs: RunSpec) -> Iterator[str]:
    """Why two runs cannot be compared: another task, other parameters of it, another card, or another budget."""
    if ours.task.id != theirs.task.id:
        yield f"task {ours.task.id} against {theirs.task.id}"
    elif ours.task.sha256() != theirs.task.sha256():
        yield f"cards of {ours.task.id} with hash {ours.task.sha256()[:12]} against {theirs.task.sha256()[:12]}"
    for key in FIXED:
        if getattr(ours.protocol, key) != getattr(theirs.protocol, key):
            yield f"{key} {getattr(ours.protocol, key)} against {getattr(theirs.protocol, key)}"
    for key in sorted({*ours.changes, *theirs.changes}):
        if key.startswith("task.") and ours.changes.get(key) != theirs.changes.get(key):
            yield f"{key} {ours.changes.get(key, 'unchanged')} against {theirs.changes.get(key, 'unchanged')}"


def recipe_differences(ours: RunSpec, theirs: RunSpec) -> dict[str, tuple[object, object]]:
    """What else differs in training, by key: the protocol's name as "protocol", and keys of the protocol."""
    found: dict[str, tuple[object, object]] = {}
    if ours.protocol_name != theirs.protocol_name:
        found["protocol"] = ours.protocol_name, theirs.protocol_name
    for key, value in ours.protocol:
        other = getattr(theirs.protocol, key)
        if key not in FIXED and value != other:
            found[key] = value, other
    return found


def check_comparable(ours: RunSpec, theirs: RunSpec, *, same_recipe: bool = False) -> None:
    """Raises `RunError` saying all that forbids a comparison; same_recipe: every difference in the protocol does."""
    differences = list(refusals(ours, theirs))
    remedy = "train both models on the same task with the same budget"
    if same_recipe:
        recipe = recipe_differences(ours, theirs)
        differences += [f"{key} {value} against {other}" for key, (value, other) in recipe.items()]
        remedy = "train both models on the same task under the same protocol"
    if differences:
        raise RunError(f"the two runs cannot be compared: {'; '.join(differences)}; {remedy}")


def comparable_key(spec: RunSpec) -> str:
    """Equal for runs that can be compared."""
    task = {key: value for key, value in spec.changes.items() if key.startswith("task.")}
    fixed = [getattr(spec.protocol, key) for key in FIXED]
    return content_sha256([spec.task.id, spec.task.sha256(), fixed, task])
