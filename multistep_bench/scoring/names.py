"""What a run is called: its model's name, with as many of its changes as tell it from the others."""

from collections import Counter
from collections.abc import Mapping, Sequence

from multistep_bench.printable import ONE_LINE, printable
from multistep_bench.runs.spec import RunSpec
from multistep_bench.scoring.run import RunScore
from multistep_bench.scoring.score import Score

CODE_LENGTH = 8  # of a hash, in a label


def run_labels(runs: Sequence[RunScore]) -> list[str]:
    """A name for each run that tells it from the others on its task: the model's, with its changes where needed.

    Where runs of one model have some changes in common, the name holds only the others, the shortest first and without
    their section: "vit · depth=4, attention=linear". Where they differ in nothing but the model's code, it holds the
    beginning of the code's hash. A run that repeats another on its task has a number.
    """
    alike: dict[tuple[str, str], list[RunSpec]] = {}
    for run in runs:
        alike.setdefault((run.spec.model.name, task_label(run.spec)), []).append(run.spec)
    labels = []
    for run in runs:
        others = alike[run.spec.model.name, task_label(run.spec)]
        own = {
            key: value
            for key, value in run.spec.changes.items()
            if any(key not in spec.changes or spec.changes[key] != value for spec in others)
        }
        twins = {spec.model.code_sha256 for spec in others if spec.changes == run.spec.changes}
        name = printable(run.spec.model.name, ONE_LINE)
        parts = [_differences(own, others)] * bool(own) + [f"code {_code(run.spec)}"] * (len(twins) > 1)
        labels.append(f"{name} · {', '.join(parts)}" if parts else name)
    return _numbered([(task_label(run.spec), label) for run, label in zip(runs, labels, strict=True)])


def labels_of_one_task(runs: Sequence[RunScore]) -> list[str]:
    """`run_labels` of runs on one task, under whatever protocols; these stand in the names that would be equal."""
    labels = run_labels(runs)
    counts = Counter(labels)
    named = [
        f"{label} ({printable(run.spec.protocol_name, ONE_LINE)})" if counts[label] > 1 else label
        for run, label in zip(runs, labels, strict=True)
    ]
    return _numbered([("", label) for label in named])


def overall_labels(score: Score) -> list[str]:
    """A name for each entry of `score.overall`: that of its model's runs, the longest of those on several tasks."""
    labels = run_labels(score.runs)
    named: dict[tuple[str | None, ...], str] = {}
    for run, label in zip(score.runs, labels, strict=True):
        spec = run.spec
        key = spec.model.name, spec.protocol_name, str(spec.changes)
        for code in (None, spec.model.code_sha256):  # on a task with no other run of its model a name lacks the rest
            named[*key, code] = max(named.get((*key, code), ""), label, key=len)
    return [named[entry.model, entry.protocol, str(entry.changes), entry.code] for entry in score.overall]


def _numbered(labels: Sequence[tuple[str, str]]) -> list[str]:
    """The labels of (task, label); on a task each stands once, those that repeat one have a number."""
    seen: Counter[tuple[str, str]] = Counter()
    made = []
    for pair in labels:
        seen[pair] += 1
        made.append(pair[1] if seen[pair] == 1 else f"{pair[1]} (run {seen[pair]})")
    return made


def task_label(spec: RunSpec) -> str:
    """What a run was trained on, with what was changed in the task: "two_step-v1 quick, task.label_noise=0.1"."""
    changes = [f", {key}={value}" for key, value in spec.changes.items() if key.startswith("task.")]
    return printable(f"{spec.task.id} {spec.protocol_name}{''.join(changes)}", ONE_LINE)


def changes_label(spec: RunSpec) -> str:
    """What differs from the cards: "protocol.seeds=5, model.depth=4"."""
    return listed(spec.changes)


def _differences(own: Mapping[str, object], others: Sequence[RunSpec]) -> str:
    """Changes of one of several runs, the shortest first; a section stands where two keys have the same name in it."""
    names = Counter(_name_in_section(key) for key in {key for spec in others for key in spec.changes})
    own_text = []
    for key, value in own.items():
        name = _name_in_section(key)
        own_text.append(listed({name if names[name] == 1 else key: value}))
    return ", ".join(sorted(own_text, key=lambda text: (len(text), text)))


def _name_in_section(key: str) -> str:
    """depth of model.depth."""
    return key.partition(".")[2] or key


def listed(changes: Mapping[str, object]) -> str:
    """Changes by key: "protocol.seeds=5, model.depth=4"."""
    return printable(", ".join(f"{key}={_short(value)}" for key, value in changes.items()), ONE_LINE)


def _code(spec: RunSpec) -> str:
    return printable(spec.model.code_sha256[:CODE_LENGTH], ONE_LINE)


def _short(value: object) -> object:
    """0.30000000000000004 as 0.3."""
    return f"{value:.10g}" if isinstance(value, float) else value
