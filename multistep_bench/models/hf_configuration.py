"""The keys of a transformers configuration that a task sets: vocabulary, length, size, and what follows from them."""
# pyright: reportMissingImports=false
# transformers is an extra.

from collections.abc import Iterator
from typing import Any

from multistep_bench.batch import TaskInfo
from multistep_bench.errors import ModelError, NotFound

OTHER_MODELS = {"text_config", "vision_config", "audio_config", "decoder", "decoder_config"}  # keys of configurations
SPECIAL_TOKENS = ("pad_token_id", "bos_token_id", "eos_token_id")


def candidate_keys(
    model: str, info: TaskInfo, options: dict[str, Any], vocabulary: int, length: int
) -> Iterator[dict[str, Any]]:
    """Keys to try in turn; the first with which the model can be built and called are its keys.

    First no token is special; then one more token than the task's is, for models that count positions from their
    padding (RoBERTa) or insist on one. Each with heads of width/heads and, for models whose heads are made of parts of
    a size of their own (DeepSeek), of their default width.
    model: "hf/NAME". options: keys of the user, which override all. Raises `NotFound` for one that the configuration
    does not have, and `ModelError` for a model of several configurations.
    """
    from transformers import AutoConfig

    default = AutoConfig.for_model(model.partition("/")[2])
    parts = list(getattr(default, "sub_configs", {}))
    if OTHER_MODELS.intersection(parts):
        raise ModelError(
            f"model '{model}' is made of several models ({', '.join(parts)}), of which a task of tokens has use for one"
            " only; take that of its text where there is one, as hf/gemma3_text of hf/gemma3"
        )
    known = {*default.to_dict(), *default.attribute_map}
    for key in options:
        if key not in known:
            raise NotFound(f"option of '{model}'", key, known, f"keys of {type(default).__name__}")
    standard = {own: key for key, own in default.attribute_map.items()}
    given = {standard.get(key, key): value for key, value in options.items()}
    sizes = _sizes(default, info, given)
    tied = {"tie_word_embeddings": False, "use_cache": False}
    special = [key for key in SPECIAL_TOKENS if hasattr(default, key)]
    without = {"vocab_size": vocabulary, "max_position_embeddings": length, **dict.fromkeys(SPECIAL_TOKENS)}
    reserved = dict.fromkeys(special, vocabulary)
    reserved |= {"vocab_size": vocabulary + 1, "max_position_embeddings": vocabulary + 1 + length}  # after the padding
    for tokens in (without, reserved):
        if not hasattr(default, "max_position_embeddings"):
            del tokens["max_position_embeddings"]
        yield {**sizes, **tokens, **tied, **given}
        if "head_dim" in sizes:
            yield {**_without(sizes, "head_dim"), **tokens, **tied, **given}


def _sizes(default: Any, info: TaskInfo, given: dict[str, Any]) -> dict[str, Any]:
    """What the preset of the task's model size means for a configuration; keys that it has, and no others."""
    from multistep_bench.models.sequence import SIZES  # it imports timm, which takes seconds

    size = SIZES[info.size]
    width, depth = given.get("hidden_size", size.width), given.get("num_hidden_layers", size.depth)
    sizes: dict[str, Any] = {"hidden_size": width, "num_hidden_layers": depth}
    if getattr(default, "num_attention_heads", None) is not None:
        heads = given.get("num_attention_heads", size.heads)
        sizes |= {"num_attention_heads": heads, "num_key_value_heads": heads, "head_dim": width // heads}
        sizes["intermediate_size"] = int(size.mlp_ratio * width)
        if isinstance(rotary := getattr(default, "rotary_dim", None), int):  # GPT-J
            sizes["rotary_dim"] = min(rotary, width // heads)
    elif all(hasattr(default, key) for key in ("expand", "head_dim", "num_heads")):  # Mamba-2
        sizes |= {"num_heads": int(default.expand * width) // default.head_dim, "n_groups": 1}
    if hasattr(default, "attention_types"):  # GPT-Neo: as many as there are layers
        sizes["attention_types"] = [[["global"], depth]]
    return {key: value for key, value in sizes.items() if hasattr(default, key)}


def _without(keys: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in keys.items() if name != key}
