"""From what a user calls a model to a module that keeps the contract."""

import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

import multistep_bench as mb
from multistep_bench import registry
from multistep_bench.batch import Batch
from multistep_bench.cards import list_baselines
from multistep_bench.errors import BenchError, CardError, ModelError, NotFound
from multistep_bench.models import build as models
from multistep_bench.models.vit import ViT

TASK = mb.make_task("two_step_digits-v1")
BATCH = TASK.sample(4, split="eval", rng=torch.Generator().manual_seed(0))
LINEAR = "user_models:linear"


def test_a_baselines_card_is_its_name():
    card = models.resolve_model("vit_tau")
    assert (card.name, card.model, card.leaderboard) == ("vit_tau", "vit", True)
    assert card.config["attention_options"]["temperature"] == pytest.approx(1 / 3)


def test_a_card_can_be_a_path(tmp_path: Path):
    path = tmp_path / "mine.toml"
    path.write_text(
        textwrap.dedent("""
        name = "mine"
        title = "Mine"
        summary = "A deep one."
        source = "here"
        model = "vit"
        [config]
        depth = 2
        """)
    )
    model = mb.make_model(path, TASK.info)
    assert isinstance(model, ViT)
    assert len(model.blocks) == 2
    assert len(mb.make_model(str(path), TASK.info, depth=1).blocks) == 1  # type: ignore[arg-type]


def test_what_has_no_card_gets_one():
    for name in (LINEAR, "timm/resnet10t"):
        card = models.resolve_model(name)
        assert (card.name, card.model, card.config) == (name, name, {})
        assert card.leaderboard
    assert models.resolve_model(LINEAR).summary == "Pixels to logits."


def test_a_model_registered_by_a_user_is_found_by_name(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(registry.models._factories, "pixel_sum", lambda info, scale=1.0: nn.LazyLinear(8))
    assert isinstance(mb.make_model("pixel_sum", TASK.info, scale=2.0), nn.LazyLinear)
    with pytest.raises(NotFound, match="Did you mean 'pixel_sum'"):
        mb.make_model("pixel_sun", TASK.info)


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("vit_normsoftmx", NotFound, "Did you mean 'vit_normsoftmax'"),
        ("resnet18d", NotFound, "no model 'resnet18d'"),
        ("timm/vit_tiny_patch16_2244", NotFound, "Did you mean 'timm/vit_tiny_patch16_224'"),
        ("user_models:lenear", BenchError, "user_models:lenear"),
        ("no_such_module:build", BenchError, "PYTHONPATH"),
        ("missing.toml", CardError, "missing.toml"),
    ],
)
def test_an_unknown_model_is_named(name, error, words):
    with pytest.raises(error, match=words):
        models.resolve_model(name)


@pytest.mark.parametrize(
    ("name", "config", "words"),
    [
        ("vit", {"dept": 4}, "model 'vit' has no option 'dept', did you mean 'depth'"),
        ("vit_tau", {"attention_options": {"tau": 1.0}}, "'softmax' has no option 'tau'"),
        ("resnet9", {"blocks": 4}, r"model 'resnet9' has no option 'blocks' \(it takes size, width\)"),
        (LINEAR, {"dropout": 2.0}, "dropout"),
        ("vit", {"width": "wide"}, "wide"),
    ],
)
def test_a_wrong_option_is_named(name, config, words):
    with pytest.raises(ModelError, match=words):
        mb.make_model(name, TASK.info, **config)


def test_a_builder_that_returns_no_module_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(registry.models._factories, "text", lambda info: "no module")
    with pytest.raises(ModelError, match=r"model 'text' returned a str; return a torch\.nn\.Module"):
        mb.make_model("text", TASK.info)


class Answers(nn.Module):
    """Answers every batch with what it was built with."""

    def __init__(self, answer: object) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, images: torch.Tensor) -> object:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (torch.zeros(4, 9), r"torch.float32 of shape \(4, 9\).* shape \(4, 8\) are wanted"),
        (torch.zeros(4), r"shape \(4,\)"),
        (torch.zeros(4, 8, dtype=torch.int64), "torch.int64"),
        ((torch.zeros(4, 8), torch.zeros(4, 8)), "a tuple"),
        (ValueError("no"), r"inputs of shape \(4, 3, 16, 16\) of two_step_digits-v1: ValueError: no"),
    ],
)
def test_a_model_that_breaks_the_contract_is_named(answer, words):
    with pytest.raises(ModelError, match=words):
        models.check_contract(Answers(answer), TASK.info, BATCH)


def test_tokens_want_logits_for_every_position():
    batch = Batch(torch.zeros(4, 7, dtype=torch.int64), torch.zeros(4, 7, dtype=torch.int64), {})
    models.check_contract(Answers(torch.zeros(4, 7, 8)), TASK.info, batch)
    with pytest.raises(ModelError, match=r"shape \(4, 7, 8\) are wanted"):
        models.check_contract(Answers(torch.zeros(4, 8)), TASK.info, batch)


def test_the_check_leaves_the_model_as_it_was():
    model = mb.make_model("resnet9", TASK.info, width=4)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    models.check_contract(model, TASK.info, BATCH)
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_parameters_of_a_vit_counted_by_hand():
    model = mb.make_model("vit", TASK.info, patches_per_tile=2, width=32, depth=2, heads=2, mlp_ratio=2.0)
    tokens, width, patch = 17, 32, 3 * 4 * 4
    attention = 4 * width * width + width
    mlp = 4 * width * width + 3 * width
    embedding = patch * width + width + width + tokens * width
    assert models.count_parameters(model) == embedding + 2 * (attention + mlp + 4 * width) + 2 * width + 8 * width + 8
    model.head.requires_grad_(False)  # pyright: ignore[reportCallIssue, reportAttributeAccessIssue]
    assert models.count_parameters(model) == embedding + 2 * (attention + mlp + 4 * width) + 2 * width


def test_every_card_builds_what_it_says():
    assert len(list_baselines()) >= 14
    for name in list_baselines():
        card = models.resolve_model(name)
        assert card.name == name
        assert card.leaderboard == (not name.endswith("_oracle"))
        if "sequence" not in card.model:  # which reads no images
            assert not hasattr(models.build(card, TASK.info), "uses_steps") or not card.leaderboard


@pytest.fixture
def restored_default_dtype() -> Iterator[None]:
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("restored_default_dtype")
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize(
    ("name", "task"),
    [
        *((name, "two_step_digits-v1") for name in list_baselines() if name.startswith("vit")),
        ("timm/vit_tiny_patch16_224", "two_step_digits-v1"),
        ("resnet9", "two_step_digits-v1"),
        ("gpt", "markov-v1"),
        ("gpt_fixed_uniform", "markov-v1"),
        ("gpt", "icl_glyphs-v1"),
        ("bert_normsoftmax", "mlm_agreement-v1"),
    ],
)
def test_another_default_dtype_of_torch_changes_no_model(name, task, dtype):
    """Of the process, as another library may have set it."""
    generator = mb.make_task(task)
    info = generator.info
    batch = generator.sample(4, split="eval", rng=torch.Generator().manual_seed(0))

    def trained(default: torch.dtype, **options) -> tuple[nn.Module, torch.Tensor]:
        torch.set_default_dtype(default)
        torch.manual_seed(0)
        model = mb.make_model(name, info, **options)
        assert torch.get_default_dtype() == default
        answer = models.logits(model, batch)
        answer.sum().backward()
        return model, answer

    options = {"positions": "rotary"} if name == "gpt" else {}
    (expected, answer), (model, other) = trained(torch.float32, **options), trained(dtype, **options)
    assert torch.equal(answer, other)
    for (key, one), (_, two) in zip(expected.state_dict().items(), model.state_dict().items(), strict=True):
        assert one.dtype == two.dtype, key
        assert torch.equal(one, two), key
    for one, two in zip(expected.parameters(), model.parameters(), strict=True):
        assert two.grad is None if one.grad is None else torch.equal(one.grad, two.grad)  # type: ignore[arg-type]


@pytest.mark.usefixtures("restored_default_dtype")
def test_the_default_dtype_is_restored_where_building_fails():
    info = TASK.info
    torch.set_default_dtype(torch.float64)
    with pytest.raises(ModelError):
        mb.make_model("vit", info, depth=0)
    assert torch.get_default_dtype() == torch.float64
