"""Episodes of images: what is shown to whom, the levels, and Chan et al.'s setting with fixed labels."""

from collections import Counter
from functools import lru_cache
from pathlib import Path

import pytest
import torch
from image_data import stream
from sampling import accuracy, episode, four_errors

from multistep_bench.batch import Batch
from multistep_bench.errors import CardError
from multistep_bench.generators.base import Split
from multistep_bench.generators.in_context.image_episodes import HELD_OUT, ImageEpisodes
from multistep_bench.registry import register_source
from multistep_bench.sources.images import ImageSource, LabelledImages, open_source

N = 3000
FIXED = {"fixed_labels": True, "bursty": 0.9, "zipf": 1.0}
SETTINGS = [{}, {"shots": 1, "ways": 5}, {"symmetries": False, "ways": 3, "labels": 9}]


@lru_cache(maxsize=16)
def _task(parameters: tuple[tuple[str, object], ...]) -> ImageEpisodes:
    return ImageEpisodes(dict(parameters), id="images-v1")


def task(**parameters: object) -> ImageEpisodes:
    """Small images, which are enough to tell drawings apart."""
    return _task(tuple({"pixels": 14, **parameters}.items()))


def draw(task: ImageEpisodes, split: Split = "eval", n: int = N) -> Batch:
    return task.sample(n, split=split, rng=stream("images", split))


def steps_of(batch: Batch, word: str) -> torch.Tensor:
    """One step of all items, [B, n + 1], the query's last."""
    count = episode(batch)[1].shape[1]
    return torch.stack([*(batch.steps[f"item_{i}_{word}"] for i in range(count)), batch.steps[f"query_{word}"]], 1)


# --- what is in an episode


@pytest.mark.parametrize("parameters", SETTINGS, ids=str)
@pytest.mark.parametrize("split", ["train", "eval"])
def test_the_answer_is_the_label_of_every_item_of_the_querys_class(parameters: dict, split: Split) -> None:
    generator = task(**parameters)
    batch = draw(generator, split)
    classes, labels = steps_of(batch, "class"), episode(batch)[1]
    matching = classes[:, :-1] == classes[:, -1:]
    assert (matching.sum(1) == generator.parameters.shots).all()
    assert torch.equal((labels == batch.targets.unsqueeze(1)), matching)
    assert torch.equal(batch.steps["match"], matching.int().argmax(1))


@pytest.mark.parametrize("parameters", SETTINGS, ids=str)
def test_classes_are_distinct_characters_with_distinct_labels(parameters: dict) -> None:
    generator = task(**parameters)
    batch = draw(generator)
    characters = steps_of(batch, "class")[:, :-1] // generator.symmetries
    for row, labels in zip(characters.tolist(), episode(batch)[1].tolist(), strict=True):
        assert sorted(Counter(row).values()) == [generator.parameters.shots] * generator.ways
        assert len(set(zip(row, labels, strict=True))) == generator.ways == len(set(labels))
    shares = torch.bincount(batch.targets, minlength=generator.num_labels) / N
    level = 1 / generator.num_labels
    assert shares.tolist() == pytest.approx([level] * generator.num_labels, abs=four_errors(level, N))


@pytest.mark.parametrize("parameters", [*SETTINGS, FIXED], ids=str)
@pytest.mark.parametrize("split", ["train", "eval"])
def test_no_image_comes_twice_in_an_episode(parameters: dict, split: Split) -> None:
    """Neither by its number in the source nor pixel by pixel; the query's least of all."""
    batch = draw(task(**parameters), split, 1500)
    numbers = steps_of(batch, "image").sort(1).values
    assert (numbers[:, 1:] > numbers[:, :-1]).all()
    items = episode(batch)[0]
    equal = (items[:, :-1] == items[:, -1:]).flatten(2).all(2)
    assert not equal.any()


@pytest.mark.parametrize("parameters", [{"pixels": 28}, {"pixels": 28, **FIXED}], ids=str)
def test_items_are_the_sources_drawings_in_their_symmetry(parameters: dict) -> None:
    batch = draw(task(**parameters), "train", 40)
    source = open_source("characters").train
    classes, numbers = steps_of(batch, "class"), steps_of(batch, "image")
    assert torch.equal(source.labels[numbers], classes // 8)
    for row, symmetries, images in zip(numbers.tolist(), (classes % 8).tolist(), episode(batch)[0], strict=True):
        for number, symmetry, shown in zip(row, symmetries, images, strict=True):
            drawing = source.images[number, 0].float() / 255
            drawing = drawing.T if symmetry & 1 else drawing
            drawing = drawing.flip(1) if symmetry & 2 else drawing
            drawing = drawing.flip(0) if symmetry & 4 else drawing
            assert torch.equal(shown[0], drawing)


@pytest.mark.parametrize("parameters", [{}, FIXED], ids=str)
def test_training_and_evaluation_share_no_class(parameters: dict) -> None:
    generator = task(**parameters)
    seen = {
        split: set((steps_of(draw(generator, split), "class") // 8).flatten().tolist()) for split in ("train", "eval")
    }
    assert seen["train"] <= set(range(200))
    assert seen["eval"] == set(range(200, 250))


def test_all_classes_symmetries_and_drawings_are_equally_frequent() -> None:
    batch = draw(task(), n=8000)
    query = batch.steps["query_class"]
    for values, count in ((query // 8 - 200, 50), (query % 8, 8), (batch.steps["query_image"] % 20, 20)):
        shares = torch.bincount(values, minlength=count) / 8000
        assert shares.tolist() == pytest.approx([1 / count] * count, abs=four_errors(1 / count, 8000))


def test_labels_say_nothing_about_classes() -> None:
    """Over episodes every class has each label equally often, so weights that know classes are at chance."""
    batch = draw(task(symmetries=False), "train", 40_000)
    counts = torch.zeros(200, 2).index_put_(
        (batch.steps["query_class"], batch.targets), torch.ones(()), accumulate=True
    )
    z = (counts[:, 0] - counts[:, 1]) / counts.sum(1).sqrt()
    assert z.abs().max() < 4.5
    assert float(z.pow(2).mean()) == pytest.approx(1, abs=0.4)  # 4 × √(2 / 200)


# --- levels


@pytest.mark.parametrize("parameters", SETTINGS, ids=str)
def test_labels_of_the_context_at_random_and_the_most_frequent_one_land_on_the_shortcut(parameters: dict) -> None:
    generator = task(**parameters)
    batch, levels = draw(generator), generator.levels()
    labels, pairs = episode(batch)[1], generator.pairs
    chance = 1 / parameters.get("labels", generator.ways)
    assert levels.model_dump() == {"chance": chance, "shortcut": 1 / generator.ways, "ceiling": 1}
    some = labels.gather(1, torch.randint(pairs, (N, 1), generator=stream("shortcut"))).squeeze(1)
    for answers in (some, labels.mode(1).values, labels[:, 0], labels[:, -1]):
        assert accuracy(answers, batch) == pytest.approx(levels.floor, abs=four_errors(levels.floor, N))


def test_pixels_alone_leave_the_shortcut_and_do_not_reach_the_ceiling() -> None:
    """The label of the nearest image: classes are told apart by what is drawn, and embedding them takes learning."""
    batch = draw(task(pixels=28))
    items = episode(batch)[0].flatten(2)
    nearest = torch.cdist(items[:, -1:], items[:, :-1]).squeeze(1).argmin(1, keepdim=True)
    score = accuracy(episode(batch)[1].gather(1, nearest).squeeze(1), batch)
    assert 0.6 < score < 0.95


# --- fixed labels


def test_with_fixed_labels_every_training_class_has_one_of_its_own() -> None:
    generator = task(**FIXED)
    assert generator.num_labels == 200 * 8
    batch = draw(generator, "train")
    classes, labels = steps_of(batch, "class"), torch.cat((episode(batch)[1], batch.targets.unsqueeze(1)), 1)
    of = dict(zip(classes.flatten().tolist(), labels.flatten().tolist(), strict=True))
    assert all(of[c] == label for c, label in zip(classes.flatten().tolist(), labels.flatten().tolist(), strict=True))
    assert len(set(of.values())) == len(of)
    other = ImageEpisodes({"pixels": 14, **FIXED, "seed": 1}, id="images-v1")
    assert not torch.equal(other.class_of_label, generator.class_of_label)


def test_evaluation_with_fixed_labels_is_as_without_them() -> None:
    generator = task(**FIXED)
    assert generator.levels().model_dump() == {"chance": 1 / 1600, "shortcut": 0.5, "ceiling": 1}
    fixed, dealt = draw(generator), draw(task())
    for name, tensor in fixed.tensors().items():
        assert torch.equal(tensor, dealt.tensors()[name])


@pytest.mark.parametrize("zipf", [0.0, 1.0])
def test_bursty_episodes_come_as_often_as_asked_and_have_their_composition(zipf: float) -> None:
    """3 items of each of 2 classes and 2 random ones; by chance a random item is of one of these classes too."""
    generator = task(fixed_labels=True, bursty=0.7, zipf=zipf)
    batch = draw(generator, "train", 6000)
    repeated = torch.tensor(
        [sum(count >= 3 for count in Counter(row).values()) >= 2 for row in episode(batch)[1].tolist()]
    )
    p = generator.frequencies.weights / generator.frequencies.weights.sum()
    by_chance = 0.001 if zipf == 0 else 8 * 7 * 6 / 2 * float(p[0] ** 3)  # a bound for the random episodes
    assert 0.7 - four_errors(0.7, 6000) < float(repeated.double().mean()) < 0.7 + by_chance + four_errors(0.7, 6000)
    present = (episode(batch)[1] == batch.targets.unsqueeze(1)).any(1)
    assert present[repeated].double().mean() > 0.9
    in_bursty = (episode(batch)[1] == batch.targets.unsqueeze(1)).sum(1)
    if zipf == 0:
        assert ((in_bursty >= 3) == repeated).double().mean() > 0.99


def test_random_episodes_follow_zipf() -> None:
    """All nine classes independent, with frequencies 1 / rank."""
    generator = task(fixed_labels=True, bursty=0.0, zipf=1.0)
    batch = draw(generator, "train", 4000)
    harmonic = sum(1 / k for k in range(1, 1601))
    labels = torch.cat((episode(batch)[1], batch.targets.unsqueeze(1)), 1)
    for rank in (1, 2, 3, 10):
        expected = 1 / rank / harmonic
        for place in (0, 7, 8):
            share = float((labels[:, place] == rank - 1).double().mean())
            assert share == pytest.approx(expected, abs=four_errors(expected, 4000))
    both = float(((labels[:, 0] == 0) & (labels[:, 8] == 0)).double().mean())
    assert both == pytest.approx(harmonic**-2, abs=four_errors(harmonic**-2, 4000))


def test_the_query_of_a_bursty_episode_is_of_either_class_alike() -> None:
    generator = task(fixed_labels=True, bursty=1.0, zipf=3.0)
    batch = draw(generator, "train", 4000)
    right = 0
    for row, target in zip(episode(batch)[1].tolist(), batch.targets.tolist(), strict=True):
        often = sorted(label for label, count in Counter(row).items() if count >= 3)
        assert len(often) == 2
        assert target in often
        right += target == often[0]
    assert right / 4000 == pytest.approx(0.5, abs=four_errors(0.5, 4000))


def test_in_weights_asks_for_trained_classes_that_the_context_lacks_by_unseen_drawings() -> None:
    generator = task(**FIXED)
    auxiliary = generator.auxiliary(4000, stream("secondary"))
    assert list(auxiliary) == ["in weights"]
    batch = auxiliary["in weights"]
    assert len(batch.targets) == 2000
    assert not (episode(batch)[1] == batch.targets.unsqueeze(1)).any()
    assert (batch.steps["match"] == -1).all()
    assert torch.equal(generator.class_of_label[batch.targets], batch.steps["query_class"])
    trained = draw(generator, "train")
    last = 20 - HELD_OUT
    assert (steps_of(trained, "image") % 20).max() < last
    assert (batch.steps["query_image"] % 20).min() >= last
    assert (steps_of(batch, "image")[:, :-1] % 20).max() < last
    harmonic = sum(1 / k for k in range(1, 1601))
    share = float((batch.targets == 0).double().mean())
    assert share == pytest.approx(1 / harmonic, abs=four_errors(1 / harmonic, 2000))


def test_without_fixed_labels_there_is_nothing_to_remember() -> None:
    assert task().auxiliary(100, stream("none")) == {}


# --- parameters and sources


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"labels": 4, "ways": 5}, "labels 4 cannot be dealt to 5 classes"),
        ({"labels": 4, "fixed_labels": True}, "or labels = 0 with fixed_labels = true"),
        ({"bursty": 0.5}, "set fixed_labels = true"),
        ({"zipf": 1.0}, "set fixed_labels = true"),
        ({"fixed_labels": True, "shots": 1}, "shots 1: a bursty context shows"),
        ({"shots": 10}, "need 2 classes of 21 drawings, and 'characters' has 200 of 20 for train"),
        ({"ways": 60, "shots": 1}, "need 60 classes of 61 drawings"),
        ({"source": "digits"}, "source 'digits' of images-v1 trains and evaluates on the same classes"),
    ],
    ids=str,
)
def test_parameters_that_cannot_be_had_are_refused(parameters: dict, message: str) -> None:
    with pytest.raises(CardError, match=message):
        ImageEpisodes({"pixels": 14, **parameters}, id="images-v1")


def test_classes_need_not_have_equally_many_drawings(tmp_path: Path) -> None:
    """Of the larger ones as many are used as the smallest has."""

    @register_source("uneven")
    def uneven(data_root: Path | None = None, download: bool = True) -> ImageSource:
        def split(first: int) -> LabelledImages:
            labels = torch.tensor([first] * 3 + [first + 1] * 6)
            images = torch.arange(9, dtype=torch.uint8).view(9, 1, 1, 1).expand(9, 1, 4, 4).contiguous()
            return LabelledImages(images, labels, torch.arange(9))

        return ImageSource("uneven", split(0), split(2), white=10, classes=("a", "b", "c", "d"), where="here")

    generator = ImageEpisodes({"source": "uneven", "shots": 1, "pixels": 4}, id="uneven-v1")
    numbers = steps_of(draw(generator, n=500), "image")
    assert set(numbers.unique().tolist()) == {0, 1, 2, 3, 4, 5}


def test_the_space_describes_images_in_unit_range() -> None:
    info = task().info
    batch = draw(task(), n=50)
    assert isinstance(batch.inputs, dict)
    assert info.observation_space.contains({name: tensor[0].numpy() for name, tensor in batch.inputs.items()})
    assert episode(batch)[0].shape == (50, 9, 1, 14, 14)
    assert episode(batch)[0].dtype == torch.float32
    assert 0.5 < float(episode(batch)[0].max()) <= 1
