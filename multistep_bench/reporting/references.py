"""The reference runs in baselines/results: where they lie, their scores, and each rule against plain softmax."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from multistep_bench.atomic import write_atomically
from multistep_bench.cards import DEFAULT_TASK, card_folder
from multistep_bench.runs.store import read_run
from multistep_bench.scoring.compare import compare_scores
from multistep_bench.scoring.holm import holm
from multistep_bench.scoring.names import listed
from multistep_bench.scoring.run import RunScore, score_run
from multistep_bench.scoring.set_comparison import SetComparison

# A baseline is named FAMILY or FAMILY_RULE; FAMILY alone is the plain softmax model that the others are compared with.
RULES = {
    "tau": "temperature ⅓",
    "heat": "Heat Treatment",
    "normsoftmax": "NormSoftmax, std",
    "normsoftmax_var": "NormSoftmax, variance",
    "gradscale": "gradient rescaling",
    "qknorm": "query-key normalisation",
    "sigmoid": "sigmoid",
    "sinkhorn": "Sinkhorn",
    "qr": "QR",
    "laser": "LASER",
    "ssmax": "scalable softmax",
    "ssmax_fixed": "scalable softmax, not learned",
    "entmax": "1.5-entmax",
    "differential": "differential attention",
    "gate": "output gate",
    "qk_rate": "W_Q, W_K at 4 times the rate",
    "sigma_reparam": "σReparam",
    "fixed_regions": "fixed to regions",
    "fixed_uniform": "uniform",
    "oracle": "oracle",
}


PLAIN = "plain softmax"


def reference_runs(folder: Path | None = None) -> list[Path]:
    """Every reference run, sorted: the packed files results/TASK/PROTOCOL/MODEL[-VARIANT].jsonl.

    folder: of the baselines, by default that of the suite; an installed wheel carries no results and gives no run.
    """
    return sorted(((folder or card_folder("baselines")) / "results").glob("*/*/*.jsonl"))


OLDER_CODE = "older_code.txt"


def older_code(folder: Path | None = None) -> frozenset[str]:
    """The reference runs, as TASK/PROTOCOL/MODEL, whose curves the present code was not seen to make again.

    They stand in a file beside the results, one a line, which `mstep-bench baselines replay --restate` writes.
    """
    path = (folder or card_folder("baselines")) / OLDER_CODE
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return frozenset(line for line in lines if line and not line.startswith("#"))


def write_older_code(names: Iterable[str], folder: Path | None = None) -> None:
    """Writes the file that `older_code` reads; without names it is removed."""
    path = (folder or card_folder("baselines")) / OLDER_CODE
    head = (
        "# Reference runs whose curves the present code was not seen to make again, see `mstep-bench baselines replay`."
    )
    if names := sorted(names):
        write_atomically(path, "\n".join([head, *names]) + "\n")
    else:
        path.unlink(missing_ok=True)


def reference_name(path: Path) -> str:
    """TASK/PROTOCOL/MODEL[-VARIANT] of a reference run's file."""
    return "/".join([*path.parts[-3:-1], path.stem])


_RULE, _OPTIONS = "model.attention", "model.attention_options"


@dataclass(frozen=True)
class Reference:
    """One reference run: its score, and how its grid compares with the plain model of its family in the same setting.

    comparison:  None for the plain model, where that has not been run, and for a run under a changed protocol.
    corrected_p: of ΔS, by Holm over the comparisons of the same task, protocol and setting.
    """

    score: RunScore
    comparison: SetComparison | None = None
    corrected_p: float | None = None

    @property
    def model(self) -> str:
        return self.score.spec.model.name

    @property
    def changed_protocol(self) -> bool:
        return any(key.startswith("protocol.") for key in self.score.spec.changes)

    @property
    def variant(self) -> bool:
        """The model or the task is not as its card says."""
        return bool(self.setting or self.dose)

    @cached_property
    def rule(self) -> str:
        return split_name(self.model)[1]

    @property
    def setting(self) -> str:
        """What was changed beside the protocol and the attention: "model.init_std=0.02"."""
        changes = sorted(self.score.spec.changes.items())
        return listed(
            {key: value for key, value in changes if not key.startswith("protocol.") and key not in (_RULE, _OPTIONS)}
        )

    @property
    def dose(self) -> str:
        """What was changed in the attention of the card: "temperature 16"."""
        changes = self.score.spec.changes
        rule = [str(changes[_RULE])] if _RULE in changes else []
        return ", ".join([*rule, *(f"{name} {_short(value)}" for name, value in changes.get(_OPTIONS, {}).items())])

    @property
    def rule_name(self) -> str:
        """The rule as a figure names it: "Heat Treatment", or "temperature 16" for a dose of the plain model."""
        return ", ".join(filter(None, (RULES.get(self.rule, "" if self.dose else PLAIN), self.dose)))

    @property
    def order(self) -> tuple[object, ...]:
        """Sorts the runs of a table: the plain models, then by rule, each before its doses from the highest on."""
        rules = ["", *RULES]
        place = rules.index(self.rule) if self.rule in rules else len(rules)
        options = self.score.spec.changes.get(_OPTIONS, {}).values()
        numbers = [-value for value in options if isinstance(value, int | float)]
        return place, self.model, numbers, self.dose


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def split_name(model: str) -> tuple[str, str]:
    """Family and rule of a baseline's name; the rule is empty for the plain model of a family."""
    for rule in sorted(RULES, key=len, reverse=True):
        if model.endswith(f"_{rule}"):
            return model.removesuffix(f"_{rule}"), rule
    return model, ""


Results = dict[tuple[str, str], list[Reference]]  # by task and protocol


def read_references(paths: Sequence[Path]) -> Results:
    """Scores every run and compares each with its plain model; tasks and models in the order of the page."""
    groups: dict[tuple[str, str], list[Path]] = {}
    for path in paths:
        task, protocol = path.parts[-3:-1]
        groups.setdefault((task, protocol), []).append(path)
    return {key: _compared(groups[key]) for key in sorted(groups, key=lambda key: (key[0] != DEFAULT_TASK, *key))}


def families(results: Results, protocol: str) -> Iterator[tuple[str, list[Reference]]]:
    """The runs under one protocol as it ships that are compared with one plain model: their title, and them.

    The title names task, plain model and setting; the plain model is the first of the runs, and never alone.
    """
    for (task, name), entries in results.items():
        regular = [entry for entry in entries if name == protocol and not entry.changed_protocol]
        for plain in (entry for entry in regular if not entry.rule and not entry.dose):
            alike = [each for each in regular if each.setting == plain.setting]
            family = [each for each in alike if split_name(each.model)[0] == plain.model]
            if len(family) > 1:
                yield ", ".join(filter(None, (task, plain.model, plain.setting))), family


def _compared(paths: Sequence[Path]) -> list[Reference]:
    """The runs of one task under one protocol, setting by setting, the plain models of each first."""
    settings: dict[str, list[Reference]] = {}
    for entry in (Reference(score_run(read_run(path))) for path in paths):
        settings.setdefault(entry.setting, []).append(entry)
    return [entry for setting in sorted(settings) for entry in _compared_in_setting(settings[setting])]


def _compared_in_setting(entries: Sequence[Reference]) -> list[Reference]:
    plain = {entry.model: entry for entry in entries if not (entry.rule or entry.dose or entry.changed_protocol)}
    made = []
    for entry in entries:
        other = plain.get(split_name(entry.model)[0])
        if other is not None and other is not entry and not entry.changed_protocol:
            entry = replace(entry, comparison=compare_scores(entry.score, other.score, same_recipe=True).grid)
        made.append(entry)
    corrected = iter(holm([entry.comparison.permutation for entry in made if entry.comparison]))
    made = [replace(entry, corrected_p=next(corrected)) if entry.comparison else entry for entry in made]
    return sorted(made, key=lambda entry: entry.order)
