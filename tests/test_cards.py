"""Cards are strict: every problem is named, with file and key, before anything runs."""

from pathlib import Path

import pytest
import records

from multistep_bench import cards
from multistep_bench.cards import Levels
from multistep_bench.errors import CardError, NotFound
from multistep_bench.strict import validated

CARD = """
id = "mine-v1"
title = "Mine"
summary = "A task."
intermediate = "z"
source = "here"
generator = "indicator"
batch_sha256 = ""

[parameters]
colour = "red"

[levels]
chance = 0.1
shortcut = 0.55
ceiling = 1.0

[protocols.quick]
budget = 12800
batch_size = 64
evaluations = 100
evaluation_items = 300
seeds = 2
learning_rates = [1e-3, 3e-3]
"""


def write(folder: Path, text: str, name: str = "mine-v1") -> Path:
    path = folder / f"{name}.toml"
    path.write_text(text)
    return path


def test_a_card_reads_as_written(tmp_path: Path) -> None:
    card = cards.load_task(write(tmp_path, CARD))
    protocol = card.protocol("quick")
    assert protocol.learning_rates == (1e-3, 3e-3)
    assert (protocol.steps, protocol.steps_per_evaluation, protocol.interval) == (200, 2, 128)
    assert card.levels.threshold() == pytest.approx(0.775)
    assert card.levels.threshold(0.25) == pytest.approx(0.6625)


def test_a_control_task_is_measured_from_chance() -> None:
    assert cards.Levels(chance=0.1, ceiling=0.9).threshold() == pytest.approx(0.5)


def test_all_problems_are_reported_at_once_with_file_and_key(tmp_path: Path) -> None:
    text = CARD.replace("seeds = 2", "seed = 2\nprecison = 1").replace('title = "Mine"', "title = 3")
    with pytest.raises(CardError) as error:
        cards.load_task(write(tmp_path, text))
    message = str(error.value)
    assert "mine-v1.toml" in message
    assert "'title': Input should be a valid string (got 3)" in message
    assert "missing key 'protocols.quick.seeds'" in message
    assert "unknown key 'protocols.quick.seed', did you mean 'seeds'?" in message
    assert "unknown key 'protocols.quick.precison', did you mean 'precision'?" in message
    with pytest.raises(CardError, match=r"unknown key 'zzz' \(known: chance, shortcut, ceiling"):
        validated(Levels, {"chance": 0.5, "ceiling": 1.0, "zzz": 3}, "mine")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("budget = 12800", "budget = 12864", "12864 is not a multiple of evaluations × batch_size = 6400"),
        ("budget = 12800", "budget = -1", r"protocols.quick.budget': Input should be greater than 0 \(got -1\)"),
        ("budget = 12800", 'budget = "many"', "protocols.quick.budget': Input should be a valid integer"),
        ("[1e-3, 3e-3]", "[3e-3, 1e-3]", "are not ascending and distinct"),
        ("[1e-3, 3e-3]", "[0.0]", "protocols.quick.learning_rates.0': Input should be greater than 0"),
        ("[1e-3, 3e-3]", "[nan]", "protocols.quick.learning_rates.0': Input should be a finite number"),
        ("evaluations = 100", "evaluations = 50", "greater than or equal to 100"),
        ("evaluation_items = 300", "evaluation_items = 150", "150 is below 176"),
        ("seeds = 2", "seeds = 2\nschedule_period = 100", "schedule_period 100 is not a multiple of batch_size 64"),
        ("chance = 0.1", "chance = 0.6", "chance ≤ shortcut < ceiling ≤ 1 does not hold"),
        ('id = "mine-v1"', 'id = "mine"', "'id': String should match pattern"),
        ('id = "mine-v1"', 'id = "yours-v1"', "name the file yours-v1.toml"),
        ('id = "mine-v1"', 'id = "mine-v1', "is not readable TOML"),
    ],
)
def test_a_wrong_value_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(CardError, match=message):
        cards.load_task(write(tmp_path, CARD.replace(old, new)))


def test_a_card_starts_from_its_base(tmp_path: Path) -> None:
    write(tmp_path, CARD)
    child = """
    id = "child-v1"
    base = "mine-v1"
    title = "Child"
    batch_sha256 = ""
    [parameters]
    noise = 0.1
    [levels]
    chance = 0.1
    shortcut = 0.5
    ceiling = 0.9
    """
    card = cards.load_task(write(tmp_path, child, "child-v1"))
    assert card.parameters == {"colour": "red", "noise": 0.1}
    assert (card.title, card.summary, card.levels.ceiling) == ("Child", "A task.", 0.9)
    assert card.protocol("quick").budget == 12800


def test_the_hash_of_a_task_follows_its_data_not_its_prose_or_protocols(tmp_path: Path) -> None:
    original = cards.load_task(write(tmp_path, CARD)).sha256()
    for prose in (CARD.replace("A task.", "Another text."), CARD.replace("seeds = 2", "seeds = 3")):
        assert cards.load_task(write(tmp_path, prose)).sha256() == original
    for data in (CARD.replace('"red"', '"blue"'), CARD.replace("ceiling = 1.0", "ceiling = 0.9")):
        assert cards.load_task(write(tmp_path, data)).sha256() != original


def test_unknown_names_suggest_the_closest() -> None:
    with pytest.raises(NotFound, match=r"no task 'two_step_digit-v1'. Did you mean 'two_step_digits-v1'\?"):
        cards.load_task("two_step_digit-v1")
    with pytest.raises(NotFound, match=r"no protocol of two_step_digits-v1 'quik'. Did you mean 'quick'\?"):
        cards.load_task("two_step_digits-v1").protocol("quik")
    with pytest.raises(CardError, match=r"there is no card at nowhere.toml"):
        cards.load_task("nowhere.toml")


def test_levels_that_fall_are_losses() -> None:
    losses = cards.Levels(chance=4.9, shortcut=3.2, ceiling=2.4)
    assert losses.measure == "loss"
    assert losses.threshold(0.25) == pytest.approx(3.0)
    assert cards.Levels(chance=0.1, ceiling=1.0).measure == "accuracy"
    for wrong in ((0.1, 0.55, 1.2), (4.0, 5.0, 2.0), (2.0, 2.0, 2.0)):
        with pytest.raises(ValueError, match="does not hold"):
            cards.Levels(chance=wrong[0], shortcut=wrong[1], ceiling=wrong[2])


@pytest.mark.parametrize("name", cards.list_tasks())
def test_every_task_card_that_ships_is_valid(name: str) -> None:
    card = cards.load_task(name)
    assert {"smoke", "quick"} <= set(card.protocols)


@pytest.mark.parametrize("name", cards.list_baselines())
def test_every_baseline_card_that_ships_is_valid(name: str) -> None:
    assert cards.load_baseline(name).name == name


def test_the_bottleneck_is_prose_that_no_card_inherits(tmp_path: Path) -> None:
    card = cards.load_task("two_step_digits-v1")
    assert card.bottleneck == "not attention alone"
    other = card.model_copy(update={"bottleneck": None})
    assert card.sha256() == other.sha256()
    identities = {
        records.make_spec(task={"bottleneck": value}).identity() for value in (None, "attention", "not attention alone")
    }
    assert len(identities) == 1
    path = tmp_path / "mine-v1.toml"
    levels = "[levels]\nchance = 0.125\nshortcut = 0.5625\nceiling = 1.0\n"
    path.write_text(f'id = "mine-v1"\nbase = "two_step_digits-v1"\nbatch_sha256 = ""\n{levels}')
    assert cards.load_task(path).bottleneck is None
    path.write_text(f'id = "mine-v1"\nbase = "two_step_digits-v1"\nbatch_sha256 = ""\nbottleneck = "eyes"\n{levels}')
    with pytest.raises(CardError, match="bottleneck"):
        cards.load_task(path)
