"""Masked language modelling on real text, measured against unigram and bigram predictors."""

import math
from collections.abc import Mapping
from typing import Any, Literal

import gymnasium
import numpy as np
import torch
from pydantic import Field

from multistep_bench.batch import IGNORED, Batch, TaskInfo
from multistep_bench.cards import Levels
from multistep_bench.errors import DataError
from multistep_bench.generators.base import Split, TaskGenerator
from multistep_bench.generators.masked.masking import MASK_NAME, SELECTED, corrupt, select, targets_at
from multistep_bench.generators.masked.ngram import cross_entropies
from multistep_bench.generators.sampling import integers
from multistep_bench.registry import register_generator
from multistep_bench.sources.text import TextPart, open_text
from multistep_bench.sources.vocabulary import MAX_VOCABULARY, VOCABULARIES, Vocabulary
from multistep_bench.strict import Strict


class TextMLMParameters(Strict):
    """text: the name of a text source, or the path of a UTF-8 file.
    vocabulary: "characters"; "words" or "bpe" (byte pairs), which need the extra `text`.
    vocabulary_size: the most tokens that the vocabulary, made from the training text, may have.
    length: tokens of a sequence.
    """

    text: str = "wikitext2_small"
    vocabulary: Literal["characters", "words", "bpe"] = "characters"
    vocabulary_size: int = Field(default=MAX_VOCABULARY, ge=257, le=MAX_VOCABULARY)
    length: int = Field(default=32, ge=2, le=4096)


@register_generator("text_mlm")
class TextMLM(TaskGenerator):
    """Windows of a text with 15 % of the tokens selected; 80 % of these show [MASK], 10 % a random token.

        T h e _ [M] o b s t e r _ q s [M] a ...      [M] = [MASK], q = a random token
                 l                  i  _             targets in training; in evaluation only l and _

    A window starts anywhere in its part of the text. The text is read as a ring, so that every token is equally
    frequent at every position. Tokens 0 … V − 1 are the vocabulary, [MASK] is token V. Every batch draws new masks.
    Training has targets at all selected positions, evaluation only at those that show [MASK].
    There is no single z, so `Batch.steps` is empty: the intermediate variable is the whole context of a position.
    """

    Parameters = TextMLMParameters

    def __init__(self, parameters: Mapping[str, Any], **settings: Any) -> None:
        super().__init__(parameters, **settings)
        p = self.parameters
        source = open_text(p.text, self.data_root)
        self.vocabulary: Vocabulary = VOCABULARIES[p.vocabulary](source.train.pieces(), p.vocabulary_size)
        self._tokens = {("train", "cpu"): self._encoded(source.train, "train")}
        self._tokens["eval", "cpu"] = self._encoded(source.eval, "eval")
        self.probabilities = torch.full((p.length,), SELECTED, dtype=torch.float64)
        self.unigram, self.bigram = cross_entropies(self.tokens("train"), self.tokens("eval"), self.vocabulary.size)

    def tokens(self, split: Split, device: torch.device | str = "cpu") -> torch.Tensor:
        """The part of the text, [N] int16; copied to a device once."""
        key = (split, str(device))
        if key not in self._tokens:
            self._tokens[key] = self._tokens[split, "cpu"].to(device)
        return self._tokens[key]

    def levels(self) -> Levels:
        """Cross-entropies in nats at the positions that show [MASK], which are a uniform sample of all positions.

        chance = log V. shortcut = unigram predictor, ceiling = bigram predictor: counted in the training text and
        smoothed (see `ngram`), averaged over the whole held-out text. The bigram predictor sees the true left
        neighbour. The ceiling is a reference, not a bound: a model that uses both sides can go below it.
        Raises `DataError` where the two parts of a text are so short or so different that the levels do not fall.
        """
        chance = math.log(self.vocabulary.size)
        if not chance >= self.unigram > self.bigram:
            raise DataError(
                f"on the held-out part of {self.parameters.text} the losses of guessing ({chance:.3f}), of the unigram"
                f" predictor ({self.unigram:.3f}) and of the bigram predictor ({self.bigram:.3f}) do not fall, so there"
                " is nothing to score; give a longer text, or one whose end is like its beginning"
            )
        return Levels(chance=chance, shortcut=self.unigram, ceiling=self.bigram)

    def most_frequent(self) -> float:
        """The accuracy of always naming the most frequent token of the training text."""
        token = self.tokens("train").long().bincount().argmax()
        return float((self.tokens("eval") == token).double().mean())

    def token_name(self, token: int) -> str:
        return self.vocabulary.token(token) if token < self.vocabulary.size else MASK_NAME

    def describe(self) -> TaskInfo:
        length = self.parameters.length
        return TaskInfo(
            id=self.id,
            observation_space=gymnasium.spaces.Box(0, self.vocabulary.size, (length,), np.int64),
            target_space=gymnasium.spaces.Box(IGNORED, self.vocabulary.size - 1, (length,), np.int64),
            num_classes=self.vocabulary.size,
            kind="tokens",
            layout={"text": (0, 0, 1, length)},
            size=self.size,
            steps=(),
            **self.levels().model_dump(),
        )

    def draw(self, n: int, split: Split, rng: torch.Generator) -> Batch:
        text = self.tokens(split, rng.device)
        start = integers(len(text), n, 1, rng=rng)
        place = start + torch.arange(self.parameters.length, dtype=torch.int64, device=rng.device)
        windows = text[place % len(text)].long()  # B, T
        selected = select(n, self.probabilities, rng)
        inputs = corrupt(windows, selected, self.vocabulary.size, rng)
        scored = selected if split == "train" else inputs == self.vocabulary.size
        return Batch(inputs, targets_at(windows, scored), {})

    def _encoded(self, part: TextPart, split: Split) -> torch.Tensor:
        """The tokens of a part, [N] int16, in a buffer of one token per byte, the most there can be."""
        tokens, count = torch.empty(len(part), dtype=torch.int16), 0
        for piece in part.pieces():
            encoded = torch.from_numpy(self.vocabulary.encode(piece))
            tokens[count : count + len(encoded)] = encoded
            count += len(encoded)
        if count < self.parameters.length:
            raise DataError(
                f"the {split} part of {part.where} has {count} tokens, too few for a sequence of"
                f" {self.parameters.length}; give a longer text or a smaller length"
            )
        return tokens[:count]
