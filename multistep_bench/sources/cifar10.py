"""CIFAR-10 in its binary version: the Python version is pickled, and nothing here unpickles."""

import tarfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from multistep_bench.errors import DataError
from multistep_bench.registry import register_source
from multistep_bench.sources.files import (
    copies,
    data_roots,
    fetch,
    find_folder,
    first_whole,
    holds_all,
    read_bytes,
    verify_md5,
)
from multistep_bench.sources.images import ImageSource, LabelledImages

FOLDER = "cifar-10-batches-bin"
ARCHIVE = "cifar-10-binary.tar.gz"
# No checksums of the single files are published. What is: how often each class comes up in each of them, and the mean
# of the red, green and blue pixels of the training and of the test set.
LABEL_COUNTS = {
    "data_batch_1.bin": (1005, 974, 1032, 1016, 999, 937, 1030, 1001, 1025, 981),
    "data_batch_2.bin": (984, 1007, 1010, 995, 1010, 988, 1008, 1026, 987, 985),
    "data_batch_3.bin": (994, 1042, 965, 997, 990, 1029, 978, 1015, 961, 1029),
    "data_batch_4.bin": (1003, 963, 1041, 976, 1004, 1021, 1004, 981, 1024, 983),
    "data_batch_5.bin": (1014, 1014, 952, 1016, 997, 1025, 980, 977, 1003, 1022),
    "test_batch.bin": (1000,) * 10,
}
TRAIN_FILES = tuple(LABEL_COUNTS)[:5]
TEST_FILES = tuple(LABEL_COUNTS)[5:]
TRAIN_MEANS = (0.49139968, 0.48215841, 0.44653091)
TEST_MEANS = (0.49421428, 0.48513139, 0.45040909)
MEAN_TOLERANCE = 1e-5  # blackening three of the training images changes a mean by more
RECORDS = 10_000  # images in a file
PIXELS = 32 * 32
RECORD = 1 + 3 * PIXELS  # bytes: a label, then 1,024 red, green and blue pixels each
URL = f"https://www.cs.toronto.edu/~kriz/{ARCHIVE}"
MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
ARCHIVE_LIMIT = 2**28  # bytes; it has 170 million
MAX_MEMBERS = 20  # of the archive, which has nine
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

Contents = Callable[[str], torch.Tensor]  # the name of a file → its records [RECORDS, RECORD] uint8


@register_source("cifar10")
def cifar10(data_root: Path | None = None, download: bool = True) -> ImageSource:
    """60,000 colour images of 32×32 (Krizhevsky 2009): five files for training, the test file for evaluation.

    Read from the folder of unpacked files or, where that is missing or broken, from the archive beside it.
    """
    places = [root / name for root in data_roots(data_root) for name in (FOLDER, ARCHIVE)]
    if not any(holds_all(place, LABEL_COUNTS) or place.is_file() for place in places):
        places = [find_folder("cifar10", FOLDER, list(LABEL_COUNTS), data_root, _download if download else None)]
    return first_whole([place for place in places if place.exists()], _read)


def _read(path: Path) -> ImageSource:
    """The source from a folder or an archive; raises `DataError` unless everything published about it holds."""
    unpacked = _archive_files(path) if path.is_file() else None

    def records(name: str) -> torch.Tensor:
        if unpacked is not None:
            return parse_records(unpacked[name], f"{name} in {path}", LABEL_COUNTS[name])
        return first_whole(copies(path / name), lambda each: read_cifar(each, LABEL_COUNTS[name]))

    return ImageSource(
        "cifar10",
        _split(records, TRAIN_FILES, TRAIN_MEANS, path),
        _split(records, TEST_FILES, TEST_MEANS, path),
        white=255,
        classes=CLASSES,
        where=str(path),
    )


def read_cifar(path: Path, label_counts: Sequence[int]) -> torch.Tensor:
    """The records [RECORDS, 3073] uint8 of one file of the binary version, raw or gzipped."""
    return parse_records(read_bytes(path, RECORDS * RECORD), str(path), label_counts)


def parse_records(content: bytes, where: str, label_counts: Sequence[int]) -> torch.Tensor:
    """The records [RECORDS, 3073] uint8 in a file's content.

    Raises `DataError` for another length, a label above 9, or other numbers of images of each class than published.
    """
    if len(content) != RECORDS * RECORD:
        raise DataError(
            f"{where} holds {len(content)} bytes where {RECORDS} records of {RECORD} bytes belong; fetch it again"
        )
    records = torch.frombuffer(bytearray(content), dtype=torch.uint8).view(RECORDS, RECORD)
    labels = records[:, 0].long()
    if labels.max() >= len(CLASSES):
        raise DataError(f"{where} holds label {int(labels.max())}, and CIFAR-10's are 0..9; fetch it again")
    counts = labels.bincount(minlength=len(CLASSES)).tolist()
    if counts != list(label_counts):
        raise DataError(
            f"{where} holds {counts} images of the ten classes where {list(label_counts)} are published; it is another"
            " file or a damaged one, so fetch it again"
        )
    return records


def _split(records: Contents, names: Sequence[str], means: Sequence[float], path: Path) -> LabelledImages:
    every = torch.cat([records(name) for name in names])
    images = every[:, 1:].reshape(-1, 3, 32, 32)
    for i, (colour, expected) in enumerate(zip(("red", "green", "blue"), means, strict=True)):
        mean = int(images[:, i].sum(dtype=torch.int64)) / (255 * PIXELS * len(images))
        if abs(mean - expected) > MEAN_TOLERANCE:
            raise DataError(
                f"the {colour} pixels of {', '.join(names)} in {path} have mean {mean:.6f} where {expected:.6f} is"
                " published; a file is damaged, so fetch them again"
            )
    return LabelledImages(images, every[:, 0].long(), torch.arange(len(images), dtype=torch.int64))


def _archive_files(path: Path) -> dict[str, bytes]:
    """The six files in the archive, in memory: nothing is written, and no more is unpacked than belongs there."""
    verify_md5(path, MD5, ARCHIVE_LIMIT)
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(path, "r:gz") as archive:
            for number, member in enumerate(archive):
                if member.size > RECORDS * RECORD or number >= MAX_MEMBERS:
                    raise DataError(f"{path} holds more than CIFAR-10; delete it and fetch it again")
                name = member.name.removeprefix(f"{FOLDER}/")
                if name in LABEL_COUNTS and (file := archive.extractfile(member)):
                    found[name] = file.read()
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise DataError(
            f"{path} cannot be read ({type(error).__name__}: {error}); delete it and fetch it again"
        ) from None
    if missing := sorted(LABEL_COUNTS.keys() - found.keys()):
        raise DataError(f"{path} lacks {', '.join(missing)}; delete it and fetch it again")
    return found


def _download(into: Path) -> None:
    """Fetches the archive and unpacks the six files."""
    fetch(URL, into, name=ARCHIVE, md5=MD5)
    for name, content in _archive_files(into / ARCHIVE).items():
        (into / name).write_bytes(content)
