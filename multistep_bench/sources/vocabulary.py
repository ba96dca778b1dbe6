"""Vocabularies: from text to token numbers 0 … size − 1, by characters, by words or by byte pairs."""

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import numpy as np

from multistep_bench.errors import DataError

MAX_VOCABULARY = 8192
CODE_POINTS = 0x110000  # of Unicode
BYTES = 256
UNKNOWN = "<unk>"  # as WikiText itself writes rare words
SHOWN = {" ": "␣", "\n": "⏎", "\t": "⇥"}


class Vocabulary(Protocol):
    size: int

    def encode(self, text: str) -> np.ndarray:
        """Token numbers [tokens] int64."""
        ...

    def token(self, number: int) -> str:
        """What a person reads for a token."""
        ...


class Characters:
    """The most frequent characters of a text (ties by code point); the last token stands for every other character."""

    def __init__(self, pieces: Iterable[str], limit: int) -> None:
        counts = np.zeros(CODE_POINTS, np.int64)
        for piece in pieces:
            counts += np.bincount(_code_points(piece), minlength=CODE_POINTS)
        present = np.flatnonzero(counts)
        kept = present[np.argsort(-counts[present], kind="stable")][: limit - 1]
        self.size = len(kept) + 1
        self._kept = kept
        self._number = np.full(CODE_POINTS, len(kept))
        self._number[kept] = np.arange(len(kept))

    def encode(self, text: str) -> np.ndarray:
        return self._number[_code_points(text)]

    def token(self, number: int) -> str:
        character = chr(self._kept[number]) if number < len(self._kept) else UNKNOWN
        return SHOWN.get(character, character)


class Trained:
    """A vocabulary of the tokenizers library, trained on a text.

    words: the most frequent words, separated by white space, and `UNKNOWN` for all others.
    bpe:   byte pairs (Sennrich et al. 2016) over the 256 bytes, within words.
    """

    def __init__(self, kind: str, pieces: Iterable[str], limit: int) -> None:
        self._tokenizer = {"words": _words, "bpe": _byte_pairs}[kind](_tokenizers(kind), pieces, limit)
        self.size = max(self._tokenizer.get_vocab().values()) + 1  # a text that contains UNKNOWN leaves a gap

    def encode(self, text: str) -> np.ndarray:
        return np.array(self._tokenizer.encode(text).ids, dtype=np.int64)

    def token(self, number: int) -> str:
        return self._tokenizer.id_to_token(number) or UNKNOWN


VOCABULARIES: dict[str, Callable[[Iterable[str], int], Vocabulary]] = {
    "characters": Characters,
    "words": lambda pieces, limit: Trained("words", pieces, limit),
    "bpe": lambda pieces, limit: Trained("bpe", pieces, limit),
}


def _code_points(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le"), np.uint32)


def _tokenizers(kind: str) -> Any:
    try:
        import tokenizers
    except ImportError:
        raise DataError(
            f"vocabulary '{kind}' needs the tokenizers library: pip install 'multistep-bench[text]', or take"
            " vocabulary 'characters'"
        ) from None
    return tokenizers


def _words(library: Any, pieces: Iterable[str], limit: int) -> Any:
    tokenizer = library.Tokenizer(library.models.WordLevel(unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = library.pre_tokenizers.WhitespaceSplit()
    trainer = library.trainers.WordLevelTrainer(vocab_size=limit, special_tokens=[UNKNOWN], show_progress=False)
    tokenizer.train_from_iterator(pieces, trainer)
    return tokenizer


def _byte_pairs(library: Any, pieces: Iterable[str], limit: int) -> Any:
    tokenizer = library.Tokenizer(library.models.BPE())
    tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = library.pre_tokenizers.ByteLevel.alphabet()
    trainer = library.trainers.BpeTrainer(vocab_size=limit, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(pieces, trainer)
    return tokenizer
