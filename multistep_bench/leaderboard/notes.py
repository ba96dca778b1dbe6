"""What a note of a re-run holds: cells of the entry trained again, a control run, and cells on fresh seeds."""

from typing import Annotated, Literal

from pydantic import Field

from multistep_bench.strict import Strict

REPRODUCTION_SCHEMA = "msb.reproduction/3"

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Text = Annotated[str, Field(max_length=200)]
Probability = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, Field(max_length=80)]
Number = Annotated[float, Field(allow_inf_nan=False)]


class Start(Strict):
    """The first numbers of a curve, which hardly depend on rounding."""

    accuracy: Number | None
    loss: Number | None
    train_loss: Number | None


class RerunCell(Strict):
    """A cell that was trained again; pairs are (as submitted, as trained again), and None where there is no event.

    same_stack: trained with the same versions on the same kind of processor, where curves must be bit-equal.
    same_items: evaluated on the same items, which a GPU draws differently.
    start:      the share of correct answers and the loss before training, then the training loss of the first interval;
                None where one is not finite.
    """

    task: Name
    cell: Name
    record_sha256: Sha256
    same_stack: bool
    bit_equal: bool
    same_items: bool
    start: Annotated[tuple[Start, Start], Field(strict=False)]
    eureka: Annotated[tuple[float | None, float | None], Field(strict=False)]
    final_accuracy: Annotated[tuple[float, float], Field(strict=False)]


class ControlRun(Strict):
    """A cell that was trained on shuffled answers and evaluated on the real ones.

    best:  the highest accuracy of any evaluation, or the lowest loss in nats where the task is scored by its loss.
    limit: what an honest model does not go beyond, see `reproductions.control_limit`.
    """

    task: Name
    cell: Name
    best: float
    limit: float


class FreshCell(Strict):
    """A cell that was trained on a seed that nobody could know. eureka: None where there is no event."""

    task: Name
    rate_index: int = Field(ge=0, le=10**6)
    seed_index: int = Field(ge=0, le=2**53)
    eureka: float | None = Field(ge=0)
    final_accuracy: float


class FreshTest(Strict):
    """Cells on fresh seeds against the submitted ones of the same task and learning rate, see `fresh`.

    rank, proportion: p-values, small where fresh cells have their Eureka-moment later, or less often, than submitted.
    power:            the probability of finding an entry whose Eureka-moments really come four times as late.
    """

    cells: tuple[FreshCell, ...] = Field(min_length=1, strict=False)
    rank: Probability
    proportion: Probability
    power: Probability


class Reproduction(Strict):
    """A line of reproductions.jsonl: who trained cells of the entry of that root again, when, and on what."""

    schema_: Literal["msb.reproduction/3"] = Field(default=REPRODUCTION_SCHEMA, alias="schema")
    by: Annotated[str, Field(min_length=1, max_length=80)]
    date: str = Field(pattern=r"^20[0-9]{2}-[01][0-9]-[0-3][0-9]$")
    root: Sha256
    versions: dict[Text, Text]
    hardware: dict[Text, Text | int]
    cells: tuple[RerunCell, ...] = Field(min_length=1, strict=False)
    control: ControlRun
    fresh: FreshTest | None = None
