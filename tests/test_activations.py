"""What is captured of a model is what it computes, for our transformers and for a user's module."""

import pytest
import torch
from torch import nn

from multistep_bench import make_attention, make_model, make_task
from multistep_bench.batch import Batch
from multistep_bench.diagnostics.activations import capture
from multistep_bench.diagnostics.capture import block_call
from multistep_bench.errors import ModelError
from multistep_bench.generators.base import TaskGenerator

DIGITS, WORDS = "two_step_digits-v1", "mlm_agreement-v1"


def drawn(task: TaskGenerator, n: int = 3) -> Batch:
    return task.sample(n, split="eval", rng=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("task_id", "name", "options"),
    [
        (DIGITS, "vit", {}),
        (DIGITS, "vit_normsoftmax", {}),
        (DIGITS, "gated_vit", {}),
        (WORDS, "bert", {}),
        (WORDS, "sequence", {"causal": True}),
    ],
)
def test_what_is_captured_leads_to_the_logits(task_id: str, name: str, options: dict[str, bool]) -> None:
    """The projections of each block from the residual stream, the heads from them, the logits from its last state."""
    task = make_task(task_id)
    model = make_model(name, task.info, **options).eval()
    batch = drawn(task)
    found = capture(model, batch)
    blocks = list(model.get_submodule("blocks").children())
    assert len(found.attention) == len(blocks) == len(found.residual) - 1
    head, norm = model.get_submodule("head"), model.get_submodule("norm")
    with torch.no_grad():
        read = head(norm(found.residual[-1]))
        assert torch.equal(read[:, 0] if batch.targets.ndim == 1 else read, model(batch.inputs))
        for block, call, before in zip(blocks, found.attention, found.residual, strict=False):
            attention = block.attn if hasattr(block.attn, "qkv") else block.attn.heads  # pyright: ignore
            q, k, v = attention.qkv(block.norm1(before)).chunk(3, -1)  # pyright: ignore
            for captured, whole in ((call.q, q), (call.k, k), (call.v, v)):
                side_by_side = captured.transpose(1, 2).flatten(2)
                assert torch.equal(side_by_side, whole[:, : side_by_side.shape[1]])
            assert torch.equal(call.rule(call.q, call.k, call.v, call.mask), call.out)


class Twice(nn.Module):
    """Calls one attention rule two times, once with names."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(200, width)
        self.mix = make_attention("softmax")
        self.head = nn.Linear(width, classes)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embedding(tokens).unsqueeze(1)
        x = self.mix(x, x, x)
        return self.head(self.mix(q=x, k=2 * x, v=3 * x).squeeze(1))


def test_a_users_module_gives_a_layer_for_each_call_of_a_rule_and_is_left_as_it_was() -> None:
    task = make_task(WORDS)
    model = Twice(4, task.info.num_classes).train()
    found = capture(model, drawn(task))
    first, second = found.attention
    assert torch.equal(first.out, second.q)
    assert torch.equal(2 * second.q, second.k)
    assert torch.equal(3 * second.q, second.v)
    assert found.residual == []
    assert found.tokens == 10
    assert model.training
    assert not model.mix._forward_hooks


def test_a_model_without_attention_is_refused() -> None:
    task = make_task(DIGITS)
    with pytest.raises(ModelError, match=r"Sequential calls no attention rule .* and has no blocks .*make_attention"):
        capture(nn.Sequential(nn.Flatten(), nn.LazyLinear(8)), drawn(task))


def test_the_residual_stream_of_a_vit_of_timm_leads_to_its_logits() -> None:
    """One patch of 16 pixels and the class token; each block gives what the next one takes."""
    task = make_task(DIGITS)
    torch.manual_seed(0)
    model = make_model("timm/vit_tiny_patch16_224", task.info, depth=3).eval()
    batch = drawn(task)
    found = capture(model, batch)
    assert found.attention == []
    assert [tuple(each.shape) for each in found.residual] == [(3, 2, 192)] * 4
    blocks = list(model.get_submodule("blocks").children())
    with torch.no_grad():
        for block, before, after in zip(blocks, found.residual, found.residual[1:], strict=False):
            assert torch.equal(block(before), after)
        last = model.get_submodule("norm")(found.residual[-1])[:, 0]
        assert torch.equal(model.get_submodule("head")(last), model(batch.inputs))


def test_blocks_that_take_no_tokens_have_no_residual_stream() -> None:
    tokens, maps = torch.zeros(2, 3, 4), torch.zeros(2, 4, 3, 3)
    assert block_call((tokens,), {}, tokens) is not None
    assert block_call((), {"hidden_states": tokens, "mask": None}, (tokens, None)) is not None
    for entering, leaving in ((maps, maps), (tokens, maps), (maps, tokens), (None, tokens)):
        assert block_call((entering,), {}, leaving) is None
    assert block_call((), {}, tokens) is None


def test_hooks_are_gone_after_an_error() -> None:
    model = make_model("vit", make_task(DIGITS).info)
    with pytest.raises(RuntimeError):
        capture(model, Batch(torch.zeros(2, 3, 16, 16, dtype=torch.float64), torch.zeros(2), {}))
    assert not any(module._forward_hooks for module in model.modules())
