"""Floating-point operations of a forward pass, the same figure for every version of torch and every kernel."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from multistep_bench.batch import Batch, Inputs
from multistep_bench.models.build import logits


def flops_per_sample(model: nn.Module, inputs: Inputs, steps: dict[str, torch.Tensor] | None = None) -> int | None:
    """Floating-point operations of one forward pass, two for each multiply-add of matrix products and convolutions.

    Counted by `torch.utils.flop_counter` on a batch in evaluation mode; None where it counts nothing or fails.
    Attention counts 2·queries·keys·(head_dim of the keys + head_dim of the values) for each head, whatever the mask.
    steps: for a model with `uses_steps`. The model has passed `check_contract`.
    """
    first = next(iter(inputs.values())) if isinstance(inputs, dict) else inputs
    training = model.training
    model.eval()
    try:
        with _countable_kernels(), FlopCounterMode(display=False, custom_mapping=_UNCOUNTED) as counter:
            logits(model, Batch(inputs, torch.empty(0), steps or {}))
    except Exception:  # the counter's hooks do not suit every module; then the cost is unknown, not the model wrong
        return None
    finally:
        model.train(training)
    return counter.get_total_flops() // len(first) or None


def training_flops_per_sample(
    model: nn.Module, batch: Batch, loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
) -> int | None:
    """Operations of the forward and backward pass of a training step, counted as `flops_per_sample` counts.

    About three times a forward pass; more where a model computes activations again, or trains inside its forward pass.
    loss: of logits and targets. Gradients are removed afterwards.
    """
    training = model.training
    model.train()
    counter = FlopCounterMode(display=False, custom_mapping=_UNCOUNTED)
    try:
        with torch.enable_grad(), _countable_kernels(), counter:
            loss(logits(model, batch), batch.targets).backward()
    except Exception:  # as above
        return None
    finally:
        model.zero_grad(set_to_none=True)
        model.train(training)
    return counter.get_total_flops() // len(batch.targets) or None


def attention_flops(q: torch.Size, k: torch.Size, v: torch.Size) -> int:
    """Operations of softmax(q·kᵀ)·v for shapes [B, heads, queries, head_dim] and [B, heads, keys, head_dim] twice."""
    pairs = q[:-1].numel() * k[-2]
    return 2 * pairs * (k[-1] + v[-1])


def _fused_attention(q: torch.Size, k: torch.Size, v: torch.Size, *args: Any, out_shape: Any, **options: Any) -> int:
    return attention_flops(q, k, v)


# What a model that chooses torch's CPU kernel itself calls; torch 2.14 counts it as nothing.
_UNCOUNTED = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _fused_attention}


@contextmanager
def _countable_kernels() -> Iterator[None]:
    """Attention as matrix products, which every counter counts, in place of fused kernels, which it may not know.

    A compiled model warns of hooks on all modules: they are the counter's, and gone when it is trained.
    """
    fast = torch.backends.mha.get_fastpath_enabled()  # of nn.MultiheadAttention and nn.TransformerEncoder
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH), warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"Using `?torch\.compile\(module\)`? when there are global hooks")
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
