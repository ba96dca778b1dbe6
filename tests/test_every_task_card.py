"""The contract of every task card: frozen data, levels, streams and shapes; and tasks/README.md tells the truth."""

from pathlib import Path

import pytest
import torch
from image_data import image_task, sample, stream

from multistep_bench import registry, trusted_code
from multistep_bench.batch import IGNORED
from multistep_bench.cards import card_folder, list_tasks, load_task
from multistep_bench.generators import BUILTIN, RIGHT_BY_CLASS
from multistep_bench.generators.base import Split, TaskGenerator
from multistep_bench.generators.task import batch_sha256, make_task
from multistep_bench.sources.images import open_source

TASKS = list_tasks()
WITHOUT_FILES = [
    "two_step_digits-v1",
    "two_step_glyphs-v1",
    "icl_gaussian-v1",
    "icl_gaussian_fixed-v1",
    "icl_glyphs-v1",
    "lookup-v1",
    "markov-v1",
    "mlm_agreement-v1",
    "two_hop-v1",
    "compositional_recall-v1",
    "trigger-v1",
    "path_star-v1",
    "window_sum-v1",
    "parity-v1",
]


@pytest.mark.parametrize("task_id", TASKS)
def test_a_card_has_a_smoke_and_a_quick_protocol_and_says_what_z_is(task_id: str) -> None:
    card = load_task(task_id)
    assert {"smoke", "quick"} <= card.protocols.keys()
    assert len(card.intermediate) > 20


@pytest.mark.parametrize("task_id", TASKS)
def test_levels_of_the_card_are_those_the_generator_computes(task_id: str) -> None:
    written, computed = load_task(task_id).levels, image_task(task_id).levels()
    assert written.model_dump() == pytest.approx(computed.model_dump(), abs=1e-12)


@pytest.mark.parametrize("task_id", TASKS)
def test_the_data_are_those_the_card_was_frozen_with(task_id: str) -> None:
    card = load_task(task_id)
    if not card.batch_sha256:
        pytest.skip(f"{task_id} pins no batches yet")
    assert batch_sha256(image_task(task_id)) == card.batch_sha256


@pytest.mark.parametrize("default", [torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("task_id", WITHOUT_FILES)
def test_the_data_do_not_depend_on_torchs_default_dtype(task_id: str, default: torch.dtype) -> None:
    """Which another library, or a module of the user's, may have set."""
    open_source.cache_clear()
    before = torch.get_default_dtype()
    torch.set_default_dtype(default)
    try:
        task = make_task(task_id)
        found = batch_sha256(task)
        further = {name: batch.tensors() for name, batch in task.auxiliary(8, stream("default dtype")).items()}
    finally:
        torch.set_default_dtype(before)
    assert found == load_task(task_id).batch_sha256
    for name, batch in make_task(task_id).auxiliary(8, stream("default dtype")).items():
        assert all(torch.equal(further[name][key], tensor) for key, tensor in batch.tensors().items())
        assert all(further[name][key].dtype == tensor.dtype for key, tensor in batch.tensors().items())


@pytest.mark.parametrize("task_id", TASKS)
def test_equal_streams_give_equal_batches_and_leave_torchs_own_stream_alone(task_id: str) -> None:
    task = image_task(task_id)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one, again = sample(task, 40).tensors(), sample(task, 40).tensors()
    other = task.sample(40, split="train", rng=stream("another")).tensors()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["targets"], other["targets"])


@pytest.mark.parametrize("split", ["train", "eval"])
@pytest.mark.parametrize("task_id", TASKS)
def test_batches_lie_in_the_spaces_that_models_are_built_from(task_id: str, split: Split) -> None:
    task = image_task(task_id)
    batch, info = sample(task, 300, split), task.info
    for i in range(0, 300, 50):
        inputs = batch.inputs
        example = {k: v[i].numpy() for k, v in inputs.items()} if isinstance(inputs, dict) else inputs[i].numpy()
        assert info.observation_space.contains(example)
        assert info.target_space.contains(batch.targets[i].numpy())
    scored = batch.targets[batch.targets != IGNORED]
    assert scored.min() >= 0
    assert scored.max() < info.num_classes
    assert batch.targets.dtype == torch.int64
    assert tuple(batch.steps) == info.steps
    assert all(len(step) == 300 and step.dtype == torch.int64 for step in batch.steps.values())


@pytest.mark.parametrize("task_id", TASKS)
def test_info_repeats_the_card(task_id: str) -> None:
    card, info = load_task(task_id), image_task(task_id).info
    assert (info.id, info.size) == (card.id, card.size)
    assert (info.chance, info.shortcut, info.ceiling) == pytest.approx(tuple(card.levels.model_dump().values()))


# --- tasks/README.md

README = card_folder("tasks") / "README.md"


@pytest.mark.skipif(not README.is_file(), reason="cards are installed without their README")
def test_the_readme_lists_every_card_with_its_levels() -> None:
    table = README.read_text().partition("| chance | shortcut |")[2].partition("\n\n")[0]
    rows = [line.split("|") for line in table.splitlines() if line.startswith("| `")]
    listed = {row[1].strip(" `"): [float(cell) for cell in row[3:6]] for row in rows}
    levels = {task_id: load_task(task_id).levels.model_dump().values() for task_id in TASKS}
    free = {row[1].strip(" `") for row in rows if row[6].strip() == "none"}
    assert free == set(WITHOUT_FILES)
    assert listed == {task_id: [round(level, 5) for level in values] for task_id, values in levels.items()}


@pytest.mark.skipif(not README.is_file(), reason="cards are installed without their README")
def test_the_readmes_example_is_a_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, card = (README.read_text().split(f"```{kind}\n")[1].split("```")[0] for kind in ("python", "toml"))
    (tmp_path / "my_task.py").write_text(code)
    (tmp_path / "pointer-v1.toml").write_text(card)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(trusted_code, "_trusted", set())
    trusted_code.trust("my_task:Pointer")
    task = make_task(tmp_path / "pointer-v1.toml")
    batch = sample(task, 10_000)
    assert isinstance(batch.inputs, torch.Tensor)
    assert task.info.observation_space.contains(batch.inputs[0].numpy())
    assert task.levels() == load_task(tmp_path / "pointer-v1.toml").levels
    ignoring = float((batch.targets == batch.inputs[:, 1]).double().mean())
    assert ignoring == pytest.approx(0.55, abs=4 * (0.55 * 0.45 / 10_000) ** 0.5)


def test_the_generators_that_judge_by_class_are_listed() -> None:
    own = {name for name in BUILTIN if registry.generators.get(name).correct is not TaskGenerator.correct}  # type: ignore[attr-defined]
    assert own == RIGHT_BY_CLASS
