"""An upper bound for sequences: a transformer whose tokens carry a mark where the answer stands."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from multistep_bench.batch import IGNORED, Inputs, TaskInfo
from multistep_bench.errors import ModelError
from multistep_bench.models import sequence
from multistep_bench.models.initial import weight_std
from multistep_bench.registry import register_model

Steps = dict[str, torch.Tensor]
Marker = Callable[[Inputs, Steps], torch.Tensor]  # inputs and steps → where the answer stands, [B, T] bool
MARKS = "marks"  # beside an episode's items and labels
TOKENS = "tokens"


class MarkedEmbedding(nn.Module):
    """Embeds inputs as `embedding` does, and adds one learned vector to the marked tokens."""

    def __init__(self, embedding: nn.Module, width: int, std: float) -> None:
        super().__init__()
        self.embedding = embedding
        self.mark = nn.Parameter(std * torch.randn(width, dtype=torch.float32))

    def forward(self, marked: dict[str, torch.Tensor]) -> torch.Tensor:
        """An episode or {"tokens": [B, T]}, with "marks" [B, T] bool beside it → [B, T, width]."""
        inputs = {name: value for name, value in marked.items() if name != MARKS}
        embedded = self.embedding(inputs.get(TOKENS, inputs))
        return embedded + marked[MARKS].unsqueeze(2) * self.mark


class SequenceOracle(nn.Module):
    """A `Sequence` that is told by a mark which tokens hold the answer; what they say it has to read itself.

    `uses_steps` marks a model that is given the intermediate variables, and excludes it from the leaderboard.
    """

    uses_steps = True

    def __init__(self, model: sequence.Sequence, marker: Marker, std: float) -> None:
        super().__init__()
        self.marker = marker
        self.sequence = model
        model.embedding = MarkedEmbedding(model.embedding, model.head.in_features, std)

    def forward(self, inputs: Inputs, steps: Steps) -> torch.Tensor:
        """Tokens [B, T] or an episode, and steps, each [B] → logits as those of `Sequence`."""
        given = inputs if isinstance(inputs, dict) else {TOKENS: inputs}
        return self.sequence({**given, MARKS: self.marker(inputs, steps)})

    def no_weight_decay(self) -> set[str]:
        """As the sequence model's."""
        return {f"sequence.{name}" for name in self.sequence.no_weight_decay()}


def pointed_noun(inputs: Inputs, steps: Steps) -> torch.Tensor:
    """Of [pointer, nouns, verb] the noun whose number is the step "pointer"."""
    assert isinstance(inputs, torch.Tensor)
    return _every(inputs) == 1 + steps["pointer"].unsqueeze(1)


def matching_labels(inputs: Inputs, steps: Steps) -> torch.Tensor:
    """Of item, label, …, query item the labels behind the items of the query's class; none where it has no item."""
    assert isinstance(inputs, dict)
    items = range(inputs["labels"].shape[1])
    same = torch.stack([steps[f"item_{index}_class"] == steps["query_class"] for index in items], 1)  # B, n
    marks = torch.stack((torch.zeros_like(same), same), 2).flatten(1)  # B, 2n
    return torch.cat((marks, torch.zeros_like(same[:, :1])), 1)


def last_value(inputs: Inputs, steps: Steps) -> torch.Tensor:
    """Of key, value, …, hops, start the value whose key is the last symbol before the answer.

    That is the start after one hop, else the deepest of the steps "symbol_1", … that the chain passes.
    """
    assert isinstance(inputs, torch.Tensor)
    symbol = inputs[:, -1]
    for name in sorted(steps, key=lambda name: int(name.removeprefix("symbol_"))):
        symbol = torch.where(steps[name] == IGNORED, symbol, steps[name])
    keys = inputs[:, :-2:2] == symbol.unsqueeze(1)  # B, pairs
    marks = torch.stack((torch.zeros_like(keys), keys), 2).flatten(1)
    return torch.cat((marks, torch.zeros_like(marks[:, :2])), 1)


def bridged_value(inputs: Inputs, steps: Steps) -> torch.Tensor:
    """Of first, second, …, query the second of the pair that begins with the step "bridge"."""
    assert isinstance(inputs, torch.Tensor)
    firsts = inputs[:, :-1:2] == steps["bridge"].unsqueeze(1)  # B, pairs
    marks = torch.stack((torch.zeros_like(firsts), firsts), 2).flatten(1)
    return torch.cat((marks, torch.zeros_like(firsts[:, :1])), 1)


def followers(inputs: Inputs, steps: Steps) -> torch.Tensor:
    """Of a walk the tokens that come after the state "state", whose counts give the answer after the last token."""
    assert isinstance(inputs, torch.Tensor)
    after = inputs[:, :-1] == steps["state"].unsqueeze(1)
    return torch.cat((torch.zeros_like(after[:, :1]), after), 1)


# By what a task's layout and steps hold: a generator of one's own with the same names is marked alike.
MARKERS: tuple[tuple[set[str], set[str], Marker], ...] = (
    ({"pointer", "noun_0", "verb"}, {"pointer"}, pointed_noun),
    ({"context", "query"}, {"query_class", "item_0_class"}, matching_labels),
    ({"pairs", "hops", "start"}, set(), last_value),
    ({"pairs", "query"}, {"bridge"}, bridged_value),
    ({"context", "state"}, {"state"}, followers),
)


def marker_of(info: TaskInfo) -> Marker:
    """The function that finds the answer's tokens of a task; raises `ModelError` where there is none."""
    for regions, steps, marker in MARKERS:
        if regions <= set(info.layout) and steps <= set(info.steps):
            return marker
    raise ModelError(
        f"model 'sequence_oracle' knows no place of the answer in {info.id}, whose steps are"
        f" {', '.join(info.steps) or 'none'}; choose another task, or add it to MARKERS in models/sequence_oracle.py"
    )


def _every(tokens: torch.Tensor) -> torch.Tensor:
    """The position of each token of [B, T], as [1, T]."""
    return torch.arange(tokens.shape[1], device=tokens.device).unsqueeze(0)


@register_model("sequence_oracle")
def build(info: TaskInfo, **options: Any) -> SequenceOracle:
    """A `SequenceOracle` for a task in which the answer stands among the tokens; `options` are those of "sequence".

    The mark starts from N(0, 1) as embeddings do, or from N(0, `init_std`²). Raises `ModelError` for other tasks.
    """
    marker = marker_of(info)
    model = sequence.build(info, **options)
    std = weight_std(options.get("init_std"), model.head.in_features, "sequence_oracle")
    return SequenceOracle(model, marker, 1.0 if std is None else std)
