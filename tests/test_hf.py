"""Language models of transformers, built from configurations."""

import dataclasses
import importlib.util
from typing import Any

import pytest
import torch
from gpt2_pair import gpts

import multistep_bench as mb
from multistep_bench.errors import ModelError, NotFound
from multistep_bench.models.build import check_contract
from multistep_bench.models.hf import hf_names

MASKED, LOOKUP = mb.make_task("mlm_agreement-v1"), mb.make_task("lookup-v1")
TOKENS = 73  # of the pointer language, of which as many are classes
INSTALLED = importlib.util.find_spec("transformers") is not None
# plain, a state, positions from the padding, heads of parts, heads partly rotated, lists of layers, grouped states,
# special tokens that must be numbers
NAMES = [
    "gpt2", "llama", "mamba", "bert", "qwen3", "gpt_neox", "rwkv", "modernbert", "roberta", "xlm-roberta",
    "deepseek_v3", "gptj", "gpt_neo", "mamba2", "modernbert-decoder", "falcon", "mpt",
]  # fmt: skip
needs_transformers = pytest.mark.skipif(not INSTALLED, reason="needs the extra hf")


@pytest.mark.skipif(INSTALLED, reason="transformers is installed")
def test_without_the_library_the_extra_is_named() -> None:
    assert hf_names() == []
    with pytest.raises(ModelError, match=r'install the extra: pip install "multistep-bench\[hf\]"'):
        mb.make_model("hf/gpt2", LOOKUP.info)


@needs_transformers
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("task", [MASKED, LOOKUP], ids=["masked", "lookup"])
def test_a_language_model_takes_the_tasks_tokens_and_classes(name: str, task) -> None:
    batch = task.sample(3, split="eval", rng=torch.Generator().manual_seed(0))
    check_contract(mb.make_model(f"hf/{name}", task.info), task.info, batch)


@needs_transformers
def test_gpt2_equals_our_gpt_with_copied_weights() -> None:
    theirs, ours = gpts()
    batch = LOOKUP.sample(16, split="eval", rng=torch.Generator().manual_seed(1))
    torch.testing.assert_close(theirs(batch.inputs), ours(batch.inputs), rtol=1e-9, atol=1e-9)


@needs_transformers
def test_the_preset_gives_the_size_and_options_change_it() -> None:
    def size(**options: int) -> tuple[int, int, int, int, int]:
        c: Any = mb.make_model("hf/llama", LOOKUP.info, **options).get_submodule("model").config
        return c.hidden_size, c.num_hidden_layers, c.num_attention_heads, c.head_dim, c.intermediate_size

    assert size() == (64, 3, 2, 32, 128)
    assert size(hidden_size=96, num_attention_heads=3, num_hidden_layers=1) == (96, 1, 3, 32, 192)
    assert mb.make_model("hf/llama", LOOKUP.info).training
    gpt: Any = mb.make_model("hf/gpt2", LOOKUP.info, n_embd=32).get_submodule("model").config
    assert (gpt.hidden_size, gpt.max_position_embeddings, gpt.tie_word_embeddings) == (32, 12, False)
    tied: Any = mb.make_model("hf/gpt2", LOOKUP.info, tie_word_embeddings=True).get_submodule("model").config
    assert tied.tie_word_embeddings


@needs_transformers
def test_a_causal_model_does_not_see_what_follows() -> None:
    model = mb.make_model("hf/llama", MASKED.info).eval()
    tokens = torch.zeros(1, 10, dtype=torch.int64)
    later = tokens.clone()
    later[0, 5:] = 3
    torch.testing.assert_close(model(tokens)[:, :5], model(later)[:, :5])
    assert not torch.allclose(model(tokens)[:, 5:], model(later)[:, 5:])


@needs_transformers
@pytest.mark.parametrize(
    ("name", "options", "error", "words"),
    [
        ("hf/lama", {}, NotFound, "Did you mean 'hf/llama'"),
        ("hf/gemma3", {}, ModelError, r"made of several models \(text_config, vision_config\).* as hf/gemma3_text"),
        ("hf/vit", {}, ModelError, "no causal or masked language model"),
        ("hf/gpt2", {"n_embed": 3}, NotFound, "Did you mean 'n_embd'"),
        ("hf/llama", {"hidden_size": 65}, ModelError, "cannot be"),
    ],
)
def test_what_cannot_be_built_is_one_sentence(name: str, options: dict[str, int], error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        mb.make_model(name, LOOKUP.info, **options)


@needs_transformers
def test_a_padding_of_its_own_is_no_token_of_the_task() -> None:
    model: Any = mb.make_model("hf/roberta", MASKED.info)
    configuration = model.get_submodule("model").config
    assert configuration.pad_token_id == TOKENS == configuration.vocab_size - 1
    assert model(torch.full((1, 10), TOKENS - 1)).shape == (1, 10, MASKED.info.num_classes)
    plain: Any = mb.make_model("hf/bert", MASKED.info).get_submodule("model").config
    assert (plain.pad_token_id, plain.vocab_size) == (None, TOKENS)


@needs_transformers
def test_weights_do_not_depend_on_what_was_tried_before() -> None:
    special = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"), TOKENS)
    at_once = {"vocab_size": TOKENS + 1, "max_position_embeddings": TOKENS + 11, **special}
    torch.testing.assert_close(_weights("hf/roberta"), _weights("hf/roberta", **at_once), rtol=0, atol=0)


def _weights(name: str, **options: int) -> torch.Tensor:
    torch.manual_seed(3)
    return torch.nn.utils.parameters_to_vector(mb.make_model(name, MASKED.info, **options).parameters()).detach()


@needs_transformers
def test_images_are_refused() -> None:
    info = mb.make_task("two_step_digits-v1").info
    with pytest.raises(ModelError, match="reads tokens, and the image inputs"):
        mb.make_model("hf/gpt2", info)
    with pytest.raises(ModelError, match="reads tokens"):
        mb.make_model("hf/gpt2", dataclasses.replace(LOOKUP.info, kind="episode"))
