"""Pointer agreement: the rule, the levels against a table and against solvers, and what counts as right."""

import math
from collections.abc import Callable

import pytest
import torch
from scipy import stats

from multistep_bench import seeds
from multistep_bench.batch import IGNORED, Batch
from multistep_bench.errors import CardError
from multistep_bench.generators.masked.agreement import Agreement

N = 20_000
SIGNIFICANT = 1e-4
SIZES = [(8, 8, 4), (4, 8, 4), (16, 8, 4), (3, 2, 1)]


def agreement(nouns: int = 8, classes: int = 8, members: int = 4, seed: int = 0) -> Agreement:
    parameters = {"nouns": nouns, "classes": classes, "members": members, "seed": seed}
    return Agreement(parameters, id="mlm_agreement-v1")


def stream(*name: str | int) -> torch.Generator:
    return seeds.generator(seeds.derive("test", "agreement", *name))


def tokens_of(batch: Batch) -> torch.Tensor:
    assert isinstance(batch.inputs, torch.Tensor)
    return batch.inputs


def classes_of_nouns(task: Agreement, inputs: torch.Tensor) -> torch.Tensor:
    """The class of each noun [B, N], looked up one id at a time."""
    class_of = {int(id): c for c, ids in enumerate(task.noun_ids) for id in ids}
    return torch.tensor([[class_of[int(id)] for id in row[1:-1]] for row in inputs])


# --- the rule


@pytest.mark.parametrize("sizes", SIZES)
def test_the_verb_is_of_the_class_of_the_noun_that_the_pointer_names(sizes: tuple[int, int, int]) -> None:
    task = agreement(*sizes)
    batch = task.sample(500, split="eval", rng=stream(*sizes))
    inputs, classes = tokens_of(batch), classes_of_nouns(task, tokens_of(batch))
    for i in range(500):
        pointer = int(inputs[i, 0])
        assert int(batch.steps["pointer"][i]) == pointer
        assert int(batch.steps["class"][i]) == classes[i, pointer]
        assert int(batch.targets[i, -1]) in task.verb_ids[classes[i, pointer]].tolist()


def test_pointers_classes_and_members_are_uniform() -> None:
    task = agreement()
    batch = task.sample(N, split="eval", rng=stream("uniform"))
    inputs = tokens_of(batch)
    for values, first, count in ((inputs[:, 0], 0, 8), (inputs[:, 1:-1], 8, 32), (batch.targets[:, -1], 40, 32)):
        counts = torch.bincount(values.flatten() - first, minlength=count)
        assert len(counts) == count
        assert stats.chisquare(counts.numpy()).pvalue > SIGNIFICANT
    table = stats.contingency.crosstab(batch.steps["pointer"].numpy(), batch.steps["class"].numpy()).count
    assert stats.chi2_contingency(table).pvalue > SIGNIFICANT  # type: ignore[union-attr]


def test_every_token_is_a_pointer_a_noun_a_verb_or_mask_and_the_seed_decides_the_classes() -> None:
    task = agreement()
    every = torch.cat((torch.arange(8), task.noun_ids.flatten(), task.verb_ids.flatten())).sort().values
    assert torch.equal(every, torch.arange(72))
    assert task.info.num_classes == task.vocabulary == 72
    again, other = agreement(), agreement(seed=1)
    assert torch.equal(task.noun_ids, again.noun_ids)
    assert torch.equal(task.verb_ids, again.verb_ids)
    assert not torch.equal(task.noun_ids, other.noun_ids)
    assert not torch.equal(task.verb_ids, other.verb_ids)


def test_tokens_are_named_after_pointer_class_and_member() -> None:
    task = agreement(2, 3, 2)
    assert [task.token_name(token) for token in (0, 1, 14)] == ["m0", "m1", "[MASK]"]
    assert [task.token_name(int(id)) for id in task.noun_ids.flatten()] == [
        "n0.0",
        "n0.1",
        "n1.0",
        "n1.1",
        "n2.0",
        "n2.1",
    ]
    assert task.token_name(int(task.verb_ids[2, 1])) == "v2.1"


# --- what is masked and what is scored


def test_training_selects_15_percent_and_half_of_the_verbs() -> None:
    task = agreement()
    batch = task.sample(N, split="train", rng=stream("rates"))
    selected = (batch.targets != IGNORED).double().mean(0)
    for share, rate in zip(selected.tolist(), [0.15] * 9 + [0.5], strict=True):
        assert share == pytest.approx(rate, abs=4 * (rate * (1 - rate) / N) ** 0.5)
    masked = (tokens_of(batch) == task.vocabulary).double().mean(0)
    for share, rate in zip(masked.tolist(), [0.12] * 9 + [0.4], strict=True):
        assert share == pytest.approx(rate, abs=4 * (rate * (1 - rate) / N) ** 0.5)
    visible = batch.targets == IGNORED
    assert (tokens_of(batch)[visible] < task.vocabulary).all()


def test_evaluation_hides_the_verb_and_nothing_else_and_scores_nothing_else() -> None:
    task = agreement()
    batch = task.sample(500, split="eval", rng=stream("eval"))
    assert (tokens_of(batch)[:, -1] == task.vocabulary).all()
    assert (tokens_of(batch)[:, :-1] < task.vocabulary).all()
    assert (batch.targets[:, :-1] == IGNORED).all()
    assert (batch.targets[:, -1] != IGNORED).all()


def test_all_masked_scores_exactly_the_positions_that_show_mask() -> None:
    task = agreement()
    (name, batch), *others = task.auxiliary(4 * N, stream("secondary")).items()
    assert (name, others) == ("all masked", [])
    assert len(batch.targets) == N
    assert torch.equal(batch.targets != IGNORED, tokens_of(batch) == task.vocabulary)
    scored = (batch.targets != IGNORED).double().mean(0)
    for share, rate in zip(scored.tolist(), [0.12] * 9 + [0.4], strict=True):
        assert share == pytest.approx(rate, abs=4 * (rate * (1 - rate) / N) ** 0.5)


# --- levels


@pytest.mark.parametrize(
    ("sizes", "losses", "accuracies"),
    [
        ((8, 8, 4), (3.466, 3.421, 2.943, 1.386), (0.125, 0.234, 0.325, 1)),
        ((4, 8, 4), (3.466, 3.307, 2.526, 1.386), (0.125, 0.344, 0.412, 1)),
        ((16, 8, 4), (3.466, 3.454, 3.212, 1.386), (0.125, 0.180, 0.263, 1)),
    ],
)
def test_levels_of_the_published_table(
    sizes: tuple[int, int, int], losses: tuple[float, ...], accuracies: tuple[float, ...]
) -> None:
    task = agreement(*sizes)
    assert list(task.losses()) == ["unigram", "bigram", "bag", "optimum"]
    assert tuple(task.losses().values()) == pytest.approx(losses, abs=6e-4)
    assert list(task.accuracies()) == ["chance", "bigram", "bag", "optimum"]
    assert tuple(task.accuracies().values()) == pytest.approx(accuracies, abs=6e-4)
    levels = task.levels()
    assert (levels.chance, levels.shortcut, levels.ceiling) == (1 / 8, task.accuracies()["bag"], 1.0)


def test_two_nouns_of_two_classes_by_hand() -> None:
    """Half of the sentences have two equal nouns, and tell the class; in the others it is a coin."""
    task = agreement(2, 2, 1)
    assert task.losses()["bag"] == pytest.approx(0.5 * math.log(2))
    assert task.accuracies()["bag"] == pytest.approx(0.75)
    assert task.accuracies()["bigram"] == pytest.approx(0.75)
    assert task.losses()["bigram"] == pytest.approx(-0.75 * math.log(0.75) - 0.25 * math.log(0.25))


def class_beliefs(task: Agreement, inputs: torch.Tensor, reader: str) -> torch.Tensor:
    """What each reader believes about the verb's class, [B, K]: Bayes' rule on what it sees, nothing else."""
    p = task.parameters
    b, shown = len(inputs), torch.nn.functional.one_hot(classes_of_nouns(task, inputs), p.classes).double()  # B, N, K
    if reader == "unigram":
        return torch.full((b, p.classes), 1 / p.classes, dtype=torch.float64)
    if reader == "bigram":  # the last noun is asked for with probability 1/N; otherwise the class is any one
        return shown[:, -1] / p.nouns + (1 - 1 / p.nouns) / p.classes
    if reader == "bag":
        return shown.mean(1)
    return shown[torch.arange(b), inputs[:, 0]]


@pytest.mark.parametrize("reader", ["unigram", "bigram", "bag", "optimum"])
@pytest.mark.parametrize("sizes", SIZES)
def test_a_solver_of_each_kind_lands_on_its_levels(sizes: tuple[int, int, int], reader: str) -> None:
    task = agreement(*sizes)
    batch = task.sample(N, split="eval", rng=stream("solver", *sizes))
    beliefs = class_beliefs(task, tokens_of(batch), reader)
    logits = torch.full((N, task.parameters.nouns + 2, task.vocabulary), -1e9, dtype=torch.float64)
    for c, ids in enumerate(task.verb_ids):
        logits[:, -1, ids] = (beliefs[:, c : c + 1] / task.parameters.members).log().clamp(min=-1e9)
    losses = -logits[:, -1].log_softmax(-1).gather(1, batch.targets[:, -1:])
    level = task.losses()[reader]
    assert float(losses.mean()) == pytest.approx(level, abs=4 * float(losses.std()) / N**0.5 + 1e-9)
    right = task.correct(logits, batch)
    assert not right[:, :-1].any()
    level = task.accuracies()[{"unigram": "chance"}.get(reader, reader)]
    assert float(right[:, -1].double().mean()) == pytest.approx(level, abs=4 * (level * (1 - level) / N) ** 0.5)


# --- what counts as right


def answer(task: Agreement, probabilities: dict[int, float], target: int) -> bool:
    logits = torch.full((1, 10, 72), 1e-9).log()
    for token, probability in probabilities.items():
        logits[0, -1, token] = math.log(probability)
    targets = torch.full((1, 10), IGNORED)
    targets[0, -1] = target
    return bool(task.correct(logits, Batch(torch.zeros(1, 10), targets, {}))[0, -1])


def test_a_class_is_named_by_the_total_probability_of_its_members() -> None:
    task: Agreement = agreement()
    first, second = task.verb_ids[0].tolist(), task.verb_ids[1].tolist()
    spread = {first[0]: 0.4, **dict.fromkeys(second, 0.15)}
    assert answer(task, spread, second[2])
    assert not answer(task, spread, first[0])
    assert answer(task, {first[0]: 1.0}, first[3]), "any member of the class will do"
    noun = int(task.noun_ids[0, 0])
    assert not answer(task, {noun: 1.0}, first[0]), "a noun of the class is no verb"
    assert answer(task, {3: 0.9}, 3)
    assert not answer(task, {3: 0.9}, 4), "each pointer is a kind of its own"


def test_cells_stacked_on_a_leading_axis_are_judged_as_each_alone() -> None:
    task = agreement(4)
    batches = [task.sample(32, split="train", rng=stream("stacked", i)) for i in range(3)]
    logits = torch.randn(3, 32, 6, task.vocabulary, generator=stream("logits"))
    stacked = Batch(torch.empty(0), torch.stack([batch.targets for batch in batches]), {})
    right: Callable[..., torch.Tensor] = task.correct
    alone = torch.stack([right(each, batch) for each, batch in zip(logits, batches, strict=True)])
    assert torch.equal(right(logits, stacked), alone)
    assert alone.any()
    assert not alone[stacked.targets == IGNORED].any()


@pytest.mark.parametrize("parameter", ["nouns", "classes", "members"])
def test_sizes_without_a_choice_are_refused(parameter: str) -> None:
    with pytest.raises(CardError, match=f"'{parameter}'.*got 0"):
        Agreement({parameter: 0}, id="mlm_agreement-v1")
