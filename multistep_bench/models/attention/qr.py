"""QR attention: squared entries of the orthogonal factor of q·kᵀ."""

import torch
from torch import nn

from multistep_bench.errors import ModelError
from multistep_bench.registry import register_attention

DEPENDENT = 1e-5  # a column whose rest is shorter than this share of it counts as a combination of earlier ones


@register_attention("qr")
class QR(nn.Module):
    """(U∘U)·v with q·kᵀ = U·R, U orthogonal and R upper triangular (Born et al. 2025, arXiv 2504.16275).

    Rows and columns of the weights sum to 1. Column j belongs to key j and depends on the keys up to j and on all
    queries: the weights do not depend on the scale of q·kᵀ, but on the order of the keys, and equal softmax's in no
    limit. With more tokens than channels the rank of q·kᵀ is head_dim, so U has head_dim Householder reflections and
    the keys after the first head_dim have weights that depend on them no more.

    Takes no mask: hidden keys would leave rows whose weights do not sum to 1, and under a causal mask columns would
    depend on later queries, so a causal model refuses this rule. Computed in float32 or finer, whatever the type of q;
    as U of an ill-conditioned q·kᵀ enlarges the rounding of q and k, do not project in bfloat16 either.
    Stored are U, [B, heads, N, N], and one panel [B, heads, N, r] for each of the r = min(N − 1, head_dim) reflections.
    """

    rowwise = False

    def forward(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        if mask is not None:
            raise ModelError(
                "attention rule 'qr' takes no mask: its columns depend on all queries, those to come too;"
                " choose a bidirectional model, such as vit or bert"
            )
        if q.shape[-2] != k.shape[-2]:
            raise ModelError(
                f"attention rule 'qr' needs as many queries as keys, and got {q.shape[-2]} and {k.shape[-2]};"
                " give it all tokens"
            )
        with torch.autocast(q.device.type, enabled=False):
            exact = torch.promote_types(q.dtype, torch.float32)
            weights = orthogonal(q.to(exact), k.to(exact)).square()
            return (weights @ v.to(exact)).to(v.dtype)


def orthogonal(q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    """U of q·kᵀ = U·R for q, k [..., N, d]: [..., N, N], the columns up to sign.

    Householder's reflections I − 2·w·wᵀ of the first r = min(N − 1, d) columns, whose product is I − W·S⁻¹·Wᵀ with
    S = strictly upper triangle of WᵀW, plus ½ on the diagonal (Schreiber and Van Loan 1989; Puglisi 1992).
    """
    tokens, head_dim = q.shape[-2:]
    reflections = min(tokens - 1, head_dim)
    identity = torch.eye(tokens, dtype=q.dtype, device=q.device)
    if not reflections:
        return identity.expand(*q.shape[:-2], tokens, tokens)
    panel = q @ k[..., :reflections, :].mT  # ..., N, r: the columns that decide
    lengths = panel.square().sum(-2)  # ..., r
    normals = []
    for column in range(reflections):
        normal = _normal(panel[..., 0], lengths[..., column], column, tokens)
        normals.append(normal)
        rest = panel[..., 1:]
        panel = rest - 2 * normal.unsqueeze(-1) * (normal.unsqueeze(-2) @ rest)
    w = torch.stack(normals, -1)  # ..., N, r
    halves = torch.eye(reflections, dtype=q.dtype, device=q.device) / 2
    s = (w.mT @ w).triu(1) + halves
    return identity - w @ torch.linalg.solve_triangular(s, w.mT, upper=True)


def _normal(vector: torch.Tensor, length: torch.Tensor, column: int, tokens: int) -> torch.Tensor:
    """The unit normal w [..., N] whose reflection clears a column [..., N] below its diagonal; 0 where nothing is left.

    length: squared, [...], of this column before any reflection.
    """
    below = torch.arange(tokens, device=vector.device)
    rest = torch.where(below >= column, vector, 0.0)
    squared = rest.square().sum(-1, keepdim=True)
    independent = squared > DEPENDENT**2 * length.unsqueeze(-1)
    norm = torch.where(independent, squared, 1.0).sqrt()
    sign = torch.where(rest[..., column : column + 1] < 0, -1.0, 1.0).to(rest.dtype)  # of two numbers: the default type
    normal = rest + torch.where(below == column, sign * norm, 0.0)
    normal = normal / torch.where(independent, normal.square().sum(-1, keepdim=True), 1.0).sqrt()
    return torch.where(independent, normal, 0.0)
