"""Models of other libraries are looked into: their blocks have a residual stream, their projections known names."""
# pyright: reportMissingImports=false

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gpt2_pair import gpts
from torch import nn

from multistep_bench import load_diagnostics, make_model, make_task
from multistep_bench.diagnostics.activations import capture
from multistep_bench.diagnostics.capture import captured
from multistep_bench.diagnostics.gradients import differentiated
from multistep_bench.diagnostics.layers import find_blocks, find_projections, is_transposed
from multistep_bench.diagnostics.options import parse_diagnostics
from multistep_bench.diagnostics.places import has_reading_token, region_tokens, single_tokens
from multistep_bench.diagnostics.readout import Question, probe_run
from multistep_bench.diagnostics.recorder import Recorder
from multistep_bench.diagnostics.split import split_by_parameter
from multistep_bench.errors import BenchError, ModelError
from multistep_bench.runs.spec import Cell
from multistep_bench.training.launch import run as train

CPU = torch.device("cpu")
LOOKUP, DIGITS = "lookup-v1", "two_step_digits-v1"
needs_transformers = pytest.mark.skipif(importlib.util.find_spec("transformers") is None, reason="needs the extra hf")
SMALL = {"protocol.budget": 400, "protocol.batch_size": 4, "protocol.learning_rates": [1e-3], "protocol.seeds": 1}
LOOKING: dict[str, Any] = {"workers": 1, "keep_checkpoints": 1, "diagnostics": "gradients"}


@needs_transformers
def test_gpt2_of_transformers_has_the_figures_and_residual_stream_of_our_own_with_its_weights() -> None:
    """Its weights of q, k and v are columns of one matrix [inputs, 3·outputs], ours rows of [3·outputs, inputs]."""
    task = make_task(LOOKUP)
    theirs, ours = gpts()
    recorder = Recorder(parse_diagnostics("gradients"), task, CPU)
    found, wanted = recorder.record(theirs), recorder.record(ours)
    assert len(find_projections(theirs)) == len(find_projections(ours)) == 3
    for name, values in wanted.items():
        if values.dtype.kind == "f":
            assert np.isfinite(values).all()
            np.testing.assert_allclose(found[name], values, rtol=1e-6, atol=1e-10, err_msg=name)
    layers = find_projections(theirs)
    with captured(theirs, layers) as seen:
        answer = theirs(recorder.batch.inputs)
    whole, by_call = differentiated(answer.square().sum(), theirs, layers, [call.leaving for call in seen.projections])
    parts = split_by_parameter(seen.projections, by_call, {12: torch.arange(12) < torch.tensor([[5]])})
    for name, gradient in whole.items():
        torch.testing.assert_close(parts[name].sum(0), gradient, rtol=1e-9, atol=1e-9)
    batch = task.sample(3, split="eval", rng=torch.Generator().manual_seed(0))
    streams = capture(theirs, batch).residual, capture(ours, batch).residual
    for mine, yours in zip(*streams, strict=True):
        torch.testing.assert_close(mine[:, -yours.shape[1] :], yours, rtol=1e-9, atol=1e-9)


@needs_transformers
@pytest.mark.parametrize(("name", "layers"), [("bert", 3), ("llama", 3), ("gpt2", 3), ("mamba", 0)])
def test_language_models_have_a_residual_stream_and_those_with_attention_projections(name: str, layers: int) -> None:
    task = make_task("mlm_agreement-v1" if name == "bert" else LOOKUP)
    model = make_model(f"hf/{name}", task.info, num_hidden_layers=3)
    assert len(find_projections(model)) == layers
    assert len(find_blocks(model)) == 3
    found = capture(model, task.sample(2, split="eval", rng=torch.Generator().manual_seed(0)))
    tokens = task.info.observation_space.shape
    assert tokens is not None
    assert {each.shape[:2] for each in found.residual} == {(2, tokens[0])}
    assert len(found.residual) == 4
    recorder = Recorder(parse_diagnostics("gradients"), task, CPU)
    if layers:
        assert np.isfinite(recorder.record(model)["gradients.l2_by_region"]).all()
    else:
        with pytest.raises(ModelError, match="no projections W_Q, W_K and W_V were found"):
            recorder.record(model)


@needs_transformers
def test_a_run_of_gpt2_is_diagnosed_and_probed(tmp_path: Path) -> None:
    done = train(
        LOOKUP, "hf/gpt2", "smoke", tmp_path, changes=SMALL, workers=1, keep_checkpoints=1, diagnostics="gradients"
    )
    assert load_diagnostics(done)[Cell(0, 0)]["gradients.l2"].shape[1:] == (3, 3)
    rows = probe_run(done, Question(at=["final"], of=["label"], representations=["residual"], items=128, bits=False))
    assert [row.layer for row in rows] == [0, 1, 2, 3]
    with pytest.raises(BenchError, match="--representation heads: the model calls no attention rule of the suite"):
        probe_run(done, Question(at=["final"], of=["label"], items=128, bits=False))


def test_a_layer_is_transposed_only_where_it_is_that_of_transformers() -> None:
    class Conv1D(nn.Module):
        pass

    assert not is_transposed(Conv1D())
    assert not is_transposed(nn.Linear(2, 2))


def test_a_vit_of_timm_is_diagnosed_and_probed(tmp_path: Path) -> None:
    """Patches of 8 pixels: a tile each."""
    changes: dict[str, Any] = SMALL | {"model.depth": 2, "model.patch_size": 8, "model.embed_dim": 24}
    model = "timm/vit_tiny_patch16_224"
    done = train(
        DIGITS, model, "smoke", tmp_path, changes=changes, workers=1, keep_checkpoints=1, diagnostics="gradients"
    )
    arrays = load_diagnostics(done)[Cell(0, 0)]
    assert np.isfinite(arrays["gradients.l2_by_region"]).all()
    assert arrays["gradients.regions"].shape[1:] == (2, 4)
    question = Question(at=["final"], of=["target_a_class"], representations=["residual"], items=512, bits=False)
    rows = probe_run(done, Question(**{**vars(question), "places": ["all"]}))
    assert {row.place for row in rows} == {"reading", "mean", "indicator_1", "target_a", "target_b", "indicator_2"}
    (planted,) = [row for row in rows if row.place == "target_a" and row.layer == 0]
    assert planted.accuracy.estimate > 0.6
    alone = [row for row in probe_run(done, Question(**{**vars(question), "places": ["tokens"]})) if row.layer == 0]
    assert [row.place for row in alone] == ["indicator_1 1", "target_a 1", "target_b 1", "indicator_2 1"]
    (same,) = [row for row in alone if row.place == "target_a 1"]
    assert same.accuracy == planted.accuracy


def test_single_tokens_are_numbered_within_their_region() -> None:
    regions = {"pairs": torch.tensor([False, True, True]), "query": torch.tensor([True, False, False])}
    found = {name: place.int().tolist() for name, place in single_tokens(regions).items()}
    assert found == {"pairs 1": [0, 1, 0], "pairs 2": [0, 0, 1], "query 1": [1, 0, 0]}


def test_an_image_without_a_class_token_has_no_token_that_is_read() -> None:
    """16 by 16 pixels: 4 patches of 8, or 16 of 4, with or without a class token."""
    info = make_task(DIGITS).info
    assert [has_reading_token(info, tokens) for tokens in (5, 17, 2, 4, 16, 6)] == [
        True,
        True,
        True,
        False,
        False,
        True,
    ]
    assert has_reading_token(make_task(LOOKUP).info, 4)
    without, after = region_tokens(info, 4), region_tokens(info, 5)
    assert without["target_a"].int().tolist() == [0, 1, 0, 0]
    assert after["target_a"].int().tolist() == [0, 0, 1, 0, 0]
    assert region_tokens(info, 6) == {}
