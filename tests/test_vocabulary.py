"""Vocabularies: which tokens they keep, what happens to others, and that they never vary."""

import subprocess
import sys

import numpy as np
import pytest

from multistep_bench.errors import DataError
from multistep_bench.sources.vocabulary import VOCABULARIES, Characters

SENTENCES = ["the lobster and the crab ", "the crab and the <unk> ", "a lobster , ähnlich\n"]


def test_characters_are_numbered_by_frequency_then_code_point() -> None:
    vocabulary = Characters(["bbc", "aab", "😀"], 256)
    assert vocabulary.size == 5
    assert vocabulary.encode("bac😀zb").tolist() == [0, 1, 2, 3, 4, 0]


def test_characters_beyond_the_limit_are_one_token() -> None:
    vocabulary = Characters(["aaabbcd"], 3)
    assert vocabulary.size == 3
    assert vocabulary.encode("abcd").tolist() == [0, 1, 2, 2]


def test_words_are_what_white_space_separates_and_rare_ones_are_unknown() -> None:
    vocabulary = VOCABULARIES["words"](iter(SENTENCES), 5)
    the, crab, unknown, rare = vocabulary.encode("the crab <unk> a").tolist()
    assert len({the, crab, unknown}) == 3
    assert rare == unknown
    assert vocabulary.encode("the   crab\nthe").tolist() == [the, crab, the]
    assert max(vocabulary.encode(" ".join(SENTENCES))) < vocabulary.size <= 6


def test_byte_pairs_know_every_text() -> None:
    vocabulary = VOCABULARIES["bpe"](iter(SENTENCES * 10), 300)
    assert vocabulary.size <= 300
    common, rare = vocabulary.encode(" the"), vocabulary.encode("日本 zq")
    assert len(common) == 1
    assert len(rare) >= 6
    assert len(set(rare.tolist())) >= 5, "no character is unknown"


@pytest.mark.parametrize("kind", ["words", "bpe"])
def test_training_again_in_another_process_gives_the_same_tokens(kind: str) -> None:
    """Ties in frequency must not be broken by a hash that varies between processes."""
    text = " ".join(f"w{i % 97} x{i % 89}y" for i in range(2000))
    program = (
        "import sys\n"
        "from multistep_bench.sources.vocabulary import VOCABULARIES\n"
        f"print(VOCABULARIES['{kind}'](iter([sys.argv[1]]), 290).encode(sys.argv[1]).tolist())"
    )
    ran = subprocess.run([sys.executable, "-c", program, text], capture_output=True, text=True, check=True)
    assert str(VOCABULARIES[kind](iter([text]), 290).encode(text).tolist()) == ran.stdout.strip()


@pytest.mark.parametrize("kind", ["words", "bpe"])
def test_without_tokenizers_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(DataError, match=rf"vocabulary '{kind}' .*pip install 'multistep-bench\[text\]'"):
        VOCABULARIES[kind](iter(SENTENCES), 300)
    assert Characters(SENTENCES, 300).encode("the").dtype == np.int64
