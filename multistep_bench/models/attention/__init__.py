"""Attention rules: how queries and keys become weights on values; one small module a file.

A rule is an `nn.Module` with `forward(q, k, v, mask=None) -> out` of shapes q [B, heads, queries, head_dim],
k, v [B, heads, keys, head_dim], out like q. `mask` is boolean, True where a query may attend, and broadcasts to
[B, heads, queries, keys]; every query sees at least one key. A rule may also have

    rowwise = True              the output of a query depends on no other query; a model that reads one token
                                then asks the last layer for that query alone
    set_progress(fraction)      called during training with the fraction of the budget that is spent
    set_regions(regions)        called once with [regions, tokens] bool, the tokens in each region of the layout

Rules run under `torch.vmap`: no `.item()`, no branch on values, nothing changed in place.
"""

BUILTIN = {  # name → the module that registers it
    "softmax": "multistep_bench.models.attention.softmax",
    "normsoftmax": "multistep_bench.models.attention.normsoftmax",
    "heat": "multistep_bench.models.attention.heat",
    "uniform": "multistep_bench.models.attention.uniform",
    "regions": "multistep_bench.models.attention.regions",
    "qknorm": "multistep_bench.models.attention.qknorm",
    "sigmoid": "multistep_bench.models.attention.sigmoid",
    "sinkhorn": "multistep_bench.models.attention.sinkhorn",
    "qr": "multistep_bench.models.attention.qr",
    "laser": "multistep_bench.models.attention.laser",
    "ssmax": "multistep_bench.models.attention.ssmax",
    "entmax": "multistep_bench.models.attention.entmax",
    "differential": "multistep_bench.models.attention.differential",
}
