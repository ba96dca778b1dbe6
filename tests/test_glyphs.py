"""The drawn stand-in for MNIST and Fashion-MNIST: the same bytes everywhere, separable, and not trivially so."""

import hashlib

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from multistep_bench.sources.glyph_shapes import SHAPES
from multistep_bench.sources.glyphs import EVAL_PER_CLASS, TRAIN_PER_CLASS, draw
from multistep_bench.sources.images import LabelledImages, open_source


def test_every_machine_draws_the_same_bytes() -> None:
    source = open_source("glyphs")
    digest = hashlib.sha256(source.train.images.numpy().tobytes() + source.eval.images.numpy().tobytes()).hexdigest()
    assert digest == "f5bc53b7c285a55a629a636da71fd0266912366dd6bbed383c080e51da359f36"


def test_splits_hold_equally_many_drawings_of_each_class_and_share_none() -> None:
    source = open_source("glyphs")
    assert torch.bincount(source.train.labels).tolist() == [TRAIN_PER_CLASS] * 20
    assert torch.bincount(source.eval.labels).tolist() == [EVAL_PER_CLASS] * 20
    assert source.train.images.shape[1:] == (1, 28, 28)
    drawings = np.concatenate([split.images.flatten(1).numpy() for split in (source.train, source.eval)])
    assert len(np.unique(drawings, axis=0)) == len(drawings)
    ids = torch.cat((source.train.ids, source.eval.ids))
    assert len(ids.unique()) == len(ids)


def test_a_drawing_depends_on_its_class_and_seed_alone() -> None:
    one = draw(SHAPES[4], 30, np.random.RandomState(7))
    np.testing.assert_array_equal(one, draw(SHAPES[4], 30, np.random.RandomState(7)))
    assert not np.array_equal(one, draw(SHAPES[4], 30, np.random.RandomState(8)))


def test_no_drawing_is_empty_or_a_blot() -> None:
    ink = open_source("glyphs").train.images.float().mean((1, 2, 3)) / 255
    assert ink.min() > 0.01
    assert ink.max() < 0.6


def pixels(split: LabelledImages, first: int) -> tuple[np.ndarray, np.ndarray]:
    """The ten classes from `first` on: pixels [N, 784] in [0, 1], and labels."""
    chosen = (split.labels >= first) & (split.labels < first + 10)
    return split.images[chosen].flatten(1).numpy() / 255, split.labels[chosen].numpy()


@pytest.mark.parametrize("first", [0, 10], ids=["digits", "garments"])
def test_classifying_takes_learning_but_can_be_learned(first: int) -> None:
    """As for the real data: a linear model is well below the ceiling, nearest neighbours come close to it."""
    source = open_source("glyphs")
    train, held_out = pixels(source.train, first), pixels(source.eval, first)
    linear = LogisticRegression(max_iter=60, tol=1e-2).fit(train[0][::4], train[1][::4])
    assert 0.6 < linear.score(*held_out) < 0.9
    assert KNeighborsClassifier(n_neighbors=1).fit(*train).score(*held_out) > 0.92
