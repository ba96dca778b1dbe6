"""Episodes of noisy points: who matches whom, the levels, and what a pool changes."""

import pytest
import torch
from image_data import stream
from sampling import accuracy, episode, four_errors

from multistep_bench.batch import Batch
from multistep_bench.errors import CardError
from multistep_bench.generators.base import Split
from multistep_bench.generators.in_context.gaussian_episodes import GaussianEpisodes, confusion

N = 4000
SETTINGS = [{}, {"pairs": 16}, {"copies": 2}, {"labels": 32}, {"pairs": 12, "copies": 3, "labels": 7}]
POOL = {"pool": 100, "labels": 20}


def task(**parameters: object) -> GaussianEpisodes:
    return GaussianEpisodes(parameters, id="gaussian-v1")


def draw(task: GaussianEpisodes, split: Split = "eval", n: int = N) -> Batch:
    return task.sample(n, split=split, rng=stream("gaussian", split))


def nearest(batch: Batch) -> torch.Tensor:
    """The context item nearest to the query, by an own computation, [B]."""
    items, _ = episode(batch)
    return (items[:, :-1] - items[:, -1:]).pow(2).sum(2).argmin(1)


def classes_of(batch: Batch) -> torch.Tensor:
    """Classes of the context's items, [B, n]."""
    names = sorted((name for name in batch.steps if name.startswith("item_")), key=lambda name: int(name.split("_")[1]))
    return torch.stack([batch.steps[name] for name in names], 1)


# --- what is in an episode


@pytest.mark.parametrize("parameters", SETTINGS, ids=str)
@pytest.mark.parametrize("split", ["train", "eval"])
def test_the_label_behind_the_nearest_item_is_the_answer(parameters: dict, split: Split) -> None:
    """The ceiling, by a reader that knows nothing but distances."""
    batch = draw(task(**parameters), split)
    _, labels = episode(batch)
    assert torch.equal(labels.gather(1, nearest(batch).unsqueeze(1)).squeeze(1), batch.targets)


@pytest.mark.parametrize("parameters", SETTINGS, ids=str)
def test_each_class_of_the_context_has_its_copies_and_a_label_of_its_own(parameters: dict) -> None:
    generator = task(**parameters)
    batch = draw(generator)
    classes, (_, labels) = classes_of(batch), episode(batch)
    copies = parameters.get("copies", 1)
    assert torch.equal(
        classes.sort(1).values, torch.arange(generator.ways).repeat_interleave(copies).expand_as(classes)
    )
    same_class = classes.unsqueeze(1) == classes.unsqueeze(2)
    same_label = labels.unsqueeze(1) == labels.unsqueeze(2)
    assert torch.equal(same_class, same_label)


def test_match_is_the_first_context_item_of_the_querys_class() -> None:
    batch = draw(task(copies=2), n=300)
    for i, (context, query) in enumerate(zip(classes_of(batch).tolist(), batch.steps["query_class"], strict=True)):
        assert int(batch.steps["match"][i]) == context.index(int(query))


def test_items_stand_in_random_order() -> None:
    """Any two of eight places hold the same class once in seven times where each class comes twice."""
    classes = classes_of(draw(task(copies=2)))
    for one, other in ((0, 1), (6, 7), (0, 7)):
        equal = float((classes[:, one] == classes[:, other]).double().mean())
        assert equal == pytest.approx(1 / 7, abs=four_errors(1 / 7, N))


def test_the_query_is_a_new_draw_and_so_is_every_copy() -> None:
    items, _ = episode(draw(task(copies=2)))
    gaps = torch.cdist(items, items) + 9 * torch.eye(items.shape[1])
    assert gaps.min() > 0.05  # two draws of one class are about ε·√2 = 0.14 apart


def test_items_have_the_mean_size_and_noise_that_are_said() -> None:
    batch = draw(task(noise=0.3))
    items, _ = episode(batch)
    match = batch.steps["match"].view(-1, 1, 1).expand(-1, 1, 63)
    gap = (items[:, -1:] - items.gather(1, match)).pow(2).sum(2).mean()
    assert float(items.pow(2).sum(2).mean()) == pytest.approx(1, abs=0.01)
    assert float(gap) == pytest.approx(2 * 0.09 / 1.09, rel=0.02)
    assert items.dtype == torch.float32


@pytest.mark.parametrize("parameters", SETTINGS, ids=str)
def test_answers_labels_and_places_of_the_match_are_uniform_and_independent(parameters: dict) -> None:
    generator = task(**parameters)
    batch = draw(generator)
    count = generator.num_labels
    share = torch.bincount(batch.targets, minlength=count) / N
    assert share.tolist() == pytest.approx([1 / count] * count, abs=four_errors(1 / count, N))
    _, labels = episode(batch)
    for place in (0, generator.pairs - 1):  # the label at a place says as little as any other of the context
        assert accuracy(labels[:, place], batch) == pytest.approx(
            1 / generator.ways, abs=four_errors(1 / generator.ways, N)
        )


# --- levels


def test_levels_follow_from_labels_and_classes_in_the_context() -> None:
    assert task().levels().model_dump() == {"chance": 1 / 8, "shortcut": 1 / 8, "ceiling": 1}
    assert task(copies=2, labels=32).levels().model_dump() == {"chance": 1 / 32, "shortcut": 1 / 4, "ceiling": 1}
    assert task(**POOL).levels().model_dump() == {"chance": 1 / 20, "shortcut": 1 / 8, "ceiling": 1}


@pytest.mark.parametrize("parameters", SETTINGS, ids=str)
def test_labels_at_random_and_labels_of_the_context_at_random_land_on_chance_and_shortcut(parameters: dict) -> None:
    generator = task(**parameters)
    batch, levels = draw(generator), generator.levels()
    _, labels = episode(batch)
    anything = torch.randint(generator.num_labels, (N,), generator=stream("chance"))
    some = labels.gather(1, torch.randint(generator.pairs, (N, 1), generator=stream("shortcut"))).squeeze(1)
    most_frequent = labels.mode(1).values
    shortcut = levels.floor
    assert accuracy(anything, batch) == pytest.approx(levels.chance, abs=four_errors(levels.chance, N))
    assert accuracy(some, batch) == pytest.approx(shortcut, abs=four_errors(shortcut, N))
    assert accuracy(most_frequent, batch) == pytest.approx(shortcut, abs=four_errors(shortcut, N))


def test_the_matching_item_says_nothing_before_it_is_compared_with_the_query() -> None:
    """Any rule on the context alone: here the items nearest to one another."""
    batch = draw(task(pairs=4))
    items, labels = episode(batch)
    inner = torch.cdist(items[:, :-1], items[:, :-1]) + 9 * torch.eye(4)
    answers = labels.gather(1, inner.amin(2).argmin(1, keepdim=True)).squeeze(1)
    assert accuracy(answers, batch) == pytest.approx(0.25, abs=four_errors(0.25, N))


def test_confusion_is_how_often_another_class_is_nearer() -> None:
    easy = GaussianEpisodes({"dimension": 63, "noise": 0.1}, id="easy-v1")
    assert easy.pairs * confusion(63, 0.1) < 1e-40
    dimension, noise, n = 3, 1.0, 200_000
    mean, other_mean, *noises = torch.randn(5, n, dimension, generator=stream("confusion"))
    query, own, other = mean + noise * noises[0], mean + noise * noises[1], other_mean + noise * noises[2]
    wrong = float(((query - own).norm(dim=1) > (query - other).norm(dim=1)).double().mean())
    assert wrong == pytest.approx(confusion(dimension, noise), abs=four_errors(wrong, n))


def test_noise_that_hides_the_match_is_refused_because_the_ceiling_would_not_be_one() -> None:
    with pytest.raises(
        CardError, match=r"noise 1.0 in 3 dimensions of gaussian-v1: the nearest item may be of another"
    ):
        task(dimension=3, noise=1.0)


# --- a pool of classes


def test_a_pools_classes_and_labels_are_the_same_in_every_stream() -> None:
    one, other = task(**POOL), task(**POOL)
    first = one.sample(2000, split="train", rng=stream("one"))
    again = other.sample(2000, split="train", rng=stream("two"))
    means = [
        torch.zeros(100, 63).index_add(0, batch.steps["query_class"], episode(batch)[0][:, -1])
        for batch in (first, again)
    ]
    counts = [torch.bincount(batch.steps["query_class"], minlength=100).unsqueeze(1) for batch in (first, again)]
    assert (means[0] / counts[0] - means[1] / counts[1]).norm(dim=1).max() < 0.15
    for batch in (first, again):
        assert torch.equal(batch.targets, batch.steps["query_class"] % 20)
    different = task(**POOL, seed=1)
    assert not torch.allclose(one.means, different.means)


def test_a_pools_labels_are_shared_out_evenly_and_its_contexts_repeat_no_class() -> None:
    batch = draw(task(**POOL), "train")
    classes = classes_of(batch).sort(1).values
    assert (classes[:, 1:] > classes[:, :-1]).all()
    assert torch.bincount(torch.arange(100) % 20).unique().numel() == 1
    assert torch.equal(episode(batch)[1], classes_of(batch) % 20)


def test_with_a_pool_evaluation_is_on_classes_that_training_never_shows() -> None:
    """Weights that know the pool by heart are at chance; matching is right."""
    generator = task(**POOL)
    batch = draw(generator)
    items, labels = episode(batch)
    by_heart = torch.cdist(items[:, -1].double(), generator.means).argmin(1) % 20
    level = generator.levels().chance
    assert accuracy(by_heart, batch) == pytest.approx(level, abs=four_errors(level, N))
    assert accuracy(labels.gather(1, nearest(batch).unsqueeze(1)).squeeze(1), batch) == 1
    known = draw(generator, "train")
    assert accuracy(torch.cdist(episode(known)[0][:, -1].double(), generator.means).argmin(1) % 20, known) == 1


def test_the_auxiliary_curves_tell_weights_from_context() -> None:
    generator = task(**POOL)
    auxiliary = generator.auxiliary(N, stream("secondary"))
    assert list(auxiliary) == ["in weights", "trained classes"]
    absent, present = auxiliary.values()
    assert len(absent.targets) == len(present.targets) == N // 2
    assert (absent.steps["match"] == -1).all()
    assert not (classes_of(absent) == absent.steps["query_class"].unsqueeze(1)).any()
    for batch in (absent, present):
        by_heart = torch.cdist(episode(batch)[0][:, -1].double(), generator.means).argmin(1) % 20
        assert accuracy(by_heart, batch) == 1
    reading = {
        name: accuracy(episode(b)[1].gather(1, nearest(b).unsqueeze(1)).squeeze(1), b) for name, b in auxiliary.items()
    }
    assert reading["trained classes"] == 1
    same_label = 4 / 99  # of the pool's 99 other classes
    assert reading["in weights"] == pytest.approx(same_label, abs=four_errors(same_label, N // 2))


def test_without_a_pool_there_is_nothing_to_remember() -> None:
    assert task().auxiliary(100, stream("none")) == {}


# --- parameters


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"pairs": 8, "copies": 3}, "pairs 8 is not a multiple of copies 3"),
        ({"pairs": 8, "copies": 8}, "and at least twice it"),
        ({"labels": 7}, "labels 7 is below the 8 classes in a context"),
        ({"pool": 8}, "pool 8 leaves no class out of a context of 8"),
        ({"seed": 3}, "seed 3 draws a pool, and pool is 0"),
    ],
    ids=str,
)
def test_parameters_that_contradict_each_other_are_refused(parameters: dict, message: str) -> None:
    with pytest.raises(CardError, match=message):
        task(**parameters)


def test_the_space_describes_items_and_labels() -> None:
    info = task(labels=32).info
    batch = draw(task(labels=32))
    assert isinstance(batch.inputs, dict)
    assert info.kind == "episode"
    assert info.num_classes == 32
    assert info.layout == {"context": (0, 0, 1, 16), "query": (0, 16, 1, 1)}
    assert info.observation_space.contains({name: tensor[0].numpy() for name, tensor in batch.inputs.items()})
