"""Pointer agreement: a masked verb agrees with one noun of its sentence, and a pointer token says with which."""

import math
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import gymnasium
import numpy as np
import torch
from pydantic import Field
from scipy import stats

from multistep_bench import seeds
from multistep_bench.batch import IGNORED, Batch, TaskInfo
from multistep_bench.cards import Levels
from multistep_bench.generators.base import Split, TaskGenerator
from multistep_bench.generators.masked.masking import MASK_NAME, SELECTED, corrupt, select, targets_at
from multistep_bench.generators.sampling import expected_largest_count, integers
from multistep_bench.registry import register_generator
from multistep_bench.strict import Strict

SELECTED_VERB = 0.5  # probability of selecting the verb in training
AUXILIARY_SHARE = 4  # an auxiliary evaluation has a quarter of the items: each scores more than one position


class AgreementParameters(Strict):
    """nouns:   N, the noun slots of a sentence.
    classes: K, the classes of nouns and of verbs.
    members: M, the nouns and the verbs of each class.
    seed:    of the permutations that hide which noun and which verb ids belong together.
    """

    nouns: int = Field(default=8, ge=2, le=64)
    classes: int = Field(default=8, ge=2, le=64)
    members: int = Field(default=4, ge=1, le=64)
    seed: int = Field(default=0, ge=0, lt=2**63)


@register_generator("agreement")
class Agreement(TaskGenerator):
    """Sentences [m, n₀ … n_{N−1}, v]: the verb v is of the class of noun n_r, where r is what the pointer m says.

        m    n₀    n₁    n₂    n₃    v
        m2   n2.1  n0.2  n5.3  n1.1  [MASK]   →  n₂ is of class 5, so the verb is v5.0, v5.1, v5.2 or v5.3

    Every noun slot has a uniform class and a uniform member of it; the verb is a uniform member of its class. Tokens
    0 … N − 1 are the pointers, then come K·M nouns and K·M verbs, each permuted once; [MASK] is the last token.

    Training selects 15 % of the positions and the verb with probability ½, corrupts them by the 80/10/10 rule, and has
    targets at all of them. Evaluation masks the verb alone, so that the levels are exact. Tokens have kinds: each
    pointer, each class of nouns and each class of verbs. An answer is right if the kind with the highest total
    probability is that of the target. Auxiliary "all masked": sentences masked as in training, scored at every
    position that shows [MASK].
    Steps: "pointer", r, and "class", that of noun r and of the verb.
    """

    Parameters = AgreementParameters

    def __init__(self, parameters: Mapping[str, Any], **settings: Any) -> None:
        super().__init__(parameters, **settings)
        p = self.parameters
        words = p.classes * p.members
        rng = seeds.generator(seeds.derive("pool", "agreement", p.seed))
        self.vocabulary = p.nouns + 2 * words  # without [MASK]
        nouns, verbs = (torch.randperm(words, generator=rng, dtype=torch.int64) for _ in range(2))
        self.noun_ids = p.nouns + nouns.view(p.classes, p.members)
        self.verb_ids = p.nouns + words + verbs.view(p.classes, p.members)
        self.probabilities = torch.full((p.nouns + 2,), SELECTED, dtype=torch.float64)
        self.probabilities[-1] = SELECTED_VERB

    @cached_property
    def kinds(self) -> torch.Tensor:
        """The kind of each token, [V] int64: N pointers, K classes of nouns, K classes of verbs."""
        n, k = self.parameters.nouns, self.parameters.classes
        kinds = torch.arange(self.vocabulary, dtype=torch.int64)
        kinds[self.noun_ids] = n + torch.arange(k, dtype=torch.int64).unsqueeze(1)
        kinds[self.verb_ids] = n + k + torch.arange(k, dtype=torch.int64).unsqueeze(1)
        return kinds

    @property
    def agreeing_noun(self) -> float:
        """q, the probability that a given noun is of the verb's class: as noun r, or by chance."""
        n, k = self.parameters.nouns, self.parameters.classes
        return 1 / n + (1 - 1 / n) / k

    def accuracies(self) -> dict[str, float]:
        """Class accuracy at the masked verb of the best predictor with the given inputs.

        chance 1/K: no inputs. bigram q = 1/N + (1 − 1/N)/K: the last noun. bag E[largest count]/N: all nouns but not
        the pointer, naming the most frequent class. optimum 1: everything.
        """
        n, k = self.parameters.nouns, self.parameters.classes
        return {
            "chance": 1 / k,
            "bigram": self.agreeing_noun,
            "bag": expected_largest_count(n, k) / n,
            "optimum": 1.0,
        }

    def losses(self) -> dict[str, float]:
        """Cross-entropy in nats at the masked verb of the best predictor with the inputs of `accuracies`.

        unigram log(KM). bigram log M − q·log q − (1 − q)·log((1 − q)/(K − 1)).
        bag log M − K·Σ_c Bin(c; N, 1/K)·(c/N)·log(c/N): the verb's class is that of noun i with probability 1/N.
        optimum log M.
        """
        n, k, m = self.parameters.nouns, self.parameters.classes, self.parameters.members
        q = self.agreeing_noun
        bag = 0.0
        for count in range(1, n):  # of nouns of one class; for 0 and N the class is certain
            bag -= k * float(stats.binom.pmf(count, n, 1 / k)) * count / n * math.log(count / n)
        return {
            "unigram": math.log(k * m),
            "bigram": math.log(m) - q * math.log(q) - (1 - q) * math.log((1 - q) / (k - 1)),
            "bag": math.log(m) + bag,
            "optimum": math.log(m),
        }

    def levels(self) -> Levels:
        """Class accuracies at the masked verb: chance, bag and optimum of `accuracies`."""
        accuracies = self.accuracies()
        return Levels(chance=accuracies["chance"], shortcut=accuracies["bag"], ceiling=accuracies["optimum"])

    def describe(self) -> TaskInfo:
        n = self.parameters.nouns
        layout = {"pointer": (0, 0, 1, 1)} | {f"noun_{i}": (0, 1 + i, 1, 1) for i in range(n)}
        return TaskInfo(
            id=self.id,
            observation_space=gymnasium.spaces.Box(0, self.vocabulary, (n + 2,), np.int64),
            target_space=gymnasium.spaces.Box(IGNORED, self.vocabulary - 1, (n + 2,), np.int64),
            num_classes=self.vocabulary,
            kind="tokens",
            layout=layout | {"verb": (0, n + 1, 1, 1)},
            size=self.size,
            steps=("pointer", "class"),
            **self.levels().model_dump(),
        )

    def token_name(self, token: int) -> str:
        """A pointer as "m2", a noun as "n2.1" and a verb as "v2.1" (class, member), all counted from 0."""
        p = self.parameters
        if token < p.nouns:
            return f"m{token}"
        for letter, ids in (("n", self.noun_ids), ("v", self.verb_ids)):
            for kind, member in (ids == token).nonzero().tolist():
                return f"{letter}{kind}.{member}"
        return MASK_NAME

    def draw(self, n: int, split: Split, rng: torch.Generator) -> Batch:
        sentences, steps = self._sentences(n, rng)
        if split == "train":
            selected = select(n, self.probabilities, rng)
            return Batch(corrupt(sentences, selected, self.vocabulary, rng), targets_at(sentences, selected), steps)
        return self._verb_masked(sentences, steps)

    def questions(self, n: int, *, split: Split, rng: torch.Generator) -> Batch:
        """Samples as evaluated in either split, whose sentences are equally distributed: [MASK] for the verb."""
        return self._verb_masked(*self._sentences(n, rng))

    def _verb_masked(self, sentences: torch.Tensor, steps: dict[str, torch.Tensor]) -> Batch:
        verb = torch.zeros_like(sentences, dtype=torch.bool)
        verb[:, -1] = True
        return Batch(torch.where(verb, self.vocabulary, sentences), targets_at(sentences, verb), steps)

    def auxiliary(self, n: int, rng: torch.Generator) -> dict[str, Batch]:
        n = -(-n // AUXILIARY_SHARE)
        sentences, steps = self._sentences(n, rng)
        inputs = corrupt(sentences, select(n, self.probabilities, rng), self.vocabulary, rng)
        return {"all masked": Batch(inputs, targets_at(sentences, inputs == self.vocabulary), steps)}

    def correct(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        kinds = self.kinds.to(logits.device)
        member = torch.nn.functional.one_hot(kinds).to(logits.dtype)  # V, kinds
        likeliest = (logits.softmax(-1) @ member).argmax(-1)
        return (batch.targets != IGNORED) & (likeliest == kinds[batch.targets.clamp(min=0)])

    def _sentences(self, n: int, rng: torch.Generator) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """n sentences [n, N + 2] without a mask, and their steps."""
        p, device = self.parameters, rng.device
        pointer = integers(p.nouns, n, 1, rng=rng)
        classes = integers(p.classes, n, p.nouns, rng=rng)
        members = integers(p.members, n, p.nouns + 1, rng=rng)  # nouns, verb
        asked = classes.gather(1, pointer)
        nouns = self.noun_ids.to(device)[classes, members[:, :-1]]
        verb = self.verb_ids.to(device)[asked, members[:, -1:]]
        return torch.cat((pointer, nouns, verb), 1), {"pointer": pointer.squeeze(1), "class": asked.squeeze(1)}
