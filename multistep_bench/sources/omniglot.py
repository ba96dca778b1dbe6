"""Omniglot: 1,623 characters of 50 alphabets, each drawn by 20 people (Lake et al. 2015; MIT).

Read from the folder omniglot-py as torchvision lays it out: unpacked folders, or the zip archives where those are
missing or broken. Archives are read in memory, within bounds; no path inside them is ever written to.
"""

import hashlib
import io
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from multistep_bench.errors import DataError
from multistep_bench.registry import register_source
from multistep_bench.sources.files import data_roots, fetch, find_folder, first_whole, verify_md5
from multistep_bench.sources.images import ImageSource, LabelledImages

FOLDER = "omniglot-py"
SMALL = ("images_background_small1", "images_background_small2")
BACKGROUND, EVALUATION = "images_background", "images_evaluation"
TRAIN_ALPHABETS = ("Early_Aramaic", "Greek", "Japanese_(katakana)", "Korean", "Latin", "Sanskrit")
EVAL_ALPHABETS = ("Balinese", "Tagalog")  # no near relatives of the others, as Greek is of Latin
SHA256 = "dbb8ec3d3859c0c120e83f86c0291a764096bfb5de0a2847ce568662493f4fd7"  # of these eight alphabets, see `_digest`
CHARACTERS = {BACKGROUND: 964, EVALUATION: 659}  # in the full sets
DRAWINGS = 20  # of each character
PIXELS = 105  # height and width of a drawing
SIZE = 28  # pixels after downscaling
MAX_MEMBERS = 40_000  # the largest archive has 20,000
MAX_BYTES = 10_000  # of one drawing; they have about 250
MAX_ARCHIVE = 2**24  # bytes; the largest has 9.5 million

Name = tuple[str, str, str]  # alphabet, character, file
Drawings = dict[Name, Image.Image]


@register_source("omniglot")
def omniglot(data_root: Path | None = None, download: bool = True) -> ImageSource:
    """Eight alphabets, 20 drawings a character: six for training (201 characters), Balinese and Tagalog for evaluation
    (41). Both the two small background archives and the full one have them; if none is there, the latter is downloaded.
    """
    found = _find(SMALL, data_root) + _find((BACKGROUND,), data_root)
    return first_whole(found or [_fetch((BACKGROUND,), data_root, download)], _eight_alphabets, name=_listed)


def _eight_alphabets(found: Sequence[Path]) -> ImageSource:
    wanted = TRAIN_ALPHABETS + EVAL_ALPHABETS
    drawings = {name: image for path in found for name, image in _read(path) if name[0] in wanted}
    digest = _digest(drawings)
    if digest != SHA256:
        missing = sorted(set(wanted) - {alphabet for alphabet, _, _ in drawings})
        state = f"lack {', '.join(missing)}" if missing else f"have SHA-256 {digest}, not {SHA256}"
        raise DataError(
            f"the drawings of the alphabets {', '.join(wanted)} in {_listed(found)} {state}; they are"
            " incomplete or other ones, so fetch them again"
        )
    train, held_out = (
        {n: i for n, i in drawings.items() if n[0] in each} for each in (TRAIN_ALPHABETS, EVAL_ALPHABETS)
    )
    return _source("omniglot", train, held_out, found)


@register_source("omniglot_full")
def omniglot_full(data_root: Path | None = None, download: bool = True) -> ImageSource:
    """The 964 characters of the background set for training, the 659 of other alphabets of the evaluation set."""
    names = (BACKGROUND, EVALUATION)
    found = _find(names, data_root)
    return first_whole(found or [_fetch(names, data_root, download)], _all_alphabets, name=_listed)


def _all_alphabets(found: Sequence[Path]) -> ImageSource:
    for path in found:
        _verify_archive(path)
    train, held_out = (dict(_read(path)) for path in found)
    for path, drawings in zip(found, (train, held_out), strict=True):
        expected = CHARACTERS[path.stem] * DRAWINGS
        if len(drawings) != expected:
            raise DataError(f"{path} holds {len(drawings)} drawings where {expected} belong; fetch it again")
    return _source("omniglot_full", train, held_out, found)


def _listed(paths: Sequence[Path]) -> str:
    return ", ".join(map(str, paths))


def _find(names: Sequence[str], data_root: Path | None) -> list[list[Path]]:
    """Every place with all these names: in each data folder the unpacked folders first, then the archives.

    Where only some are unpacked, the others' archives stand in, and the other way round.
    """
    found: list[list[Path]] = []
    for root in data_roots(data_root):
        folders = [root / FOLDER / name for name in names]
        archives = [root / FOLDER / f"{name}.zip" for name in names]
        for preferred, others in ((folders, archives), (archives, folders)):
            place = [path if path.exists() else other for path, other in zip(preferred, others, strict=True)]
            if all(path.exists() for path in place) and place not in found:
                found.append(place)
    return found


def _fetch(names: Sequence[str], data_root: Path | None, download: bool) -> list[Path]:
    archives = [f"{name}.zip" for name in names]
    folder = find_folder("omniglot", FOLDER, archives, data_root, _download(archives) if download else None)
    return [folder / archive for archive in archives]


def _download(archives: Sequence[str]) -> Callable[[Path], None]:
    """Fetches archives from torchvision's address, each checked against torchvision's MD5."""

    def into_folder(into: Path) -> None:
        from torchvision.datasets import Omniglot

        for archive in archives:
            md5 = Omniglot.zips_md5[Path(archive).stem]
            fetch(f"{Omniglot.download_url_prefix}/{archive}", into, name=archive, md5=md5)

    return into_folder


def _verify_archive(path: Path) -> None:
    """Raises `DataError` for an archive other than the published one; an unpacked folder has no checksum."""
    from torchvision.datasets import Omniglot

    if not path.is_dir():
        verify_md5(path, Omniglot.zips_md5[path.stem], MAX_ARCHIVE)


def _read(path: Path) -> Iterator[tuple[Name, Image.Image]]:
    """The drawings in an archive or an unpacked folder, 105×105, ink = 255; raises `DataError` for a broken one."""
    member = re.compile(rf"{path.stem}/([^/]+)/(character\d\d)/(\d\d\d\d_\d\d\.png)")
    for file, content in _folder_files(path) if path.is_dir() else _zip_files(path, member):
        if found := member.fullmatch(file):
            alphabet, character, name = found.groups()
            yield (alphabet, character, name), _drawing(content, f"{file} in {path}")


def _zip_files(path: Path, member: re.Pattern[str]) -> Iterator[tuple[str, bytes]]:
    try:
        if (size := path.stat().st_size) > MAX_ARCHIVE:
            raise DataError(f"{path} has {size} bytes where at most {MAX_ARCHIVE} belong; delete it and fetch it again")
        with zipfile.ZipFile(path) as archive:
            entries = [entry for entry in archive.infolist() if member.fullmatch(entry.filename)]
            if len(entries) > MAX_MEMBERS:
                raise DataError(f"{path} holds {len(entries)} drawings, more than Omniglot has; fetch it again")
            for entry in entries:
                with archive.open(entry) as file:
                    content = file.read(MAX_BYTES)
                yield entry.filename, content
    except (OSError, EOFError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(
            f"{path} cannot be read ({type(error).__name__}: {error}); delete it and fetch it again"
        ) from None


def _folder_files(path: Path) -> Iterator[tuple[str, bytes]]:
    for file in sorted(path.glob("*/*/*.png")):
        with file.open("rb") as stream:
            yield file.relative_to(path.parent).as_posix(), stream.read(MAX_BYTES)


def _drawing(content: bytes, where: str) -> Image.Image:
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            if image.size == (PIXELS, PIXELS):
                return image.convert("L").point(lambda white: 255 - white)
            problem = f"has {image.size[0]}×{image.size[1]} pixels, not {PIXELS}×{PIXELS}"
    except (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError) as error:
        problem = f"is no PNG image ({type(error).__name__}: {error})"
    raise DataError(f"{where} {problem}; fetch the archive again")


def _digest(drawings: Drawings) -> str:
    """SHA-256 of the names and pixels of drawings in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(drawings):
        digest.update("/".join(name).encode() + drawings[name].tobytes())
    return digest.hexdigest()


def _source(name: str, train: Drawings, held_out: Drawings, found: Sequence[Path]) -> ImageSource:
    characters = [sorted({each[:2] for each in drawings}) for drawings in (train, held_out)]
    number = {character: i for i, character in enumerate(characters[0] + characters[1])}

    def split(drawings: Drawings, first: int) -> LabelledImages:
        names = sorted(drawings)
        images = np.stack(
            [np.asarray(drawings[each].resize((SIZE, SIZE), Image.Resampling.BILINEAR)) for each in names]
        )
        labels = torch.tensor([number[each[:2]] for each in names], dtype=torch.int64)
        ids = torch.arange(first, first + len(names), dtype=torch.int64)
        return LabelledImages(torch.from_numpy(images).unsqueeze(1), labels, ids)

    return ImageSource(
        name,
        split(train, 0),
        split(held_out, len(train)),
        white=255,
        classes=tuple("/".join(character) for character in number),
        where=_listed(found),
    )
