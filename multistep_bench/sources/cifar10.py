"""CIFAR-10 in its binary version: the Python version is pickled, and nothing here unpickles."""

from collections.abc import Sequence
from pathlib import Path

import torch

from multistep_bench.errors import DataError
from multistep_bench.registry import register_source
from multistep_bench.sources.files import find_folder, read_bytes
from multistep_bench.sources.images import ImageSource, LabelledImages

FOLDER = "cifar-10-batches-bin"
TRAIN_FILES = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
TEST_FILES = ("test_batch.bin",)
RECORDS = 10_000  # images in a file
PIXELS = 32 * 32
URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@register_source("cifar10")
def cifar10(data_root: Path | None = None, download: bool = True) -> ImageSource:
    """60,000 colour images of 32×32 (Krizhevsky 2009): five files for training, the test file for evaluation."""
    folder = find_folder("cifar10", FOLDER, (*TRAIN_FILES, *TEST_FILES), data_root, _download if download else None)
    train, held_out = _split(folder, TRAIN_FILES), _split(folder, TEST_FILES)
    return ImageSource("cifar10", train, held_out, white=255, classes=CLASSES, where=str(folder))


def read_cifar(path: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Images [RECORDS, 3, 32, 32] uint8 and labels [RECORDS] int64 of one file of the binary version.

    A record is a label byte, then 1,024 red, green and blue bytes each. Raises `DataError` for a file of another
    length or with a label above 9.
    """
    content = read_bytes(path)
    record = 1 + 3 * PIXELS
    if len(content) != RECORDS * record:
        raise DataError(
            f"{path} holds {len(content)} bytes where {RECORDS} records of {record} bytes belong; fetch it again"
        )
    records = torch.frombuffer(bytearray(content), dtype=torch.uint8).view(RECORDS, record)
    labels = records[:, 0].long()
    if labels.max() >= len(CLASSES):
        raise DataError(f"{path} holds label {int(labels.max())}, and CIFAR-10's are 0..9; fetch it again")
    return records[:, 1:].reshape(RECORDS, 3, 32, 32), labels


def _split(folder: Path, names: Sequence[str]) -> LabelledImages:
    images, labels = zip(*(read_cifar(folder / name) for name in names), strict=True)
    return LabelledImages(torch.cat(images), torch.cat(labels), torch.arange(RECORDS * len(names)))


def _download(into: Path) -> None:
    from torchvision.datasets.utils import download_and_extract_archive

    download_and_extract_archive(URL, str(into), md5=MD5, remove_finished=True)
