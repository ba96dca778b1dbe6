"""Learning-rate schedules: each one function of the fraction of the budget, after a linear warm-up."""

import math
from collections.abc import Callable

from multistep_bench.protocol import Protocol

Shape = Callable[[Protocol, float, float], float]


def learning_rate(protocol: Protocol, peak: float, samples: int) -> float:
    """The rate of the batch drawn after `samples` samples, for a cell whose rate is `peak`.

    Linear warm-up from `warmup_rate`, then the protocol's schedule, see `SCHEDULES`. It advances once a
    `schedule_period`.
    """
    if protocol.schedule_period:
        samples -= samples % protocol.schedule_period
    warmup = protocol.warmup * protocol.budget
    if samples < warmup:
        start = min(protocol.warmup_rate, peak)
        return start + (peak - start) * samples / warmup
    return SCHEDULES[protocol.schedule](protocol, peak, samples)


def _constant(protocol: Protocol, peak: float, samples: float) -> float:
    """The peak."""
    return peak


def _cosine(protocol: Protocol, peak: float, samples: float) -> float:
    """η_f + ½(η − η_f)(1 + cos(π·samples/budget)), counted from the start of training, as timm's scheduler does."""
    end = min(protocol.final_rate, peak)
    return end + 0.5 * (peak - end) * (1 + math.cos(math.pi * samples / protocol.budget))


def _linear(protocol: Protocol, peak: float, samples: float) -> float:
    """A line from the end of the warm-up to η_f at the budget (Liu et al. 2019, RoBERTa)."""
    end, warmup = min(protocol.final_rate, peak), protocol.warmup * protocol.budget
    return peak + (end - peak) * (samples - warmup) / (protocol.budget - warmup)


def _inverse_sqrt(protocol: Protocol, peak: float, samples: float) -> float:
    """η·√(warm-up/samples) (Vaswani et al. 2017, section 5.3)."""
    return peak * math.sqrt(protocol.warmup * protocol.budget / samples)


def _warmup_stable_decay(protocol: Protocol, peak: float, samples: float) -> float:
    """The peak, then a line to η_f over the last `decay` of the budget (Hu et al. 2024, MiniCPM, section 4)."""
    end = min(protocol.final_rate, peak)
    left = (protocol.budget - samples) / (protocol.decay * protocol.budget)
    return peak if left >= 1 else end + (peak - end) * left


def _step(protocol: Protocol, peak: float, samples: float) -> float:
    """η·`step_factor` to the power of the number of milestones that are reached (He et al. 2016, section 3.4)."""
    return peak * protocol.step_factor ** sum(samples >= each * protocol.budget for each in protocol.milestones)


SCHEDULES: dict[str, Shape] = {
    "constant": _constant,
    "cosine": _cosine,
    "linear": _linear,
    "inverse_sqrt": _inverse_sqrt,
    "wsd": _warmup_stable_decay,
    "step": _step,
}


def factors(protocol: Protocol, points: int) -> list[float]:
    """The rate over the peak, of the highest rate of the grid, at `points` equidistant places of the budget."""
    peak = protocol.learning_rates[-1]
    last = protocol.budget - protocol.batch_size
    return [learning_rate(protocol, peak, last * point // (points - 1)) / peak for point in range(points)]
