"""Text in two disjoint parts: WikiText-2's small splits, or any UTF-8 file with whole documents held out."""

import mmap
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from multistep_bench.errors import DataError
from multistep_bench.registry import register_source, sources
from multistep_bench.sources.files import copies, fetch, find_folder, first_whole, read_bytes, verify_sha256

WIKITEXT_URL = "https://raw.githubusercontent.com/pytorch/examples/main/word_language_model/data/wikitext-2"
WIKITEXT_FILES = {  # SHA-256 and MD5
    "valid.txt": (
        "f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8",
        "d756d22ab2310e7e60c094bea5c5a8eb",
    ),
    "test.txt": (
        "d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0",
        "781c9418ab9414bd09e4aad825aae752",
    ),
}
WIKITEXT_BYTES = 1_256_449  # of the longer file
MAX_BYTES = 2**30  # of a text file: its tokens take twice as many bytes of memory at most
PIECE_BYTES = 2**20  # of text decoded at a time
WINDOW = 2**16  # bytes before the wanted border that are searched first
HELD_OUT = 0.1  # of a file's bytes, up to the nearest border of a document
HEADING = re.compile(rb"^(?= ?= [^=\n][^\n]* = ?\r?$)", re.MULTILINE)  # of a WikiText article, " = Title = "
# Where a document may begin, and a string that each such place contains: the first kind that a file has decides.
BORDERS = (
    (HEADING, b" = "),
    (re.compile(rb"\n[ \t\r]*\n(?=\S)"), b"\n"),  # blank lines
    (re.compile(rb"\n"), b"\n"),
)


@dataclass(frozen=True)
class TextPart:
    """The bytes [begin, end) of a UTF-8 text, which may be a file mapped into memory; `where` names it in errors."""

    content: bytes | mmap.mmap
    begin: int
    end: int
    where: str

    def __len__(self) -> int:
        """Bytes."""
        return self.end - self.begin

    def pieces(self) -> Iterator[str]:
        """The text in pieces of at most `PIECE_BYTES`, cut after a line or else a word where there is one.

        Raises `DataError` where a byte is not UTF-8.
        """
        first = self.begin
        while first < self.end:
            last = self._cut(first)
            try:
                yield self.content[first:last].decode("utf-8")
            except UnicodeDecodeError as error:
                raise DataError(
                    f"{self.where} is not UTF-8: byte {first + error.start} is {self.content[first + error.start]:#04x}"
                    f" ({error.reason}); save it as UTF-8"
                ) from None
            first = last

    def _cut(self, first: int) -> int:
        last = min(first + PIECE_BYTES, self.end)
        if last == self.end:
            return last
        for border in (b"\n", b" "):
            if (at := self.content.rfind(border, first, last)) >= 0:
                return at + 1
        for cut in range(last, last - 4, -1):  # a character has at most four bytes
            if self.content[cut] & 0xC0 != 0x80:  # not inside a character
                return cut
        return last


@dataclass(frozen=True)
class TextSource:
    """Two parts of text that share no document; `where` is the folder or file they were read from."""

    name: str
    train: TextPart
    eval: TextPart
    where: str

    @property
    def summary(self) -> str:
        return f"{len(self.train)} train and {len(self.eval)} eval bytes of text"


@register_source("wikitext2_small")
def wikitext2_small(data_root: Path | None = None, download: bool = True) -> TextSource:
    """WikiText-2 (Merity et al. 2017; CC BY-SA): 60 articles of its validation split to train on, 62 of its test split.

    Its training split, ten times as long, is not used.
    """
    names = list(WIKITEXT_FILES)
    folder = find_folder("wikitext2_small", "wikitext-2", names, data_root, _download if download else None)

    def part(name: str) -> TextPart:
        return first_whole(copies(folder / name), lambda path: _wikitext_part(path, WIKITEXT_FILES[name][0]))

    return TextSource("wikitext2_small", part("valid.txt"), part("test.txt"), where=str(folder))


def _wikitext_part(path: Path, sha256: str) -> TextPart:
    content = read_bytes(path, WIKITEXT_BYTES)
    verify_sha256(path, content, sha256)
    return TextPart(content, 0, len(content), str(path))


def open_text(text: str, data_root: Path | None = None) -> TextSource:
    """The text source of that name, or the text file at that path.

    Raises `DataError` for a source of images, and for a file that is not UTF-8 text or cannot be split in two.
    """
    if text not in sources.names():
        return text_file(Path(text).expanduser())
    source = sources.get(text)(data_root)
    if not isinstance(source, TextSource):
        raise DataError(f"source '{text}' holds no text; give wikitext2_small, or the path of a UTF-8 text file")
    return source


def text_file(path: Path) -> TextSource:
    """A file of at most `MAX_BYTES` bytes of UTF-8, mapped into memory: about its last tenth is held out.

    The cut is the border of documents that is nearest to nine tenths of the bytes. Documents are WikiText articles if
    the file has at least two, otherwise blocks between blank lines, otherwise lines. Raises `DataError`.
    """
    content = _mapped(path)
    if (at := content.find(b"\0")) >= 0:
        raise DataError(f"{path} is not UTF-8 text: byte {at} is 0x00; give a text file, saved as UTF-8")
    first = re.search(rb"\S", content)
    if first is None:
        raise DataError(f"{path} is blank; give a file with text in it")
    aim = round((1 - HELD_OUT) * len(content))
    for border, part in BORDERS:
        nearest = _nearest_border(border, content, first.end(), aim) if content.find(part) >= 0 else None
        if nearest is not None:
            train, held_out = (
                TextPart(content, 0, nearest, str(path)),
                TextPart(content, nearest, len(content), str(path)),
            )
            return TextSource(path.name, train, held_out, where=str(path))
    raise DataError(f"{path} is a single line, of which no document can be held out; break it into lines")


def _nearest_border(border: re.Pattern[bytes], content: bytes | mmap.mmap, low: int, aim: int) -> int | None:
    """Where the match nearest to `aim` ends, the earlier one of two; none before `low` or at the end of the text.

    Starts near `aim`, so that a long text of many borders is not searched as a whole.
    """
    window = WINDOW
    while True:
        begin = max(low, aim - window)
        before = after = None
        for match in border.finditer(content, begin):
            at = match.end()
            if at >= len(content):
                break
            if at > aim:
                after = at
                break
            before = at
        if before is not None or begin == low:
            return min((at for at in (before, after) if at is not None), key=lambda at: abs(at - aim), default=None)
        window *= 64  # few rounds: each that finds nothing before `aim` may have searched all that follows


def _mapped(path: Path) -> mmap.mmap:
    if not path.is_file():
        raise DataError(
            f"there is no text file at {path}; give the path of one, or a text source such as wikitext2_small"
        )
    size = path.stat().st_size
    if size == 0:
        raise DataError(f"{path} is empty; give a file with text in it")
    if size > MAX_BYTES:
        raise DataError(f"{path} has {size} bytes, and at most {MAX_BYTES} are read; give a part of it")
    try:
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error}); give a file that can be") from None


def _download(into: Path) -> None:
    for name, (_, md5) in WIKITEXT_FILES.items():
        fetch(f"{WIKITEXT_URL}/{name}", into, name=name, md5=md5)
