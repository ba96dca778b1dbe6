"""Looking into a run: what `probe` and `attention` say of a model whose training kept its weights."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import in_process
from PIL import Image
from records import make_run

from multistep_bench.diagnostics.maps import maps_of_run, token_names
from multistep_bench.diagnostics.places import reading_tokens
from multistep_bench.diagnostics.readout import Question, cells_of, probe_items, probe_run
from multistep_bench.errors import BenchError, RunError
from multistep_bench.generators.task import make_task
from multistep_bench.runs.inside import load_maps, load_probes
from multistep_bench.runs.spec import Cell
from multistep_bench.runs.store import Run, read_run
from multistep_bench.scoring.probe_rows import Row, probe_rows
from multistep_bench.training.launch import run as train

TASK = "two_step_digits-v1"
SMALL = {"protocol.budget": 1600, "protocol.learning_rates": [1e-3], "protocol.seeds": 2}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("digits")
    return train(TASK, "vit", "smoke", out, changes=SMALL, workers=1, keep_checkpoints=2)


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Run:
    changes = {**SMALL, "protocol.seeds": 1}
    out = tmp_path_factory.mktemp("words")
    return train("mlm_agreement-v1", "bert", "smoke", out, changes=changes, workers=1, keep_checkpoints=1)


def found(rows: list[Row], **of: object) -> Row:
    (row,) = (row for row in rows if all(getattr(row, name) == value for name, value in of.items()))
    return row


def test_before_training_a_tile_is_read_at_its_token_and_nowhere_before_the_first_attention(run: Run) -> None:
    question = Question(at=["0"], of=["target_a_class"], representations=["residual"], places=["all"], bits=False)
    rows = probe_run(run, question)
    assert {row.place for row in rows} == {"reading", "mean", "indicator_1", "target_a", "target_b", "indicator_2"}
    planted = found(rows, layer=0, place="target_a")
    assert planted.accuracy.estimate > 0.7
    assert (planted.cells, planted.items, planted.uniform) == (2, 1000, 3.0)
    for place in ("reading", "target_b"):
        absent = found(rows, layer=0, place=place).accuracy
        assert absent.estimate == pytest.approx(1 / 8, abs=0.05)
    assert found(rows, layer=1, place="reading").accuracy.estimate > 0.2  # attention has brought it there
    assert not [row for row in rows if row.layer == 3 and row.place != "reading"]  # the last block computes no other


def test_heads_and_projections_are_probed_by_layer_and_by_head(run: Run) -> None:
    question = Question(
        at=["0"], of=["label"], representations=["q", "k", "v", "heads"], places=["reading"], bits=False
    )
    names = {(row.layer, row.representation) for row in probe_run(run, question)}
    assert names == {(layer, name) for layer in (1, 2, 3) for name in ("q", "k", "v", "heads")}
    split = {row.representation for row in probe_run(run, replace(question, by_head=True))}
    assert split == {f"{name} {head}" for name in ("q", "k", "v", "heads") for head in (1, 2)}


def test_steps_are_every_variable_once(run: Run, words: Run) -> None:
    question = Question(at=["final"], items=256, representations=["residual"], bits=False)
    assert list(dict.fromkeys(row.variable for row in probe_run(run, question))) == [
        "same",  # target_location is the same variable
        "answer_other",  # and target_b_class
        "answer_same",
        "indicator_1_class",
        "indicator_2_class",
        "label",
    ]
    assert {row.variable for row in probe_run(words, question)} == {"pointer", "class", "label"}


def test_bits_are_those_of_the_code_and_one_cell_has_wilsons_interval(words: Run) -> None:
    question = Question(at=["final"], of=["pointer"], representations=["residual"], places=["pointer"], items=512)
    row = found(probe_run(words, question), layer=0)
    assert row.accuracy.estimate == 1.0  # the token is the variable
    assert (row.cells, row.accuracy.high) == (1, 1.0)
    assert row.accuracy.low == pytest.approx(256 / (256 + 1.96**2), abs=1e-3)
    assert row.bits is not None
    assert 3 / 64 < row.bits < 1


def test_no_test_item_is_a_training_item() -> None:
    """There are 32 sentences: 2 pointers and twice 4 nouns."""
    task = make_task("mlm_agreement-v1", nouns=2, classes=2, members=2)
    sentences = [list(map(tuple, batch.inputs.tolist())) for batch in probe_items(task, 16)]  # pyright: ignore
    assert len(sentences[0]) == 16
    assert 0 < len(sentences[1]) < 8
    assert not set(sentences[0]) & set(sentences[1])
    with pytest.raises(
        BenchError, match=r"every test item of mlm_agreement-v1 is among 2000 training items; give fewer"
    ):
        probe_items(task, 2000)


def test_cells_are_those_of_the_rate_with_the_most_events(tmp_path: Path) -> None:
    jump, none = [100] * 50 + [950] * 51, [100] * 101
    made = read_run(make_run(tmp_path / "run", {(0, 0): jump, (0, 1): none, (1, 0): jump, (1, 1): jump}))
    assert cells_of(made, None, "before") == [Cell(1, 0), Cell(1, 1)]
    rate = made.spec.protocol.learning_rates[0]
    assert cells_of(made, rate, "before") == [Cell(0, 0)]
    assert cells_of(made, rate, "final") == [Cell(0, 0), Cell(0, 1)]
    with pytest.raises(BenchError, match=r"--lr 7: the run has the learning rates"):
        cells_of(made, 7, "final")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"of": ["smae"]}, "--of smae: two_step_digits-v1 has no such step; it has same, target_location"),
        ({"of": ["indicator_1_place"]}, "--of indicator_1_place: it is the same in every sample"),
        (
            {"places": ["left"]},
            "--place left: there are reading, indicator_1, .*, indicator_2, mean and all; tokens, or one as",
        ),
        ({"representations": ["z"]}, "representation 'z' is none of residual, q, k, v, heads"),
        ({"at": ["before"]}, "no cell of .* at learning rate 0.001 has a Eureka-moment, so nothing is before it"),
        ({"at": ["800"]}, "keeps no weights of rate0-seed0 at 800 samples"),
    ],
)
def test_what_cannot_be_probed_is_named(run: Run, changes: dict[str, list[str]], message: str) -> None:
    with pytest.raises((BenchError, RunError), match=message):
        probe_run(run, replace(Question(at=["final"], items=64, bits=False), **changes))  # pyright: ignore


def test_the_command_prints_one_content_as_table_json_and_csv_and_draws_it(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("probe", str(run.path), "--at", "0,final", "--of", "same", "--items", "256", "--representation", "heads")
    code, text, _ = in_process(capsys, *asked, "--format", "json", "-o", str(tmp_path / "bars.png"))
    rows = json.loads(text)
    assert code == 0
    assert [(row["at"], row["layer"]) for row in rows] == [(at, layer) for at in ("0", "final") for layer in (1, 2, 3)]
    assert Image.open(tmp_path / "bars.png").width > 1000
    _, text, _ = in_process(capsys, *asked, "--format", "csv")
    for line, row in zip(csv.DictReader(text.splitlines()), rows, strict=True):
        assert {name: str(value) for name, value in row.items()} == line
    _, table, _ = in_process(capsys, *asked, "--no-bits")
    assert table.count("(n = 2)") == 2
    for row in rows:
        assert f"{100 * row['accuracy']:.0f} [{100 * row['low']:.0f}–{100 * row['high']:.0f}]" in table
    assert in_process(capsys, *asked, "--format", "yaml")[0] == 2


def test_maps_are_drawn_for_images_and_words(
    run: Run, words: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, tokens = str(tmp_path / "images.png"), str(tmp_path / "words.svg")
    drawn = in_process(capsys, "attention", str(run.path), "--at", "0,final", "-n", "2", "-o", images)
    assert drawn[:2] == (0, f"{images}\n")
    picture = np.asarray(Image.open(images).convert("RGB")).astype(int)
    assert (np.ptp(picture, axis=-1) > 100).any()  # heat has colour, the images of this task have little
    assert in_process(capsys, "attention", str(words.path), "--at", "final", "--layer", "2", "-o", tokens)[0] == 0
    assert Path(tokens).stat().st_size > 10_000
    code, _, error = in_process(capsys, "attention", str(run.path), "--at", "final", "--layer", "4", "-o", images)
    assert (code, error) == (2, "error: --layer 4: the model has 3, counted from 1\n")
    code, _, error = in_process(capsys, "attention", str(run.path), "--at", "final", "--seed", "9", "-o", images)
    assert (code, error) == (2, "error: --seed 9: it has not all of final; there are [0, 1]\n")


def test_what_was_found_is_kept_in_the_run_and_tokens_have_names(
    run: Run, words: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("probe", str(run.path), "--at", "final", "--of", "same", "--items", "128", "--no-bits", "--lr", "all")
    _, text, _ = in_process(capsys, *asked, "--format", "json")
    assert load_probes(run.path) == json.loads(text)
    assert [row.to_dict() for row in probe_rows(run)] == json.loads(text)
    assert (
        in_process(capsys, "attention", str(run.path), "--at", "0,final", "-n", "3", "-o", str(tmp_path / "a.png"))[0]
        == 0
    )
    kept = load_maps(run.path)
    assert kept is not None
    assert kept.title == "learning rate 0.001, seed 0"
    assert (kept.moments, kept.heads[0], kept.heads[-1]) == (("0", "final"), "layer 1 head 1", "layer 3 head 2")
    assert kept.weights["0"].sum(-1) == pytest.approx(np.ones((3, 6)), abs=1e-5)
    maps, batch, task, _ = maps_of_run(run, ["0", "final"], 3)
    for row, (layer, head) in enumerate((layer, head) for layer in range(3) for head in range(2)):
        assert kept.weights["final"][:, row] == pytest.approx(maps["final"][layer][:, head, 0].numpy())
    assert isinstance(batch.inputs, torch.Tensor)
    assert kept.images[1] == pytest.approx(255 * batch.inputs[1].clamp(0, 1).permute(1, 2, 0).numpy(), abs=0.5)
    assert in_process(capsys, "attention", str(words.path), "--at", "final", "-o", str(tmp_path / "b.png"))[0] == 0
    sentences = load_maps(words.path)
    assert sentences is not None
    (final, batch, task, _) = maps_of_run(words, ["final"], 4)
    verb = int(reading_tokens(task.info, batch, 10)[2])
    assert sentences.weights["final"][2, 1] == pytest.approx(final["final"][0][2, 1, verb].numpy())
    assert sentences.tokens[2].tolist() == [task.token_name(token) for token in batch.inputs[2].tolist()]  # pyright: ignore


def test_items_that_match_the_query_are_marked_in_an_episode() -> None:
    task = make_task("icl_gaussian-v1")
    batch = task.sample(5, split="eval", rng=torch.Generator().manual_seed(0))
    for sample in range(5):
        names = token_names(batch, sample, task, 17)
        match = int(batch.steps["match"][sample])
        assert [name for name in names if name.endswith("*")] == [f"x{match + 1}*", f"y{match + 1}*"]
        assert names[::2][-1] == "x9"
