"""Operations of a forward pass, counted by hand, whichever kernel computes attention."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.flop_counter import FlopCounterMode

import multistep_bench as mb
from multistep_bench.models.flops import attention_flops, flops_per_sample, training_flops_per_sample
from multistep_bench.training.losses import training_loss

TASK = mb.make_task("two_step_digits-v1")
BATCH = TASK.sample(4, split="eval", rng=torch.Generator().manual_seed(0))
HEADS, WIDTH = 2, 16
CAUSAL = torch.ones(7, 7).tril().bool()


class Attends(nn.Module):
    """Calls torch's attention on its inputs [B, heads, N, head_dim], from the last `queries` of them."""

    def __init__(self, queries: int, kernel: SDPBackend | None = None, **options: Any) -> None:
        super().__init__()
        self.queries = queries
        self.kernel = kernel
        self.options = options

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.kernel is None:
            return scaled_dot_product_attention(x[:, :, -self.queries :], x, x, **self.options)
        with sdpa_kernel(self.kernel):
            return scaled_dot_product_attention(x[:, :, -self.queries :], x, x, **self.options)


def test_a_training_step_of_two_layers_counted_by_hand():
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 10), nn.ReLU(), nn.Linear(10, 8))
    first, second = 2 * 3 * 16 * 16 * 10, 2 * 10 * 8
    loss = partial(training_loss, label_smoothing=0.0)
    assert flops_per_sample(model, BATCH.inputs) == first + second
    assert training_flops_per_sample(model, BATCH, loss) == 2 * first + 3 * second  # the image needs no gradient
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.training


def test_flops_of_a_vit_counted_by_hand():
    model = mb.make_model("vit", TASK.info, patches_per_tile=2, width=32, depth=2, heads=2, mlp_ratio=2.0)
    tokens, width, patch = 17, 32, 3 * 4 * 4

    def block(queries):  # multiply-adds; the last block computes the class token alone
        return tokens * 3 * width**2 + 2 * queries * tokens * width + queries * 5 * width**2

    total = 2 * (16 * patch * width + block(tokens) + block(1) + 8 * width)
    assert flops_per_sample(model, BATCH.inputs) == total


def test_the_mask_and_the_number_of_tokens_do_not_change_how_attention_is_counted():
    bert = mb.make_model("bert", mb.make_task("lookup-v1").info)
    gpt = mb.make_model("gpt", mb.make_task("lookup-v1").info)
    tokens = mb.make_task("lookup-v1").sample(2, split="eval", rng=torch.Generator().manual_seed(0)).inputs
    assert flops_per_sample(bert, tokens) == flops_per_sample(gpt, tokens)


@pytest.mark.parametrize("kernel", [None, SDPBackend.FLASH_ATTENTION])
@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize(
    ("queries", "options"),
    [(1, {}), (7, {}), (7, {"is_causal": True}), (7, {"attn_mask": CAUSAL}), (1, {"attn_mask": CAUSAL[-1:]})],
)
def test_torchs_attention_counts_its_two_products(queries, options, grad, kernel):
    x = torch.randn(3, HEADS, 7, 8, requires_grad=grad)
    counted = flops_per_sample(Attends(queries, kernel, **options), x)
    assert counted == HEADS * (2 * queries * 7 * 8 + 2 * queries * 7 * 8)


def test_the_formula_is_the_counters_own_where_it_counts():
    q, k, v = torch.randn(3, 2, 5, 8), torch.randn(3, 2, 7, 8), torch.randn(3, 2, 7, 4)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        scaled_dot_product_attention(q, k, v)
    assert counter.get_total_flops() == attention_flops(q.shape, k.shape, v.shape) == 2 * 3 * 2 * 5 * 7 * (8 + 4)


class Encoder(nn.Module):
    """torch's own attention or layer, which in evaluation mode take a fast path of their own."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if isinstance(self.layer, nn.MultiheadAttention):
            return self.layer(x, x, x, need_weights=False)[0]
        return self.layer(x)


@pytest.mark.parametrize("grad", [False, True])
def test_torchs_layers_do_not_escape_by_their_fast_path(grad):
    x = torch.randn(3, 7, WIDTH)
    attention = Encoder(nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)).requires_grad_(grad)
    by_hand = 2 * (4 * 7 * WIDTH**2 + 2 * 7 * 7 * WIDTH)
    assert flops_per_sample(attention, x) == by_hand
    layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 4 * WIDTH, batch_first=True).requires_grad_(grad)
    encoder = Encoder(nn.TransformerEncoder(layer, 2))
    assert flops_per_sample(encoder, x) == 2 * (by_hand + 2 * 7 * 8 * WIDTH**2)


def test_counting_leaves_model_and_torch_as_they_were():
    model = mb.make_model("resnet9", TASK.info, width=4)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    flops_per_sample(model, BATCH.inputs)
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert torch.backends.mha.get_fastpath_enabled()
    assert torch.backends.cuda.flash_sdp_enabled()


def test_a_compiled_model_is_counted_as_it_is_and_without_a_warning_of_our_hooks(recwarn):
    model = mb.make_model("vit", TASK.info)
    compiled: Any = torch.compile(model, backend="eager")
    assert flops_per_sample(compiled, BATCH.inputs) == flops_per_sample(model, BATCH.inputs)
    assert [str(each.message) for each in recwarn if "hooks" in str(each.message)] == []


def test_flops_are_unknown_where_nothing_can_be_counted():
    assert flops_per_sample(nn.Flatten(), BATCH.inputs) is None


def test_a_model_of_timm_counts_the_same_with_fused_attention_and_without():
    fused, plain = (mb.make_model("timm/vit_tiny_patch16_224", TASK.info, depth=2, patch_size=8) for _ in range(2))
    for block in plain.blocks:  # pyright: ignore[reportGeneralTypeIssues]
        block.attn.fused_attn = False
    assert flops_per_sample(fused, BATCH.inputs) == flops_per_sample(plain, BATCH.inputs)
