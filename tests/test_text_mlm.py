"""Masked language modelling on text: windows, what is scored, and levels by hand and by readers."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from image_data import DATA

from multistep_bench import seeds
from multistep_bench.batch import IGNORED
from multistep_bench.errors import CardError, DataError, DataMissing
from multistep_bench.generators.masked import ngram
from multistep_bench.generators.masked.text_mlm import TextMLM
from multistep_bench.generators.task import make_task

N = 4000


def stream(*name: str | int) -> torch.Generator:
    return seeds.generator(seeds.derive("test", "text_mlm", *name))


def task_on(folder: Path, text: str, **parameters: object) -> TextMLM:
    path = folder / "mine.txt"
    path.write_text(text)
    return TextMLM({"text": str(path), "length": 8, **parameters}, id="mlm_wikitext-v1")


def wikitext(**parameters: object) -> TextMLM:
    try:
        task = make_task("mlm_wikitext-v1", DATA, **parameters)
    except DataMissing as error:
        pytest.skip(str(error))
    assert isinstance(task, TextMLM)
    return task


@pytest.fixture
def small(tmp_path: Path) -> TextMLM:
    """Trained on digits, evaluated on the same digits in another order."""
    return task_on(tmp_path, "0123456789" * 50 + "\n" + "9876543210" * 5 + "\n")


# --- windows and masks


@pytest.mark.parametrize("split", ["train", "eval"])
def test_what_is_visible_is_a_window_of_the_splits_own_text(small: TextMLM, split: str) -> None:
    batch = small.sample(300, split=split, rng=stream(split))  # type: ignore[arg-type]
    assert isinstance(batch.inputs, torch.Tensor)
    selected = batch.targets != IGNORED
    if split == "train":
        windows = torch.where(selected, batch.targets, batch.inputs)
        ring = small.tokens("train").long()
        windows_of_ring = {tuple(ring.roll(-start)[:8].tolist()) for start in range(len(ring))}
        assert {tuple(window) for window in windows.tolist()} <= windows_of_ring
        assert batch.steps == {}
    else:
        assert torch.equal(selected, batch.inputs == small.vocabulary.size), "only what shows [MASK] is scored"


def test_every_token_of_the_ring_comes_up_equally_often_at_every_position(tmp_path: Path) -> None:
    task = task_on(tmp_path, "ab" * 20 + "\nabcd\n", length=4)
    batch = task.sample(40_000, split="eval", rng=stream("ring"))
    assert isinstance(batch.inputs, torch.Tensor)
    shown = torch.where(batch.targets != IGNORED, batch.targets, batch.inputs)
    for token in task.tokens("eval").unique()[:-1].tolist():  # random tokens blur 1.5 % of the positions
        share = (shown == token).double().mean(0)
        expected = float((task.tokens("eval") == token).double().mean())
        assert share.tolist() == pytest.approx([expected] * 4, abs=0.015 + 4 * (expected / 40_000) ** 0.5)


def test_rates_of_selecting_and_masking(small: TextMLM) -> None:
    train = small.sample(N, split="train", rng=stream("rates"))
    held_out = small.sample(N, split="eval", rng=stream("rates"))
    assert isinstance(train.inputs, torch.Tensor)
    n = N * 8
    for happens, rate in (
        (train.targets != IGNORED, 0.15),
        (train.inputs == small.vocabulary.size, 0.12),
        (held_out.targets != IGNORED, 0.12),
    ):
        assert float(happens.double().mean()) == pytest.approx(rate, abs=4 * (rate * (1 - rate) / n) ** 0.5)


# --- levels


def test_levels_of_a_tiny_text_by_hand(tmp_path: Path) -> None:
    """Train "aab\\n", held out "ab\\n"; V = 4: a, newline, b and the unknown character."""
    task = task_on(tmp_path, "aab\nab\n", length=2)
    unigram = {"a": 3 / 8, "b": 2 / 8, "\n": 2 / 8}
    levels = task.levels()
    assert levels.chance == pytest.approx(math.log(4))
    assert levels.shortcut == pytest.approx(-sum(map(math.log, unigram.values())) / 3)
    # Witten-Bell: a is seen twice and followed by a and b; b once, by newline; newline once, by the ring's first a.
    bigram = [(1 + 2 * unigram["b"]) / 4, (1 + unigram["\n"]) / 2, (1 + unigram["a"]) / 2]
    assert levels.ceiling == pytest.approx(-sum(map(math.log, bigram)) / 3)
    assert task.most_frequent() == pytest.approx(1 / 3)


def test_a_pair_never_seen_falls_back_to_the_unigram() -> None:
    train, held_out = torch.tensor([0, 1, 0, 1], dtype=torch.int16), torch.tensor([2, 0], dtype=torch.int16)
    counts = ngram.pair_counts(train, 3)
    assert ngram.unigram_probabilities(counts).tolist() == pytest.approx([3 / 7, 3 / 7, 1 / 7])
    pairs = np.array([2, 0]), np.array([0, 2])
    assert ngram.bigram_probabilities(counts, *pairs).tolist() == pytest.approx([3 / 7, (0 + 1 / 7) / 3])
    unigram, _ = ngram.cross_entropies(train, held_out, 3)
    assert unigram == pytest.approx(-(math.log(3 / 7) + math.log(1 / 7)) / 2)


def test_bigram_probabilities_sum_to_one() -> None:
    tokens = torch.randint(6, (500,), generator=stream("sum"))
    counts = ngram.pair_counts(tokens[tokens != 5], 6)
    for left in range(6):
        assert ngram.bigram_probabilities(counts, np.full(6, left), np.arange(6)).sum() == pytest.approx(1)


def test_counting_in_chunks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = torch.randint(5, (103,), generator=stream("chunks"))
    whole = ngram.pair_counts(tokens, 5).toarray()
    assert whole.sum() == 103
    assert whole[int(tokens[-1]), int(tokens[0])] >= 1
    for chunk in (1, 10, 102, 103):
        monkeypatch.setattr(ngram, "CHUNK", chunk)
        assert (ngram.pair_counts(tokens, 5).toarray() == whole).all()


def test_readers_of_real_text_land_on_its_levels() -> None:
    """Scored where the evaluation scores them: at positions that show [MASK], after the first of a window."""
    task = wikitext()
    levels = task.levels()
    assert levels.shortcut == pytest.approx(3.188, abs=5e-4)
    batch = task.sample(N, split="eval", rng=stream("readers"))
    ring = task.tokens("eval").long()
    start = torch.randint(len(ring), (N, 1), generator=stream("readers"))  # the first thing that a batch draws
    window = ring[(start + torch.arange(32)) % len(ring)]
    scored = batch.targets != IGNORED
    assert torch.equal(window[scored], batch.targets[scored])
    scored[:, 0] = False
    left, right = (each[scored].numpy().copy() for each in (window.roll(1, 1), window))
    counts = ngram.pair_counts(task.tokens("train"), task.vocabulary.size)
    for level, probabilities in (
        (levels.shortcut, ngram.unigram_probabilities(counts)[right]),
        (levels.ceiling, ngram.bigram_probabilities(counts, left, right)),
    ):
        losses = -np.log(probabilities)
        assert losses.mean() == pytest.approx(level, abs=4 * losses.std() / len(losses) ** 0.5)


@pytest.mark.parametrize("vocabulary", ["words", "bpe"])
def test_other_vocabularies_have_levels_of_their_own(vocabulary: str) -> None:
    task = wikitext(vocabulary=vocabulary, vocabulary_size=1000)
    levels = task.levels()
    assert task.info.num_classes == task.vocabulary.size == 1000
    assert levels.chance == pytest.approx(math.log(1000))
    assert levels.shortcut is not None
    assert levels.chance > levels.shortcut > levels.ceiling


# --- what is refused


def test_tokens_have_names(small: TextMLM, tmp_path: Path) -> None:
    assert [small.token_name(token) for token in range(13)] == [*"0123456789", "⏎", "<unk>", "[MASK]"]
    words = task_on(tmp_path, "a b b\n" * 50, vocabulary="words")
    assert [words.token_name(token) for token in range(4)] == ["<unk>", "b", "a", "[MASK]"]


def test_too_short_a_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"the eval part of .*mine\.txt has 3 tokens, too few for a sequence of 8"):
        task_on(tmp_path, "0123456789\n" * 2 + "ab\n")


def test_a_text_whose_parts_are_unlike_has_no_levels(small: TextMLM) -> None:
    with pytest.raises(DataError, match=r"mine\.txt the losses of guessing \(2\.\d{3}\), .* do not fall"):
        small.levels()


@pytest.mark.parametrize(("parameter", "value"), [("vocabulary", "syllables"), ("vocabulary_size", 8193)])
def test_an_unknown_vocabulary_and_too_large_a_one_are_refused(tmp_path: Path, parameter: str, value: object) -> None:
    with pytest.raises(CardError, match=rf"'{parameter}'.*got '?{value}"):
        task_on(tmp_path, "a\nb\n", **{parameter: value})


def test_a_text_takes_two_bytes_a_token(tmp_path: Path) -> None:
    task = task_on(tmp_path, "0123456789\n" * 100)
    assert task.tokens("train").dtype == torch.int16
    assert len(task.tokens("train")) + len(task.tokens("eval")) == 1100
