"""GPT-2 of transformers beside our own with the same weights."""

import torch
from torch import nn

import multistep_bench as mb


def gpts() -> tuple[nn.Module, nn.Module]:
    """GPT-2 of transformers and our own with its weights, in float64."""
    torch.manual_seed(0)
    info = mb.make_task("lookup-v1").info
    theirs = mb.make_model("hf/gpt2", info, activation_function="gelu", layer_norm_epsilon=1e-6).eval().double()
    ours = mb.make_model("sequence", info, causal=True, mlp_ratio=4.0).eval().double()
    weights = {name.removeprefix("model.transformer."): tensor for name, tensor in theirs.state_dict().items()}
    tokens = len(weights["wpe.weight"])
    copied = {
        "embedding.weight": weights["wte.weight"],
        "pos_embed": weights["wpe.weight"][None, :tokens],
        "norm.weight": weights["ln_f.weight"],
        "norm.bias": weights["ln_f.bias"],
        "head.weight": weights["model.lm_head.weight"][: info.num_classes],
        "head.bias": torch.zeros(info.num_classes, dtype=torch.float64),
    }
    layers = {
        "norm1": "ln_1",
        "attn.proj": "attn.c_proj",
        "norm2": "ln_2",
        "mlp.fc1": "mlp.c_fc",
        "mlp.fc2": "mlp.c_proj",
    }
    for name in ours.state_dict():
        if name.startswith("blocks."):
            _, index, rest = name.split(".", 2)
            layer, _, kind = rest.rpartition(".")
            tensor = weights[f"h.{index}.{layers.get(layer, 'attn.c_attn')}.{kind}"]
            copied[name] = tensor.t() if kind == "weight" and not layer.startswith("norm") else tensor
    for name, tensor in weights.items():  # ours has no bias of q, k and v
        assert not (name.endswith("c_attn.bias") and tensor.any())
    ours.load_state_dict(copied)
    return theirs, ours
