"""Cards: strict TOML → frozen objects with a content hash.

A task card names a generator, its parameters, the levels a score is measured against and the
protocols a model may be trained under. A baseline card names a model, its configuration and recipe.
Every problem of a card is reported at once, with the file and the key.
"""

import math
import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from multistep_bench import registry
from multistep_bench.errors import CardError, NotFound
from multistep_bench.protocol import Protocol, Recipe
from multistep_bench.strict import Strict, content_sha256, validated
from multistep_bench.trusted_code import check_trusted

TASK_ID = r"^[a-z0-9_]+-v[0-9]+$"
DEFAULT_TASK = "two_step_digits-v1"
DEFAULT_PROTOCOL = "quick"
LOCAL = "local/"  # of the names of models that a script or a notebook defines, see `models.local`


CARD_BYTES = 1 << 18
TINY = 1e-6  # an accuracy that no number of items could tell from none
Measure = Literal["accuracy", "loss"]


class Levels(Strict):
    """What a score is measured against; `shortcut` is absent for a control task.

    Accuracies, chance ≤ shortcut < ceiling ≤ 1; or, for a task whose curve is a loss, cross-entropies in nats,
    chance ≥ shortcut > ceiling.
    """

    chance: float = Field(ge=0, le=1e6, allow_inf_nan=False)
    shortcut: float | None = Field(default=None, ge=0, le=1e6, allow_inf_nan=False)
    ceiling: float = Field(ge=0, le=1e6, allow_inf_nan=False)

    @model_validator(mode="after")
    def _ordered(self) -> "Levels":
        if not (self.chance <= self.floor < self.ceiling <= 1 or self.chance >= self.floor > self.ceiling):
            raise ValueError(
                f"chance ≤ shortcut < ceiling ≤ 1 does not hold (of losses, chance ≥ shortcut > ceiling): {self}"
            )
        return self

    @property
    def measure(self) -> Measure:
        """What the levels, and so the task's curves, are."""
        return "accuracy" if self.floor < self.ceiling else "loss"

    @property
    def floor(self) -> float:
        """The level a model must leave: the shortcut, or chance where there is none."""
        return self.chance if self.shortcut is None else self.shortcut

    def threshold(self, fraction: float = 0.5) -> float:
        """θ = a_s + λ(a_c − a_s), the accuracy or loss that marks a Eureka-moment."""
        return self.floor + fraction * (self.ceiling - self.floor)


class Scoring(Strict):
    """λ and m of the Eureka-moment: m evaluations in a row at or beyond the threshold."""

    threshold_fraction: float = Field(default=0.5, ge=0.01, le=1)
    confirmations: int = Field(default=3, ge=1, le=100)


DRAFT: dict[str, Any] = {"levels": {"chance": 0.0, "ceiling": 1.0}, "batch_sha256": ""}  # of a card that has none yet


class TaskCard(Strict):
    """A task: what is drawn, what it is measured against, how models are trained on it.

    `base` names another card that this one starts from; what it writes is laid over the base's, key by key. It never
    inherits levels, bottleneck or batch hash, nor the parameters of another generator.
    `bottleneck` is what a gate run found its plateau to be (`check TASK --gate`); None where none was run.
    `size` is the preset of model size that reference models take, unless a protocol names another.
    `batch_sha256` pins the first batches (see `generators.task.batch_sha256`).
    """

    id: str = Field(pattern=TASK_ID)
    title: str
    summary: str
    intermediate: str
    source: str
    generator: str
    base: str | None = None
    bottleneck: Literal["attention", "not attention alone"] | None = None
    size: str = "tiny"
    parameters: dict[str, Any] = Field(default_factory=dict)
    levels: Levels
    scoring: Scoring = Scoring()
    protocols: dict[str, Protocol] = Field(min_length=1)
    batch_sha256: str = Field(pattern=r"^([0-9a-f]{64})?$")

    @model_validator(mode="after")
    def _enough_items(self) -> "TaskCard":
        if self.levels.measure == "loss":
            return self  # its noise depends on the model, so no number follows from the levels
        floor = self.levels.floor
        margin = self.levels.threshold(self.scoring.threshold_fraction) - floor
        for name, protocol in self.protocols.items():
            needed = 36 * floor * (1 - floor) / margin**2 if margin > TINY else math.inf
            if protocol.evaluation_items < needed:
                raise ValueError(
                    f"protocols.{name}.evaluation_items {protocol.evaluation_items} is below {needed:.0f}:"
                    " the threshold would not stand six standard errors above the shortcut"
                )
        return self

    def protocol(self, name: str) -> Protocol:
        """The protocol of that name; raises `NotFound` with the closest match."""
        if name not in self.protocols:
            raise NotFound(f"protocol of {self.id}", name, self.protocols, f"known: {', '.join(self.protocols)}")
        return self.protocols[name]

    def sha256(self) -> str:
        """Hash of what defines the task: not of its prose, its protocols, or keys that have their default value."""
        return content_sha256(
            self.model_dump(
                mode="json",
                include={"id", "generator", "parameters", "levels", "scoring", "batch_sha256"},
                exclude_defaults=True,
            )
        )


class BaselineCard(Strict):
    """A reference model: a registered builder, its configuration, and where it comes from.

    `leaderboard = false` bars a model that sees what a scored model must not see.
    """

    name: str = Field(pattern=r"^[\w./:-]+$")
    title: str
    summary: str
    source: str
    model: str
    config: dict[str, Any] = Field(default_factory=dict)
    recipe: Recipe = Recipe()
    leaderboard: bool = True


def card_folder(kind: Literal["tasks", "baselines", "leaderboard"]) -> Path:
    """Where the cards, and the suites, that ship are: inside an installed wheel, or at the top of a checkout."""
    package = Path(__file__).resolve().parent
    installed = package / "_cards" / kind
    return installed if installed.is_dir() else package.parent / kind


def list_tasks() -> list[str]:
    """Ids of the task cards that ship with the suite, sorted."""
    return sorted(path.stem for path in card_folder("tasks").glob("*.toml"))


def list_baselines() -> list[str]:
    """Names of the baseline cards that ship with the suite, sorted."""
    return sorted(path.stem for path in card_folder("baselines").glob("*.toml"))


def list_models() -> list[str]:
    """Names that `--model` takes as they are: baseline cards, plug-ins and what a user registered; none is imported.

    Builders of the suite that stand behind several cards, such as "sequence", are not among them.
    """
    return sorted({*list_baselines(), *(set(registry.models.names()) - registry.models.builtin.keys())})


def load_task(task: str | Path) -> TaskCard:
    """The task card of an id, or of a path to a TOML file."""
    return _task_card(task, {})


def load_draft(task: str | Path) -> tuple[TaskCard, frozenset[str]]:
    """A task card that may lack what only its generator can tell, and the keys of `DRAFT` that it lacks.

    Placeholders stand in their place: such a card is for `check` alone, which computes them.
    """
    missing = frozenset(DRAFT.keys() - _with_base(*_read_task(task)).keys())
    return _task_card(task, {key: DRAFT[key] for key in missing}), missing


def _read_task(task: str | Path) -> tuple[dict[str, Any], Path]:
    path = _card_path("task", "tasks", task, list_tasks())
    return read_toml(path), path


def _task_card(task: str | Path, defaults: dict[str, Any]) -> TaskCard:
    content, path = _read_task(task)
    content = {**defaults, **_with_base(content, path)}
    card = validated(TaskCard, content, str(path))
    if not _ships(path, "tasks"):
        check_trusted([card.generator, card.parameters], str(path))
    if card.id != path.stem:
        raise CardError(f"{path}: id '{card.id}' differs from the file's name; name the file {card.id}.toml")
    return card


def load_baseline(baseline: str | Path) -> BaselineCard:
    """The baseline card of a name, or of a path to a TOML file."""
    path = _card_path("model", "baselines", baseline, list_baselines())
    card = validated(BaselineCard, read_toml(path), str(path))
    if not _ships(path, "baselines"):
        check_trusted([card.model, card.config], str(path))
    return card


def _ships(path: Path, folder: Literal["tasks", "baselines"]) -> bool:
    return path.resolve().parent == card_folder(folder).resolve()


def is_card_path(name: str | Path) -> bool:
    """True for what a user means as the path of a card rather than a name."""
    return isinstance(name, Path) or str(name).endswith(".toml")


def _card_path(kind: str, folder: Literal["tasks", "baselines"], name: str | Path, known: list[str]) -> Path:
    if not isinstance(name, str | Path):
        raise CardError(
            f"a {type(name).__name__} is given as the {kind}; give a name or the path of a card, and what differs from"
            f" it as changes={{'{kind}.KEY': value}}"
        )
    if is_card_path(name):
        path = Path(name)
        if not path.is_file():
            raise CardError(f"there is no card at {path}; give the path of a TOML file or a name from `list`")
        return path
    if name not in known:
        raise NotFound(kind, str(name), known, f"mstep-bench list {folder}")
    return card_folder(folder) / f"{name}.toml"


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file; raises `CardError` naming the file where it is not readable."""
    try:
        with path.open("rb") as file:
            content = file.read(CARD_BYTES + 1)
        if len(content) > CARD_BYTES:
            raise CardError(f"{path} is longer than {CARD_BYTES} bytes, which no card is")
        return tomllib.loads(content.decode("utf-8"))
    except (ValueError, OSError) as error:  # also of a number with thousands of digits
        raise CardError(f"{path} is not readable TOML: {str(error)[:200]}") from None
    except RecursionError:
        raise CardError(f"{path} is not readable TOML: it is nested too deep") from None


def _with_base(content: dict[str, Any], path: Path) -> dict[str, Any]:
    base = content.get("base")
    if base is None:
        return content
    beside = path.parent / f"{base}.toml"
    parent_path = beside if beside.is_file() else _card_path("task", "tasks", str(base), list_tasks())
    parent = read_toml(parent_path)
    if "base" in parent:
        raise CardError(f"{path}: base '{base}' has a base itself; name the card it starts from")
    dropped = {"id", "batch_sha256", "levels", "bottleneck"}
    if content.get("generator") not in (None, parent.get("generator")):
        dropped.add("parameters")  # they are those of the base's generator
    return deep_merge({key: value for key, value in parent.items() if key not in dropped}, content)


def deep_merge(base: dict[str, Any], table: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in table.items():
        inherited = merged.get(key)
        if isinstance(value, dict) and isinstance(inherited, dict):
            value = deep_merge(inherited, value)
        merged[key] = value
    return merged
