"""Text sources: WikiText-2's files, whole documents held out, and what is said about files that are no text."""

import random
import re
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from image_data import DATA

from multistep_bench.errors import DataError, DataMissing
from multistep_bench.sources import text
from multistep_bench.sources.text import PIECE_BYTES, TextPart, open_text, text_file, wikitext2_small

ARTICLE = " \n = {} = \n \n Words of it . \n \n = = Section = = \n \n More words , \n and more . \n \n"


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(part: TextPart) -> str:
    return "".join(part.pieces())


# --- WikiText-2


def test_wikitext_trains_on_60_articles_and_holds_out_62_others() -> None:
    try:
        source = wikitext2_small(DATA, download=False)
    except DataMissing as error:
        pytest.skip(str(error))
    titles = [
        [line for line in read(part).split("\n") if text.HEADING.match(line.encode())]
        for part in (source.train, source.eval)
    ]
    assert [len(each) for each in titles] == [60, 62]
    assert titles[0][0] == " = Homarus gammarus = "
    assert titles[1][0] == " = Robert <unk> = "
    assert source.summary == "1121681 train and 1256449 eval bytes of text"


def test_other_files_under_wikitexts_names_are_refused(tmp_path: Path) -> None:
    (tmp_path / "wikitext-2").mkdir()
    for name in text.WIKITEXT_FILES:
        written(tmp_path / "wikitext-2" / name, "something else")
    with pytest.raises(DataError, match=r"valid\.txt has SHA-256 .* not the published f0737ed3"):
        wikitext2_small(tmp_path, download=False)


def test_without_files_and_network_the_ways_out_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("MULTISTEP_BENCH_DATA", raising=False)
    asked = []

    def download_url(url: str, *args: object, **options: object) -> None:
        asked.append(url)
        raise OSError("no network")

    with (
        mock.patch("torchvision.datasets.utils.download_url", download_url),
        pytest.raises(DataMissing, match=r"wikitext-2 of one of .*no network.*--data-root"),
    ):
        wikitext2_small(tmp_path)
    assert asked == [f"{text.WIKITEXT_URL}/valid.txt"]


# --- any file


@pytest.mark.parametrize(
    ("documents", "held_out"),
    [
        ([ARTICLE.format(name) for name in "ABCDEFGHIJ"], 1),
        ([ARTICLE.format(name) for name in "ABCDEFGHIJKLMNOPQRST"], 2),
        ([ARTICLE.format("A"), ARTICLE.format("B")], 1),
        ([f"Paragraph {i},\non two lines.\n\n" for i in range(10)], 1),
        ([f"Paragraph {i},\r\non two lines.\r\n\r\n" for i in range(10)], 1),
        ([f"line {i}\n" for i in range(10)], 1),
        ([f" \n = One article = \n \n{'words ' * 20}\n \n", "last words \n"], 1),
        (["short\n", "a line of more than nine tenths of the text\n"], 1),
    ],
    ids=["articles", "twenty articles", "two articles", "paragraphs", "CRLF", "lines", "one article", "long last line"],
)
def test_about_a_tenth_is_held_out_in_whole_documents(tmp_path: Path, documents: list[str], held_out: int) -> None:
    source = text_file(written(tmp_path / "mine.txt", "".join(documents)))
    assert read(source.train) + read(source.eval) == "".join(documents)
    assert read(source.eval).strip() == "".join(documents[-held_out:]).strip()


def test_a_path_and_a_name_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path / "mine.txt", "a\nb\n")
    monkeypatch.chdir(tmp_path)
    assert read(open_text("mine.txt").eval) == "b\n"
    with pytest.raises(DataError, match=r"source 'digits' holds no text; give wikitext2_small"):
        open_text("digits")
    with pytest.raises(DataError, match=r"there is no text file at yours\.txt; give the path"):
        open_text("yours.txt")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b" \n \n", "is blank"),
        (b"one line alone", "is a single line"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "is not UTF-8 text: byte 8 is 0x00"),
        ("Grüße\n".encode("utf-16-le"), "is not UTF-8 text: byte 1 is 0x00"),
    ],
    ids=["empty", "blank", "one line", "binary", "UTF-16"],
)
def test_a_file_that_is_no_text_is_refused_in_a_sentence(tmp_path: Path, content: bytes, said: str) -> None:
    with pytest.raises(DataError, match=f"mine.txt {said}"):
        text_file(written(tmp_path / "mine.txt", content))


def test_a_wrongly_encoded_byte_is_named_by_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = "Grüße\n" * 100 + "Gr\xfc\xdfe\n"
    path = written(tmp_path / "mine.txt", b"ab\n" * 99 + content.encode("latin-1")[-6:])
    for piece_bytes in (PIECE_BYTES, 16):
        monkeypatch.setattr(text, "PIECE_BYTES", piece_bytes)
        source = text_file(path)
        with pytest.raises(DataError, match=r"mine\.txt is not UTF-8: byte 299 is 0xfc .*; save it as UTF-8"):
            _ = read(source.train) + read(source.eval)


def test_too_long_a_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "MAX_BYTES", 9)
    with pytest.raises(DataError, match="has 10 bytes, and at most 9 are read"):
        text_file(written(tmp_path / "mine.txt", "abcd\nefgh\n"))


@pytest.mark.parametrize(
    "content", ["äöü€😀" * 20, "ab cd\nefg " * 30, "a" * 50, "€"], ids=["no spaces", "words", "a", "€"]
)
@pytest.mark.parametrize("piece_bytes", [4, 5, 7, 64])
def test_pieces_join_to_the_text_and_are_cut_at_white_space(
    monkeypatch: pytest.MonkeyPatch, content: str, piece_bytes: int
) -> None:
    monkeypatch.setattr(text, "PIECE_BYTES", piece_bytes)
    raw = content.encode()
    pieces = list(TextPart(raw, 0, len(raw), "here").pieces())
    assert "".join(pieces) == content
    assert max(len(piece.encode()) for piece in pieces) <= piece_bytes
    if " " in content and piece_bytes > 4:
        assert all(piece[-1].isspace() for piece in pieces)


def test_a_huge_file_is_read_in_little_memory(tmp_path: Path) -> None:
    path = written(tmp_path / "huge.txt", b"the same line of text again and again\n" * 800_000)
    assert path.stat().st_size > 25 * PIECE_BYTES
    tracemalloc.start()
    source = text_file(path)
    length = sum(len(piece) for part in (source.train, source.eval) for piece in part.pieces())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert length == path.stat().st_size
    assert peak < 5 * PIECE_BYTES


# --- where a text is cut


class Counted:
    """A pattern that counts the matches it hands out."""

    def __init__(self, pattern: re.Pattern[bytes]) -> None:
        self.pattern, self.matches = pattern, 0

    def finditer(self, *where: Any) -> Iterator[re.Match[bytes]]:
        for match in self.pattern.finditer(*where):
            self.matches += 1
            yield match


@pytest.mark.parametrize("window", [1, 3, text.WINDOW])
def test_the_border_is_the_nearest_of_all(monkeypatch: pytest.MonkeyPatch, window: int) -> None:
    monkeypatch.setattr(text, "WINDOW", window)
    draw = random.Random(0)
    for _ in range(2000):
        content = "".join(draw.choices(["\n", " ", "a", " = A = \n", "\n \n"], k=draw.randint(1, 12))).encode()
        low, aim = draw.randint(0, len(content)), draw.randint(0, len(content))
        for border, _ in text.BORDERS:
            ends = [match.end() for match in border.finditer(content, low) if match.end() < len(content)]
            nearest = min(ends, key=lambda at, aim=aim: abs(at - aim), default=None)
            assert text._nearest_border(border, content, low, aim) == nearest


@pytest.mark.parametrize("line", ["\n", "a\n", "a\n\n", " = A = \n"], ids=repr)
def test_a_long_text_of_many_borders_is_not_searched_as_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    counted = [(Counted(border), part) for border, part in text.BORDERS]
    monkeypatch.setattr(text, "BORDERS", counted)
    source = text_file(written(tmp_path / "mine.txt", f"a\n{line * 400_000}b\n"))
    assert len(source.eval) > 0
    assert sum(border.matches for border, _ in counted) <= text.WINDOW
