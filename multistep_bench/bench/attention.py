"""Time and memory of every attention rule that learns, beside the dense NormSoftmax formula and plain SDPA."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from multistep_bench import registry, seeds
from multistep_bench.bench.result import Measured
from multistep_bench.bench.timing import interleaved, peak_memory, timed
from multistep_bench.models.attention.rule import make_attention

TOKENS = (17, 65, 197, 1024, 4096)
HEAD_DIM = 64
FIXED = ("uniform", "regions")  # rules that look at no query or key
DENSE, SDPA = "dense normsoftmax", "torch SDPA"

Rule = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class AttentionRow:
    """A rule at a number of tokens; ratios are of forward and backward together, below 1 where the rule is better."""

    tokens: int
    rule: str
    forward_seconds: float
    training_seconds: float
    peak_bytes: int
    time_over_dense: float
    time_over_sdpa: float
    memory_over_dense: float
    memory_over_sdpa: float
    repeats: int


def measure_attention(seconds: float, device: torch.device, tokens: Sequence[int] = TOKENS) -> Measured:
    """Forward alone, forward and backward, and peak memory over token counts, at about as many tokens in every call.

    On a CPU with one thread, as a cell is trained there.
    """
    rules = contestants(device)
    rows = [row for count in tokens for row in _at(count, rules, seconds, device)]
    batch, heads, dtype = _scale(device)
    return Measured(
        reference=f"{DENSE}: softmax(q·kᵀ / min(√d, std)) with the matrix of logits; {SDPA}: "
        "torch.nn.functional.scaled_dot_product_attention",
        settings={
            "tokens_per_call": batch,
            "heads": heads,
            "head_dim": HEAD_DIM,
            "dtype": str(dtype).removeprefix("torch."),
            "memory": "peak of torch's allocator over forward and backward, above what the inputs take",
        },
        rows=tuple(rows),
    )


def dense_normsoftmax(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """NormSoftmax as its formula reads, statistic "std": [B, heads, N, head_dim] three times → the same shape."""
    logits = q @ k.mT  # B, heads, N, N
    spread = logits.std(-1, keepdim=True).clamp(max=math.sqrt(q.shape[-1]))
    return torch.softmax(logits / spread, dim=-1) @ v


def contestants(device: torch.device) -> dict[str, Rule]:
    """The two references, then every registered rule that learns, NormSoftmax with both statistics."""
    rules: dict[str, Rule] = {DENSE: dense_normsoftmax, SDPA: scaled_dot_product_attention}
    for name in registry.attention_rules.names():
        if name not in FIXED:
            rules[name] = make_attention(name).to(device)
    rules["normsoftmax var"] = make_attention("normsoftmax", statistic="var").to(device)
    return rules


def draw_inputs(tokens: int, device: torch.device) -> list[torch.Tensor]:
    """q, k, v, [B, heads, tokens, head_dim], that want gradients."""
    total, heads, dtype = _scale(device)
    rng = seeds.generator(seeds.derive("bench", "attention", tokens), device)
    shape = (max(total // tokens, 1), heads, tokens, HEAD_DIM)
    return [torch.randn(shape, generator=rng, device=device, dtype=dtype).requires_grad_() for _ in range(3)]


def _scale(device: torch.device) -> tuple[int, int, torch.dtype]:
    """Tokens of a call, heads and type: enough to keep a GPU busy, or what one core does in seconds."""
    return (32_768, 4, torch.bfloat16) if device.type == "cuda" else (4_096, 1, torch.float32)


def _at(tokens: int, rules: dict[str, Rule], seconds: float, device: torch.device) -> list[AttentionRow]:
    inputs = draw_inputs(tokens, device)
    calls = {name: partial(_train, rule, inputs) for name, rule in rules.items()}
    peaks = {name: peak_memory(call, device) for name, call in calls.items()}
    measures = {name: timed(call, device, threads=1) for name, call in calls.items()}
    measures |= {f"{name} forward": timed(partial(_forward, rule, inputs), device, 1) for name, rule in rules.items()}
    times = interleaved(measures, seconds)
    seconds_of = {name: median(found) for name, found in times.items()}
    return [
        AttentionRow(
            tokens=tokens,
            rule=name,
            forward_seconds=seconds_of[f"{name} forward"],
            training_seconds=seconds_of[name],
            peak_bytes=peaks[name],
            time_over_dense=seconds_of[name] / seconds_of[DENSE],
            time_over_sdpa=seconds_of[name] / seconds_of[SDPA],
            memory_over_dense=peaks[name] / peaks[DENSE],
            memory_over_sdpa=peaks[name] / peaks[SDPA],
            repeats=len(times[name]),
        )
        for name in rules
    ]


def _train(rule: Rule, inputs: list[torch.Tensor]) -> None:
    wanted = [*inputs, *(rule.parameters() if isinstance(rule, nn.Module) else ())]
    out = rule(*inputs)
    torch.autograd.grad(out, wanted, torch.ones_like(out))


@torch.no_grad()
def _forward(rule: Rule, inputs: list[torch.Tensor]) -> None:
    rule(*inputs)
