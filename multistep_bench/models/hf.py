"""Any language model of Hugging Face's transformers, built from its configuration and sized to a task of tokens."""
# pyright: reportMissingImports=false
# transformers is an extra.

import functools
import importlib.util
from collections.abc import Callable
from typing import Any

import torch
from gymnasium import spaces
from torch import nn

from multistep_bench.batch import TaskInfo
from multistep_bench.errors import ModelError, NotFound
from multistep_bench.models.answers import obvious_logits
from multistep_bench.models.hf_configuration import candidate_keys

PREFIX = "hf/"
HINT = "mstep-bench list models --all"
PROBLEM = 300  # characters of a library's error


class LanguageModel(nn.Module):
    """A language model of transformers as a model of a task: tokens in, logits over the task's classes out.

    The vocabulary holds the tokens and the classes, whichever are more; the logits of the first `classes` entries are
    the answer, at every position or, where the task asks for one answer, at the last.
    """

    def __init__(self, model: nn.Module, classes: int, *, one_answer: bool) -> None:
        super().__init__()
        self.model = model
        self.classes = classes
        self.one_answer = one_answer

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Tokens [B, T] → logits [B, T, K], or [B, K] for a task with one answer."""
        logits = obvious_logits(self.model(input_ids=tokens))[..., : self.classes]
        return logits[:, -1] if self.one_answer else logits


def hf_names() -> list[str]:
    """The language models of transformers as `resolve_model` takes them; none where it is not installed."""
    if importlib.util.find_spec("transformers") is None:
        return []
    causal, masked, configurations = _tables()
    return sorted(PREFIX + name for name in {*causal, *masked} if name in configurations)


def hf_builder(model: str) -> "functools.partial[nn.Module]":
    """The builder behind "hf/NAME"; raises `ModelError` without transformers, `NotFound` with the closest match."""
    _installed(model)
    name = model.removeprefix(PREFIX)
    causal, masked, configurations = _tables()
    if name in configurations and name not in causal and name not in masked:
        raise ModelError(f"model '{model}' has no causal or masked language model in transformers; see {HINT}")
    if name not in configurations:
        raise NotFound("model", model, hf_names(), HINT)
    return functools.partial(build_hf, name)


def hf_source(model: str) -> Callable[..., Any]:
    """The configuration class of transformers that describes "hf/NAME"."""
    _installed(model)
    from transformers import AutoConfig

    return type(AutoConfig.for_model(model.removeprefix(PREFIX)))


def build_hf(name: str, info: TaskInfo, **options: Any) -> nn.Module:
    """An untrained language model for a task of tokens, from its configuration: nothing is downloaded.

    The task gives vocabulary and length; its preset of model size (as of the model "sequence") gives hidden_size,
    num_hidden_layers, num_attention_heads and intermediate_size, where the configuration has them; everything else is
    the configuration's default, dropout too, except that weights are not tied and no token is padding; a model that
    cannot do without padding gets a token of its own for it, which the task never shows.
    options: keys of the configuration, which override all of this.
    Raises `ModelError` or `NotFound` for what does not fit.
    """
    space = info.observation_space
    if info.kind != "tokens" or not isinstance(space, spaces.Box) or len(space.shape) != 1:
        raise ModelError(f"model '{PREFIX}{name}' reads tokens, and the {info.kind} inputs of {info.id} are {space}")
    vocabulary = max(int(space.high.max()) + 1, info.num_classes)
    one_answer = isinstance(info.target_space, spaces.Discrete)
    problems: list[Exception] = []
    state = torch.get_rng_state()
    for keys in candidate_keys(PREFIX + name, info, options, vocabulary, space.shape[0]):
        torch.set_rng_state(state)  # what was tried before drew weights
        try:
            model = LanguageModel(_from_configuration(name, keys), info.num_classes, one_answer=one_answer)
            with torch.no_grad():
                model.eval()(torch.zeros(1, space.shape[0], dtype=torch.int64, device=next(model.parameters()).device))
            return model.train()
        except Exception as error:  # each checks its configuration in its own way, some when they are called
            problems.append(error)
    first = problems[0]
    raise ModelError(
        f"model '{PREFIX}{name}' cannot be built from its configuration: {type(first).__name__}:"
        f" {' '.join(str(first).split())[:PROBLEM]}; set model.KEY for keys of it"
    ) from first


def _from_configuration(name: str, keys: dict[str, Any]) -> nn.Module:
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM

    factory = AutoModelForMaskedLM if name in _tables()[1] else AutoModelForCausalLM
    return factory.from_config(AutoConfig.for_model(name, **keys))


def _installed(model: str) -> None:
    if importlib.util.find_spec("transformers") is None:
        raise ModelError(
            f"model '{model}' needs the library transformers, which is not installed;"
            ' install the extra: pip install "multistep-bench[hf]"'
        )


def _tables() -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """transformers' tables of causal models, masked models and configurations by name; imports none of these."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    )

    return MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, MODEL_FOR_MASKED_LM_MAPPING_NAMES, CONFIG_MAPPING_NAMES
