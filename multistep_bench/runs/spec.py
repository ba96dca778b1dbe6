"""What a run consists of: the resolved specification and its cells."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field, model_validator

from multistep_bench import seeds
from multistep_bench.cards import LOCAL, BaselineCard, TaskCard
from multistep_bench.protocol import Protocol, Recipe
from multistep_bench.strict import Strict, content_sha256

SPEC_SCHEMA = "msb.spec/1"
PROSE = {"title", "summary", "intermediate", "source", "base", "bottleneck"}  # of a task card: what people read
SCORED = {"levels", "scoring"}  # of a task card: what curves are measured against, not how they come about


@dataclass(frozen=True, order=True)
class Cell:
    """One training run: a learning rate of the grid and a seed."""

    rate_index: int
    seed_index: int

    @property
    def name(self) -> str:
        return f"rate{self.rate_index}-seed{self.seed_index}"

    def seed(self, task: str, stream: str) -> int:
        """The seed of one of the cell's random streams on a task; see `seeds.STREAMS`."""
        return seeds.cell_seed(task, self.rate_index, self.seed_index, stream)


class ModelSpec(Strict):
    """A model as it is trained: its name, what builds it, and what it costs.

    builder:          a registered name, "timm/NAME", "package.module:build", or "local/NAME@HASH" of a model that a
                      script or a notebook defines.
    parameters:       number of trainable parameters.
    flops_per_sample: of one forward pass, see `models.flops`, None where it cannot be counted.
    training_flops_per_sample: of the forward and backward pass of a training step, None where it was not counted.
    code_sha256:      of the code that the model is made of, see `models.code`.
    """

    name: str
    builder: str
    config: dict[str, Any]
    recipe: Recipe = Recipe()
    leaderboard: bool
    parameters: int = Field(ge=0)
    flops_per_sample: int | None = Field(ge=0)
    training_flops_per_sample: int | None = Field(default=None, ge=0)
    code_sha256: str

    @property
    def local(self) -> bool:
        """Whether a script or a notebook defines it, so that no other program can build it by its name."""
        return self.builder.startswith(LOCAL)

    def card(self) -> BaselineCard:
        """The card that builds this model again."""
        return BaselineCard(
            name=self.name,
            title=self.name,
            summary="",
            source="",
            model=self.builder,
            config=self.config,
            recipe=self.recipe,
            leaderboard=self.leaderboard,
        )


class RunSpec(Strict):
    """Everything that decides a run's curves, and the cards' prose beside it.

    task holds one protocol, the resolved one; `changes` lists what differs from the card that ships:
    keys such as "task.same_probability" or "protocol.seeds" with their values.
    """

    schema_: Literal["msb.spec/1"] = Field(default=SPEC_SCHEMA, alias="schema")
    task: TaskCard
    protocol_name: str
    model: ModelSpec
    changes: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _has_its_protocol(self) -> "RunSpec":
        if self.protocol_name not in self.task.protocols:
            raise ValueError(f"its task holds no protocol {self.protocol_name[:40]!r}")
        return self

    @property
    def protocol(self) -> Protocol:
        return self.task.protocols[self.protocol_name]

    def cells(self) -> list[Cell]:
        """Every cell the protocol asks for, seeds first, so that each learning rate is seen early."""
        return list(self._cells())

    def _cells(self) -> Iterator[Cell]:
        for seed_index in self.protocol.seed_indices:
            for rate_index in range(len(self.protocol.learning_rates)):
                yield Cell(rate_index, seed_index)

    def learning_rate(self, cell: Cell) -> float:
        return self.protocol.learning_rates[cell.rate_index]

    def cost(self, cells: int = 1) -> float:
        """What cells cost to train, in FLOPs; where they were not counted, six a parameter and sample."""
        model = self.model
        forward = 2 * model.parameters if model.flops_per_sample is None else model.flops_per_sample
        a_sample = 3 * forward if model.training_flops_per_sample is None else model.training_flops_per_sample
        return float(cells) * self.protocol.budget * a_sample

    def identity(self) -> str:
        """Hash of what trains: two runs of one identity have the same curves on the same machine.

        Keys that have their default value are left out, so a key that is added with a default changes no identity;
        so are prose, what a curve is measured against (levels, scoring), and figures that follow from the rest.
        """
        model = self.model.model_dump(
            mode="json", include={"name", "builder", "config", "recipe", "code_sha256"}, exclude_defaults=True
        )
        task = self.task.model_dump(mode="json", exclude_defaults=True, exclude=PROSE | SCORED | {"protocols"})
        protocol = self.protocol.model_dump(mode="json", exclude_defaults=True)
        return content_sha256({"task": task, "protocol": protocol, "name": self.protocol_name, "model": model})

    def dump(self) -> dict[str, Any]:
        """Plain data, as written to spec.json and into the first line of a packed run."""
        return self.model_dump(mode="json", by_alias=True)
