"""What can be refused is refused before anything is written."""

from pathlib import Path
from typing import Any

import pytest

from multistep_bench.errors import BenchError
from multistep_bench.protocol import Recipe
from multistep_bench.training.plan import default_folder, plan

TASK = "two_step_digits-v1"
LINEAR = "user_models:linear"


def test_changes_are_laid_over_the_cards_and_named_in_the_spec() -> None:
    changes = {"protocol.seeds": 7, "protocol.learning_rates": [0.1], "model.dropout": 0.25}
    spec = plan(TASK, LINEAR, "smoke", changes)
    assert (spec.protocol.seeds, spec.protocol.learning_rates) == (7, (0.1,))
    assert spec.model.config == {"dropout": 0.25}
    assert spec.changes == changes
    assert len(spec.cells()) == 7
    assert list(spec.task.protocols) == ["smoke"]


def test_a_recipe_is_changed_key_by_key() -> None:
    changes = {"recipe.learning_rate_multipliers": {"attn.q": 4.0}}
    assert plan(TASK, "vit", "smoke", changes).model.recipe == Recipe(learning_rate_multipliers={"attn.q": 4.0})
    spectral = plan(TASK, "vit_sigma_reparam", "smoke", changes)
    assert spectral.model.recipe == Recipe(learning_rate_multipliers={"attn.q": 4.0}, linear_layers="spectral")
    assert spectral.identity() != plan(TASK, "vit_sigma_reparam", "smoke").identity()
    with pytest.raises(BenchError, match=r"recipe of vit.*'gradient_rescale', did you mean 'gradient_rescaling'"):
        plan(TASK, "vit", "smoke", {"recipe.gradient_rescale": "layer"})
    with pytest.raises(BenchError, match=r"a key starts with task\., model\., protocol\. or recipe\."):
        plan(TASK, "vit", "smoke", {"recipes.linear_layers": "spectral"})


def test_a_claim_can_be_made_on_seeds_that_a_screen_did_not_use() -> None:
    screen, claim = (plan(TASK, LINEAR, "smoke", {"protocol.first_seed": first}) for first in (0, 1000))
    used = {cell.seed(TASK, "train") for cell in screen.cells()}
    assert [cell.seed_index for cell in claim.cells()] == [1000 + seed for seed in range(claim.protocol.seeds)]
    assert used.isdisjoint(cell.seed(TASK, "train") for cell in claim.cells())


def test_the_spec_knows_the_models_cost() -> None:
    model = plan(TASK, LINEAR, "smoke").model
    assert model.parameters == 3 * 16 * 16 * 8 + 8
    assert model.flops_per_sample == 2 * 3 * 16 * 16 * 8


def test_a_model_that_sees_the_steps_is_barred_from_the_leaderboard_whatever_its_card_says(tmp_path: Path) -> None:
    card = tmp_path / "mine.toml"
    card.write_text('name = "mine"\ntitle = "t"\nsummary = "s"\nsource = "s"\nmodel = "vit_oracle"\n')
    assert not plan(TASK, card, "smoke").model.leaderboard
    assert plan(TASK, "vit", "smoke").model.leaderboard


def test_a_changed_task_gets_new_levels_and_loses_its_hash() -> None:
    spec = plan(TASK, LINEAR, "quick", {"task.label_noise": 0.1, "protocol.evaluation_items": 320})
    assert spec.task.levels.ceiling == pytest.approx(0.9)
    assert spec.task.batch_sha256 == ""
    assert spec.task.sha256() != plan(TASK, LINEAR, "quick").task.sha256()


def test_everything_that_decides_a_curve_decides_the_hash() -> None:
    variants: list[dict[str, Any]] = [
        {},
        {"protocol.seeds": 7},
        {"protocol.first_seed": 7},
        {"protocol.weight_decay": 0.0},
        {"model.dropout": 0.5},
        {"task.same_probability": 0.505},
    ]
    specs = [plan(TASK, LINEAR, "smoke", changes) for changes in variants]
    assert len({spec.identity() for spec in specs}) == len(variants)
    assert len({default_folder(spec) for spec in specs}) == len(variants)
    assert plan(TASK, LINEAR, "smoke").identity() == specs[0].identity()


@pytest.mark.parametrize(
    ("model", "protocol", "changes", "message"),
    [
        (LINEAR, "smoke", {"protocol.budget": -5}, r"'budget': Input should be greater than 0 \(got -5\)"),
        (LINEAR, "smoke", {"protocol.sedes": 5}, "unknown key 'sedes', did you mean 'seeds'?"),
        (LINEAR, "smoke", {"seeds": 5}, "--set seeds: a key starts with task., model., protocol. or recipe."),
        (LINEAR, "smoke", {"task.lable_noise": 0.1}, "unknown key 'lable_noise', did you mean 'label_noise'?"),
        (LINEAR, "smoke", {"model.depth": 4}, "depth"),
        (LINEAR, "smook", {}, "no protocol of two_step_digits-v1 'smook'. Did you mean 'smoke'?"),
        ("vit_normsoftmx", "smoke", {}, "no model 'vit_normsoftmx'. Did you mean 'vit_normsoftmax'?"),
        ("user_models:wrong_shape", "smoke", {}, r"of shape \(2, 9\)"),
        ("user_models:not_callable", "smoke", {}, "not something to call"),
    ],
)
def test_what_cannot_be_trained_is_one_sentence(
    model: str, protocol: str, changes: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BenchError, match=message.replace("?", r"\?") if "mean" in message else message) as error:
        plan(TASK, model, protocol, changes)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []
