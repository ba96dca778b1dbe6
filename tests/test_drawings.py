"""Drawings without repetition, and the eight symmetries of the square."""

import pytest
import torch
from image_data import stream

from multistep_bench.generators.in_context.drawings import SYMMETRIES, apply_symmetry, distinct_drawings
from multistep_bench.generators.tiles.canvas import Pool
from multistep_bench.sources.images import LabelledImages

CLASSES, DRAWINGS = 3, 5


def pool() -> Pool:
    """Fifteen images of one pixel, the value of each being its number; class k has the numbers 5k … 5k + 4."""
    numbers = torch.arange(CLASSES * DRAWINGS)
    images = numbers.to(torch.uint8).view(-1, 1, 1, 1)
    return Pool(LabelledImages(images, numbers // DRAWINGS, numbers), range(CLASSES), tile=1, white=255)


def test_no_drawing_comes_twice_in_an_episode_and_each_is_of_its_class() -> None:
    classes = torch.randint(CLASSES, (5000, 5), generator=stream("classes"))
    rows = distinct_drawings(pool(), classes, DRAWINGS, stream("rows"))
    assert torch.equal(rows // DRAWINGS, classes)
    ordered = rows.sort(1).values
    assert (ordered[:, 1:] > ordered[:, :-1]).all()


def test_every_order_of_drawings_is_equally_likely() -> None:
    n = 60_000
    rows = distinct_drawings(pool(), torch.ones(n, 3, dtype=torch.int64), 3, stream("order")) - DRAWINGS
    shares = torch.bincount(rows @ torch.tensor([9, 3, 1]), minlength=27) / n
    permutations = {
        0 * 9 + 1 * 3 + 2,
        0 * 9 + 2 * 3 + 1,
        1 * 9 + 0 * 3 + 2,
        1 * 9 + 2 * 3 + 0,
        2 * 9 + 0 + 1,
        2 * 9 + 3 + 0,
    }
    assert set(shares.nonzero().flatten().tolist()) == permutations
    assert shares[list(permutations)].tolist() == pytest.approx([1 / 6] * 6, abs=4 * (5 / 36 / n) ** 0.5)


def test_classes_between_do_not_disturb_one_another() -> None:
    n = 40_000
    rows = distinct_drawings(pool(), torch.tensor([0, 1, 0, 1]).expand(n, 4), DRAWINGS, stream("between"))
    for place in range(4):
        shares = torch.bincount(rows[:, place] % DRAWINGS, minlength=DRAWINGS) / n
        assert shares.tolist() == pytest.approx([0.2] * 5, abs=4 * (0.16 / n) ** 0.5)
    equal = float((rows[:, 0] % DRAWINGS == rows[:, 1] % DRAWINGS).double().mean())
    assert equal == pytest.approx(0.2, abs=4 * (0.16 / n) ** 0.5)


def test_the_last_drawings_of_a_class_can_be_kept_out() -> None:
    rows = distinct_drawings(pool(), torch.full((2000, 3), 2), 3, stream("kept"))
    assert set((rows % DRAWINGS).unique().tolist()) == {0, 1, 2}


def test_the_symmetries_are_the_eight_of_the_square() -> None:
    image = torch.arange(9.0).view(1, 3, 3)
    drawn = apply_symmetry(image.expand(SYMMETRIES, 1, 3, 3), torch.arange(SYMMETRIES))
    rotations = [torch.rot90(image, k, (1, 2)) for k in range(4)]
    expected = {tuple(each.flatten().tolist()) for each in rotations + [each.flip(2) for each in rotations]}
    assert {tuple(each.flatten().tolist()) for each in drawn} == expected
    assert torch.equal(drawn[0], image)
