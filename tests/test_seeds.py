"""Streams depend on their names alone."""

import pytest
import torch

from multistep_bench import seeds


def test_a_seed_is_the_hash_of_its_name() -> None:
    # the first 8 bytes of sha256('["cell", "t-v1", 0, 3, "train"]'), shifted into 63 bits, computed with sha256sum
    assert seeds.cell_seed("t-v1", 0, 3, "train") == 4243874009476455666


def test_every_part_of_the_name_matters() -> None:
    names = [("a-v1", 0, 0), ("b-v1", 0, 0), ("a-v1", 1, 0), ("a-v1", 0, 1)]
    found = {seeds.cell_seed(*name, stream) for name in names for stream in seeds.STREAMS}
    assert len(found) == len(names) * len(seeds.STREAMS)


def test_an_unknown_stream_is_refused() -> None:
    with pytest.raises(ValueError, match="stream 'trian'"):
        seeds.cell_seed("a-v1", 0, 0, "trian")


def test_a_generator_starts_at_its_seed_and_leaves_the_global_one_alone() -> None:
    before = torch.get_rng_state()
    first, second = (torch.rand(3, generator=seeds.generator(5)) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(before, torch.get_rng_state())
