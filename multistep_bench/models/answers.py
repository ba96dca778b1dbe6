"""The one adapter for models of other libraries: from what a module answers to its logits."""

from collections.abc import Mapping
from typing import Any

import torch


def obvious_logits(answer: Any) -> Any:
    """The logits of an answer where it is obvious which they are, and otherwise the answer as it is.

    Obvious are the attribute or the key `logits` (outputs of Hugging Face, torchvision's with auxiliary heads) and the
    only element of a tuple or a list. Of several elements none is chosen.
    """
    if isinstance(answer, torch.Tensor):
        return answer
    if isinstance(answer, Mapping) and isinstance(answer.get("logits"), torch.Tensor):
        return answer["logits"]
    named = getattr(answer, "logits", None)
    if isinstance(named, torch.Tensor):
        return named
    if isinstance(answer, tuple | list) and len(answer) == 1 and isinstance(answer[0], torch.Tensor):
        return answer[0]
    return answer
