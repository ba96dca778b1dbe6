"""How a task's models are trained, and what a baseline changes in it: the tables `protocols` and `recipe` of cards."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from multistep_bench.strict import Strict

# Bounds far beyond any use, so that every card is priced or refused at once, whoever wrote it.
MANY = 10**12  # samples, steps
Rate = Annotated[float, Field(gt=0, le=1e38)]  # float32 has no larger numbers
Fraction = Annotated[float, Field(ge=0, le=1)]
Multiplier = Annotated[float, Field(ge=0, le=1e6)]
Option = bool | int | float | str
Schedule = Literal["constant", "cosine", "linear", "inverse_sqrt", "wsd", "step"]
OPTIMIZERS = ("adamw", "sgd")  # of our own; the table behind them is `training.optimizers`
TIMM_OPTIMIZER = "timm/"


class Protocol(Strict):
    """How every model is trained and evaluated on a task; one of a card's `[protocols.NAME]` tables.

    budget:            training samples a cell draws, replays included.
    evaluations:       evaluations after the one at the start, evenly spaced over the budget.
    evaluation_items:  held-out items of each evaluation, the same ones throughout a cell.
    seeds:             cells per learning rate.
    first_seed:        index of the first of them; a claim takes seeds that no screen before it used.
    learning_rates:    the grid, ascending.
    warmup:            fraction of the budget over which the rate rises linearly from `warmup_rate`.
    optimizer:         "adamw", "sgd", or "timm/NAME" for one that timm's factory makes.
    optimizer_options: its keyword arguments, besides the rate, `weight_decay` and `betas`, which stand here.
    betas:             of AdamW, and of an optimiser of timm that takes them where they are not the default.
    max_grad_norm:     the norm that the gradient of all parameters together is clipped to; absent, it is not.
    schedule:          what follows the warm-up, see `training.schedules`: "constant", "cosine", "linear",
                       "inverse_sqrt", "wsd" (constant, then a line) or "step".
    decay:             fraction of the budget over which "wsd" falls to `final_rate` at the end.
    milestones:        fractions of the budget at which "step" multiplies the rate by `step_factor`.
    schedule_period:   samples after which the rate is set anew (an epoch, say); 0 sets it every batch.
    precision:         "float32", or "bfloat16" for automatic mixed precision.
    size:              the preset of model size, where it differs from the card's.
    """

    budget: int = Field(gt=0, le=MANY)
    batch_size: int = Field(gt=0, le=10**6)
    evaluations: int = Field(ge=100, le=10**6)
    evaluation_items: int = Field(gt=0, le=10**7)
    seeds: int = Field(gt=0, le=10**5)
    first_seed: int = Field(default=0, ge=0, le=9 * 10**5)
    learning_rates: tuple[Rate, ...] = Field(min_length=1, max_length=1000, strict=False)
    optimizer: str = Field(default="adamw", max_length=100)
    optimizer_options: dict[str, Option] = Field(default_factory=dict, max_length=100)
    betas: tuple[Fraction, Fraction] = Field(default=(0.9, 0.999), strict=False)
    weight_decay: float = Field(default=0.05, ge=0, le=1e6)
    max_grad_norm: float | None = Field(default=None, gt=0, le=1e38)
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    warmup: float = Field(default=0.0, ge=0, lt=1)
    warmup_rate: Rate = 1e-6
    schedule: Schedule = "constant"
    final_rate: Rate = 1e-6
    decay: float = Field(default=0.2, gt=0, le=1)
    milestones: tuple[Fraction, ...] = Field(default=(0.5, 0.75), min_length=1, max_length=100, strict=False)
    step_factor: float = Field(default=0.1, gt=0, le=1)
    schedule_period: int = Field(default=0, ge=0, le=MANY)
    precision: Literal["float32", "bfloat16"] = "float32"
    size: str | None = None

    @field_validator("optimizer")
    @classmethod
    def _known_optimizer(cls, name: str) -> str:
        if name in OPTIMIZERS or (name.startswith(TIMM_OPTIMIZER) and name != TIMM_OPTIMIZER):
            return name
        match = get_close_matches(name, OPTIMIZERS, n=1)
        meant = match[0] if match else f"{TIMM_OPTIMIZER}{name}"
        raise ValueError(f"no optimizer '{name}'. Did you mean '{meant}'? (mstep-bench list optimizers)")

    @model_validator(mode="after")
    def _schedule_fits(self) -> "Protocol":
        if self.schedule == "inverse_sqrt" and not self.warmup:
            raise ValueError("schedule 'inverse_sqrt' falls from the end of the warm-up; set warmup above 0")
        if self.schedule == "wsd" and self.warmup + self.decay > 1:
            raise ValueError(
                f"warmup {self.warmup} and decay {self.decay} of schedule 'wsd' exceed the budget;"
                " their sum is at most 1"
            )
        rising = sorted(set(self.milestones)) == list(self.milestones)
        if self.schedule == "step" and not (rising and self.warmup <= self.milestones[0] and self.milestones[-1] < 1):
            raise ValueError(
                f"milestones {list(self.milestones)} of schedule 'step' are not ascending fractions of the budget from"
                f" warmup {self.warmup} on and below 1"
            )
        return self

    @model_validator(mode="after")
    def _consistent(self) -> "Protocol":
        if self.budget % (self.evaluations * self.batch_size):
            raise ValueError(
                f"budget {self.budget} is not a multiple of evaluations × batch_size"
                f" = {self.evaluations * self.batch_size}"
            )
        if list(self.learning_rates) != sorted(set(self.learning_rates)):
            raise ValueError(f"learning_rates {list(self.learning_rates)} are not ascending and distinct")
        if self.schedule_period % self.batch_size:
            raise ValueError(
                f"schedule_period {self.schedule_period} is not a multiple of batch_size {self.batch_size}"
            )
        return self

    @property
    def seed_indices(self) -> range:
        return range(self.first_seed, self.first_seed + self.seeds)

    @property
    def steps(self) -> int:
        """Optimiser steps of a cell."""
        return self.budget // self.batch_size

    @property
    def steps_per_evaluation(self) -> int:
        return self.steps // self.evaluations

    @property
    def interval(self) -> int:
        """Samples between two evaluations, Δ."""
        return self.budget // self.evaluations


class Recipe(Strict):
    """What a baseline changes in training besides the model.

    gradient_rescaling:        equal mean gradients of W_Q, W_K and W_V, see `training.rescale`.
    learning_rate_multipliers: pattern of parameters' names → factor of their rate, see `training.multipliers`.
    linear_layers:             "spectral", σReparam: every linear layer's weight is γ·W/σ(W), see `models.spectral`.
    """

    gradient_rescaling: Literal["layer", "head"] | None = None
    learning_rate_multipliers: dict[str, Multiplier] = Field(default_factory=dict, max_length=100)
    linear_layers: Literal["spectral"] | None = None

    @model_validator(mode="after")
    def _compatible(self) -> "Recipe":
        if self.gradient_rescaling and self.linear_layers:
            raise ValueError(
                "gradient_rescaling needs the gradients of W_Q, W_K and W_V themselves, which linear_layers 'spectral'"
                " replaces; leave one of them out"
            )
        return self


def protocol_changes(*, learning_rates: Iterable[float] | None = None, **keys: int | str | None) -> dict[str, Any]:
    """The short options of a protocol as changes, "protocol.KEY" → value; None leaves a key as it is.

    learning_rates: in any order; a grid is ascending.
    """
    changes: dict[str, Any] = {}
    if learning_rates is not None:
        changes["protocol.learning_rates"] = sorted(learning_rates)
    return changes | {f"protocol.{key}": value for key, value in keys.items() if value is not None}
