"""What `--diagnostics` asks for: which kinds of figures are recorded during training, and how often."""

from dataclasses import dataclass

from multistep_bench.errors import NotFound, RunError

KINDS = {
    "gradients": "norms of the loss's gradient by W_Q, W_K, W_V, and by the tokens of each region",
    "attention": "entropy, share of each region, effective rank",
    "logits": "spread of the scaled logits, norm of the residual stream",
}
DEFAULT_EVERY = 2  # evaluations: at each one, quick runs of small models would take 22 to 24 % longer, so 11 to 12 %


@dataclass(frozen=True)
class DiagnosticOptions:
    """kinds: of `KINDS`, in its order. every: evaluations from one recording to the next; the last one counts too."""

    kinds: tuple[str, ...]
    every: int = DEFAULT_EVERY

    def due(self, index: int, last: int) -> bool:
        """Whether evaluation `index`, 0 before training, of those up to `last` is recorded."""
        return index % self.every == 0 or index == last


def parse_diagnostics(text: str) -> DiagnosticOptions:
    """Options from "gradients,attention,every=5".

    Raises `NotFound` for a kind that does not exist and `RunError` for a wrong or missing part.
    """
    every, kinds = DEFAULT_EVERY, set()
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, equals, value = part.partition("=")
        if name == "every" and equals:
            if not (value.isascii() and value.isdigit() and int(value) >= 1):
                raise RunError(f"--diagnostics every={value}: a whole number of evaluations from 1 is needed")
            every = int(value)
        elif part in KINDS:
            kinds.add(part)
        else:
            raise NotFound("kind of diagnostics", part, [*KINDS, "every"], f"one of {', '.join(KINDS)}; every=N")
    if not kinds:
        raise RunError(f"--diagnostics '{text}' names no kind of figures; give some of {', '.join(KINDS)}")
    return DiagnosticOptions(tuple(kind for kind in KINDS if kind in kinds), every)
