"""Drawn characters: the same bytes everywhere, disjoint splits, and classes that can be told apart."""

import hashlib

import numpy as np
import torch
from sklearn.neighbors import KNeighborsClassifier

from multistep_bench.sources.characters import DRAWINGS, EVAL_CLASSES, TRAIN_CLASSES, character
from multistep_bench.sources.images import open_source

SOURCE = open_source("characters")


def test_every_machine_draws_the_same_bytes() -> None:
    digest = hashlib.sha256(SOURCE.train.images.numpy().tobytes() + SOURCE.eval.images.numpy().tobytes()).hexdigest()
    assert digest == "2a12e3210abb2c8f4c3893faa3ebf831b9a0806ebeb85fa691115bdec706a8df"


def test_training_and_evaluation_share_no_character_and_no_drawing() -> None:
    train, held_out = SOURCE.train, SOURCE.eval
    assert torch.bincount(train.labels).tolist() == [DRAWINGS] * TRAIN_CLASSES
    assert set(held_out.labels.tolist()) == set(range(TRAIN_CLASSES, TRAIN_CLASSES + EVAL_CLASSES))
    assert torch.cat((train.ids, held_out.ids)).tolist() == list(range(20 * 250))
    drawings = np.concatenate([split.images.flatten(1).numpy() for split in (train, held_out)])
    assert len(np.unique(drawings, axis=0)) == len(drawings)


def test_no_two_characters_have_the_same_strokes() -> None:
    shapes = {frozenset(min(stroke, stroke[::-1]) for stroke in character(label).strokes) for label in range(250)}
    assert len(shapes) == 250
    assert {len(strokes) for strokes in shapes} == {2, 3}


def test_strokes_run_between_distinct_points() -> None:
    for label in range(250):
        for stroke in character(label).strokes:
            assert len(set(stroke)) == len(stroke) in (3, 4)


def test_no_drawing_is_empty_or_a_blot() -> None:
    ink = SOURCE.train.images.float().mean((1, 2, 3)) / SOURCE.white
    assert ink.min() > 0.01
    assert ink.max() < 0.6


def test_one_drawing_finds_others_of_its_character_among_fifty() -> None:
    """Far above chance (1/50) by bare pixels, and far from solved."""
    images, labels = SOURCE.eval.images.flatten(1).numpy() / 255, SOURCE.eval.labels.numpy()
    first = np.arange(len(labels)) % DRAWINGS == 0
    score = KNeighborsClassifier(n_neighbors=1).fit(images[first], labels[first]).score(images[~first], labels[~first])
    assert 0.15 < score < 0.8
