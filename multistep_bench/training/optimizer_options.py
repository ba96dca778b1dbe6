"""Whether an optimiser takes the options that a protocol gives it."""

import inspect
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from multistep_bench.errors import CardError
from multistep_bench.protocol import Protocol

OWN_KEYS = {  # options that stand elsewhere in a protocol
    "lr": "learning_rates",
    "weight_decay": "weight_decay",
    "betas": "betas",
}


def check_options(protocol: Protocol, known: Mapping[str, Any], *, betas: bool) -> None:
    """Raises `CardError` for an option that the optimiser does not take, or one of another type than its default."""
    name = protocol.optimizer
    takes = f"it takes {', '.join(sorted(known))}" if known else "it takes none"
    if not betas and protocol.betas != Protocol.model_fields["betas"].default:
        raise CardError(
            f"optimizer '{name}' has no betas, and protocol.betas are {list(protocol.betas)}; leave them out"
        )
    for key, value in protocol.optimizer_options.items():
        if key in OWN_KEYS and (key != "betas" or betas):
            raise CardError(f"optimizer_options.{key} of '{name}' is not read; set protocol.{OWN_KEYS[key]}")
        if key not in known:
            match = get_close_matches(key, known, n=1)
            hint = f"did you mean '{match[0]}'?" if match else takes
            raise CardError(f"optimizer '{name}' has no option '{key}'; {hint}")
        default = known[key]
        kinds = [(isinstance(each, bool), isinstance(each, str)) for each in (default, value)]
        if default not in (None, inspect.Parameter.empty) and kinds[0] != kinds[1]:
            raise CardError(f"optimizer_options.{key} = {value!r} of '{name}' is of another type than {default!r}")
