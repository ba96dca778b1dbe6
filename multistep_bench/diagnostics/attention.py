"""How a layer attends: entropy of its weights, their share on each region, effective rank.

Weights are those that the rule gives values: the rule applied to one-hot values, its rows taken as |w| / Σ|w| because
some rules give negative weights or weights with another sum. A rule that does not average values, as `laser`, has none.
"""

import torch
from torch import nn

from multistep_bench.diagnostics.capture import RuleCall

RANK_ITEMS = 8  # of the diagnostic batch whose effective rank is taken: a decomposition costs the most of all
SAME = 1e-3  # by how much the weights of values twice as large may differ


@torch.no_grad()
def attention_weights(call: RuleCall) -> torch.Tensor | None:
    """[B, heads, queries, keys], rows sum to 1; None where the rule's output is no weighted sum of the values."""
    mask = call.mask if call.mask is None or call.mask.ndim < 4 else call.mask[:1]
    first = RuleCall(call.rule, call.q[:1], call.k[:1], call.v[:1], mask)
    if not torch.allclose(_rows(first, 1.0), _rows(first, 2.0), atol=SAME, equal_nan=True):
        return None
    return _rows(call, 1.0)


def _rows(call: RuleCall, scale: float) -> torch.Tensor:
    identity = scale * torch.eye(call.k.shape[-2], dtype=call.v.dtype, device=call.v.device)
    weights = _whole(call, identity)
    if weights is None:
        weights = _in_pieces(call, identity)
    weights = weights.double().abs()
    return weights / weights.sum(-1, keepdim=True)


def _whole(call: RuleCall, identity: torch.Tensor) -> torch.Tensor | None:
    """The rule's output for one-hot values of as many channels as keys, or None where it wants those of a head."""
    values = identity.expand(*call.v.shape[:2], -1, -1)
    try:
        out = call.rule(call.q, call.k, values, call.mask)
    except RuntimeError:  # some rules give the values the shape of q
        return None
    return out if out.shape[-1] == len(identity) else None


def _in_pieces(call: RuleCall, identity: torch.Tensor) -> torch.Tensor:
    """The same from values of a head's channels, some keys at a time."""
    width, keys = call.v.shape[-1], len(identity)
    padded = nn.functional.pad(identity, (0, -keys % width))
    pieces = []
    for columns in padded.split(width, dim=1):
        values = columns.expand(*call.v.shape[:2], -1, -1).contiguous()
        pieces.append(call.rule(call.q, call.k, values, call.mask))
    return torch.cat(pieces, -1)[..., :keys]


def visible_keys(call: RuleCall) -> torch.Tensor:
    """[B, heads, queries, keys] bool: the keys that each query may attend to."""
    shape = (*call.q.shape[:-1], call.k.shape[-2])
    if call.mask is None:
        return torch.ones(shape, dtype=torch.bool, device=call.q.device)
    return call.mask.expand(shape)


def entropy(weights: torch.Tensor) -> torch.Tensor:
    """[..., keys] → [...] in nats; 0 for one key alone, ln n for n equal weights."""
    return torch.special.entr(weights).sum(-1)


def relative_entropy(weights: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
    """Entropy in units of ln n, n the visible keys; NaN for a query that sees one key only."""
    most = visible.sum(-1).double().log()
    return torch.where(most > 0, entropy(weights) / most, torch.nan)


def effective_rank(matrix: torch.Tensor) -> torch.Tensor:
    """[..., queries, keys] → [...]: exp of the entropy of the singular values over their sum (Roy and Vetterli 2007).

    1 where all queries attend alike, n where n queries attend to one key each, all of them different.
    """
    values = torch.linalg.svdvals(matrix)
    return entropy(values / values.sum(-1, keepdim=True)).exp()


def attention_figures(call: RuleCall, read: torch.Tensor, regions: torch.Tensor | None) -> dict[str, torch.Tensor]:
    """Figures of one layer by head, means over the batch.

    read: [B, queries] bool, of the reading tokens. regions: [R, keys] or [B, R, keys] bool, or None.
    Returns entropy, entropy_reading, relative_entropy, rank [heads] and, with regions, share, share_reading [heads, R];
    "reading" is of the reading tokens, the others average all queries. All are NaN for a rule without weights; rank is
    NaN for a layer that computes one query, where it would say nothing.
    """
    heads, queries = call.q.shape[1], call.q.shape[2]
    weights = attention_weights(call)
    known = weights is not None
    if weights is None:
        weights = torch.full((*call.q.shape[:-1], call.k.shape[-2]), torch.nan, dtype=torch.float64)
    weights, visible = weights.cpu(), visible_keys(call).cpu()
    nats = entropy(weights)  # B, heads, queries
    ranked = known and queries > 1
    figures = {
        "entropy": nats.mean((0, 2)),
        "entropy_reading": _over_reading(nats, read),
        "relative_entropy": relative_entropy(weights, visible).nanmean((0, 2)),
        "rank": effective_rank(weights[:RANK_ITEMS]).mean(0) if ranked else torch.full((heads,), torch.nan),
    }
    if regions is not None:
        shares = weights @ regions.double().mT.unsqueeze(-3)  # B, heads, queries, R
        figures["share"] = shares.mean((0, 2))
        figures["share_reading"] = _over_reading(shares, read)
    return figures


def _over_reading(values: torch.Tensor, read: torch.Tensor) -> torch.Tensor:
    """Means over the reading tokens of values [B, heads, queries, ...]: [heads, ...]."""
    chosen = values.transpose(1, 2)[read]  # tokens read, heads, ...
    return chosen.mean(0)
