"""The sizes of figures on paper: which can be, and where they end."""

import pytest

from multistep_bench.errors import BenchError, NotFound
from multistep_bench.reporting.paper import Paper, on_paper, paper


@pytest.mark.parametrize(
    ("width", "inches"),
    [(None, None), ("single", 3.25), ("double", 6.75), (2.0, 2.0), (2, 2.0), (40.0, 40.0), ("5.5", 5.5)],
)
def test_a_width_is_a_name_or_inches(width: str | float | None, inches: float | None) -> None:
    with on_paper(width):
        assert paper() == Paper(inches, 8.0)


@pytest.mark.parametrize("size", [4.0, 11, 24.0])
def test_letters_are_as_asked(size: float) -> None:
    with on_paper(font_size=size):
        assert paper() == Paper(None, size)


def broken_off() -> None:
    with on_paper("single", 7):
        with on_paper("double"):
            assert paper() == Paper(6.75, 8.0)
        assert paper() == Paper(3.25, 7)
        raise ZeroDivisionError


def test_sizes_end_with_the_block_and_an_inner_block_asks_for_its_own() -> None:
    with pytest.raises(ZeroDivisionError):
        broken_off()
    assert paper() == Paper(None, 8.0)


@pytest.mark.parametrize(
    ("width", "font_size", "sentence"),
    [
        (1.99, None, r"--width 1\.99: give inches from 2 to 40, or single or double"),
        ("40.1", None, r"--width 40\.1: give inches from 2 to 40"),
        (float("nan"), None, "--width nan: give inches"),
        (None, 3.9, r"--font-size 3\.9: give points from 4 to 24"),
        (None, 24.5, r"--font-size 24\.5: give points from 4 to 24"),
        (None, 0, "--font-size 0: give points"),
    ],
)
def test_sizes_that_no_figure_can_have_are_refused(
    width: str | float | None, font_size: float | None, sentence: str
) -> None:
    with pytest.raises(BenchError, match=sentence), on_paper(width, font_size):
        pass
    assert paper() == Paper(None, 8.0)


def test_an_unknown_width_is_answered_with_the_closest() -> None:
    with pytest.raises(NotFound, match=r"no width 'singel'. Did you mean 'single'\?"), on_paper("singel"):
        pass
