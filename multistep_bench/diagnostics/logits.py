"""How far a layer's logits spread, and how long the vectors of the residual stream are."""

import math

import torch

from multistep_bench.diagnostics.attention import visible_keys
from multistep_bench.diagnostics.capture import BlockCall, RuleCall


def logits_std(call: RuleCall) -> torch.Tensor:
    """[heads]: standard deviation of q·kᵀ/√d over the keys that a query sees, its mean over queries and batch.

    Scaled as softmax scales them, whatever the rule makes of q and k; of n keys, the sum of squares is divided by n.
    """
    logits = (call.q.double() @ call.k.double().mT / math.sqrt(call.q.shape[-1])).cpu()  # B, heads, queries, keys
    visible = visible_keys(call).cpu()
    count = visible.sum(-1, keepdim=True)
    mean = (logits * visible).sum(-1, keepdim=True) / count
    variance = ((logits - mean) * visible).square().sum(-1) / count.squeeze(-1)
    return variance.sqrt().mean((0, 2))


def residual_norm(call: BlockCall) -> torch.Tensor:
    """Scalar: L2 norm of the vectors that leave a block, its mean over tokens and batch."""
    return call.leaving.detach().double().norm(dim=-1).mean().cpu()
