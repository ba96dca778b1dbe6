"""What every attention rule promises, tried once on random queries, keys and values when a model is built."""

import contextlib
import copy
import itertools

import torch
from torch import nn

from multistep_bench.errors import BenchError, ModelError

BATCH = 2
QKV = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def check_rule(rule: nn.Module, name: str, *, heads: int, tokens: int, head_dim: int, causal: bool) -> None:
    """Raises `ModelError` unless the rule keeps the contract in `multistep_bench.models.attention`.

    It must return one finite tensor like q; under a causal mask, where the model will use one, the last token must
    change no earlier output; and a rule that says `rowwise` must answer one query alone as it does among others.
    A copy of the rule is called, where it can be copied, in evaluation mode, and no random numbers are taken from
    torch's global generator. heads, tokens, head_dim: as in the model.
    """
    what = f"attention rule '{name}'"
    device = next((tensor.device for tensor in itertools.chain(rule.parameters(), rule.buffers())), torch.device("cpu"))
    if device.type == "meta":
        return
    rng = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, BATCH, heads, tokens, head_dim, generator=rng, dtype=torch.float32).to(device)
    mask = torch.ones(tokens, tokens, dtype=torch.bool, device=device).tril() if causal else None
    training = rule.training
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        try:
            tried = _copy(rule).eval()
            out = _answer(tried, what, q, k, v, mask)
            if getattr(rule, "rowwise", False):
                _check_rowwise(tried, what, (q, k, v), mask, out)
            if mask is not None:
                _check_causal(tried, what, (q, k, v), mask, out)
        finally:
            rule.train(training)


def _copy(rule: nn.Module) -> nn.Module:
    with contextlib.suppress(Exception):  # of what a user's rule may hold, not everything can be copied
        return copy.deepcopy(rule)
    return rule


def _close(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Up to what is far above rounding, and far below what one key more or less changes."""
    return torch.allclose(one, other, rtol=1e-3, atol=1e-4)


def _answer(
    rule: nn.Module, what: str, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None
) -> torch.Tensor:
    masked = "no mask" if mask is None else f"a boolean mask of shape {tuple(mask.shape)}"
    try:
        out = rule(q, k, v, mask)
    except BenchError:
        raise
    except Exception as error:  # a user's code may fail in any way
        raise ModelError(
            f"{what} fails on q of shape {tuple(q.shape)}, k and v of shape {tuple(k.shape)} and {masked}:"
            f" {type(error).__name__}: {error}; correct the rule"
        ) from error
    wanted = "return one tensor like q, [B, heads, queries, head_dim]"
    if not isinstance(out, torch.Tensor):
        raise ModelError(f"{what} returns a {type(out).__name__}; {wanted}")
    if out.shape != q.shape or out.dtype != q.dtype:
        raise ModelError(
            f"{what} returns {out.dtype} of shape {tuple(out.shape)} for q of {q.dtype} and shape {tuple(q.shape)};"
            f" {wanted}"
        )
    if not out.isfinite().all():
        raise ModelError(
            f"{what} returns values that are not finite for {masked}; a query may attend where the mask is True"
        )
    return out


def _check_rowwise(rule: nn.Module, what: str, qkv: QKV, mask: torch.Tensor | None, out: torch.Tensor) -> None:
    q, k, v = qkv
    for query in (slice(1), slice(-1, None)):  # what the last block of a model that reads one token asks for
        alone = _answer(rule, what, q[..., query, :], k, v, mask if mask is None else mask[query])
        if not _close(alone, out[..., query, :]):
            raise ModelError(
                f"{what} says rowwise = True, and its output for one query depends on the others; set rowwise = False"
            )


def _check_causal(rule: nn.Module, what: str, qkv: QKV, mask: torch.Tensor, out: torch.Tensor) -> None:
    q, k, v = (torch.cat((each[..., :-1, :], 2 - 3 * each[..., -1:, :]), dim=-2) for each in qkv)
    if not _close(_answer(rule, what, q, k, v, mask)[..., :-1, :], out[..., :-1, :]):
        raise ModelError(
            f"{what} lets earlier tokens see the last one through a causal mask; give keys no weight where"
            " the boolean mask is False (masked_fill(~mask, -inf) of the logits), and sum over no queries"
        )
