"""What the suite's own benchmark compares."""

import pytest
import torch

from multistep_bench.bench import PerSampleTwoStep, bench_data
from multistep_bench.generators.task import make_task


def test_the_reference_loader_makes_samples_of_the_same_kind() -> None:
    """Equal averages over many images: the reference does the same work, only one sample at a time."""
    loader = PerSampleTwoStep()
    images, targets = zip(*(loader[i] for i in range(3000)), strict=True)
    reference = torch.stack(images)
    batch = make_task("two_step_glyphs-v1").sample(3000, split="train", rng=torch.Generator().manual_seed(0))
    assert isinstance(batch.inputs, torch.Tensor)
    assert reference.shape == batch.inputs.shape
    assert reference.dtype == batch.inputs.dtype
    torch.testing.assert_close(reference.mean(0), batch.inputs.mean(0), atol=0.06, rtol=0)
    assert set(targets) == set(range(10))


def test_bench_data_reports_both_speeds_and_their_ratio_and_restores_the_threads() -> None:
    before = torch.get_num_threads()
    found = bench_data(seconds=0.05)
    assert torch.get_num_threads() == before
    assert found["ratio"] == pytest.approx(found["samples_per_second"] / found["reference_samples_per_second"])
    assert found["reference_samples_per_second"] > 0
