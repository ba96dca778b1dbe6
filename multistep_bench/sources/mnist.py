"""MNIST and Fashion-MNIST: 70,000 grey 28×28 images each, in IDX files as torchvision lays them out."""

import math
from collections.abc import Mapping
from pathlib import Path

import torch

from multistep_bench.errors import DataError
from multistep_bench.registry import register_source
from multistep_bench.sources.files import copies, fetch, find_folder, first_whole, read_bytes, verify_sha256
from multistep_bench.sources.images import ImageSource, LabelledImages

# SHA-256 of the unpacked files
MNIST_FILES = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
FASHION_FILES = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
LIMITS = {1: 8 + 60_000, 3: 16 + 60_000 * 28 * 28}  # bytes of the largest file, by its dimensions
# Fashion-MNIST's authors keep the files there as well; torchvision has an http address only.
FASHION_MIRROR = "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/"
GARMENTS = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")


@register_source("mnist")
def mnist(data_root: Path | None = None, download: bool = True) -> ImageSource:
    """Handwritten digits (LeCun et al. 1998; CC BY-SA 3.0): training files for training, test files for evaluation."""
    return _source("mnist", "MNIST", MNIST_FILES, tuple("0123456789"), data_root, download)


@register_source("fashion_mnist")
def fashion_mnist(data_root: Path | None = None, download: bool = True) -> ImageSource:
    """Garments (Xiao et al. 2017; MIT): training files for training, test files for evaluation."""
    return _source("fashion_mnist", "FashionMNIST", FASHION_FILES, GARMENTS, data_root, download)


def _source(
    name: str,
    dataset: str,
    files: Mapping[str, str],
    classes: tuple[str, ...],
    data_root: Path | None,
    download: bool,
) -> ImageSource:
    fetch = (lambda into: _download(dataset, into)) if download else None
    folder = find_folder(name, f"{dataset}/raw", list(files), data_root, fetch)

    def split(part: str) -> LabelledImages:
        images_file, labels_file = f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte"
        images = read_idx(folder / images_file, dimensions=3, sha256=files[images_file])
        labels = read_idx(folder / labels_file, dimensions=1, sha256=files[labels_file])
        return LabelledImages(images.unsqueeze(1), labels.long(), torch.arange(len(labels), dtype=torch.int64))

    return ImageSource(name, split("train"), split("t10k"), white=255, classes=classes, where=str(folder))


def read_idx(path: Path, *, dimensions: int, sha256: str | None = None) -> torch.Tensor:
    """The uint8 tensor in an IDX file: `dimensions` is 3 for images [N, h, w], 1 for labels [N].

    path:   the raw file; where it is missing or broken, path.gz beside it is read.
    sha256: expected checksum of the unpacked content. Raises `DataError` for a file that is not an IDX file of bytes,
    or has another number of dimensions, another length than its header says, or another checksum.
    """
    return first_whole(copies(path), lambda each: _parse_idx(each, dimensions, sha256))


def _parse_idx(path: Path, dimensions: int, sha256: str | None) -> torch.Tensor:
    content = read_bytes(path, LIMITS[dimensions])
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":
        raise DataError(f"{path} is not an IDX file of bytes (first bytes {content[:4].hex()}); fetch it again")
    if content[3] != dimensions:
        raise DataError(
            f"{path} holds {_kind(content[3])} where {_kind(dimensions)} belong; two files may have swapped names, so"
            " fetch them again"
        )
    header = 4 + 4 * dimensions
    shape = [int.from_bytes(content[at : at + 4], "big") for at in range(4, header, 4)]
    expected = header + math.prod(shape)
    if len(content) != expected:
        state = "truncated" if len(content) < expected else "too long"
        raise DataError(
            f"{path} is {state}: {len(content)} bytes unpacked where its header promises {expected}; fetch it again"
        )
    if sha256 is not None:
        verify_sha256(path, content, sha256)
    return torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=header).view(*shape)


def _kind(dimensions: int) -> str:
    names = {1: "labels (1-D)", 3: "images (3-D)"}
    return names.get(dimensions, f"{dimensions}-D data")


def _download(dataset: str, into: Path) -> None:
    """The four gzipped files from the https mirrors, each checked against torchvision's MD5."""
    from torchvision.datasets import MNIST, FashionMNIST

    published = {"MNIST": MNIST, "FashionMNIST": FashionMNIST}[dataset]
    mirrors = [mirror for mirror in published.mirrors if mirror.startswith("https://")]
    if dataset == "FashionMNIST":
        mirrors.append(FASHION_MIRROR)
    for name, md5 in published.resources:
        for mirror in mirrors:
            try:
                fetch(f"{mirror}{name}", into, name=name, md5=md5)
                break
            except (OSError, RuntimeError):
                if mirror == mirrors[-1]:
                    raise
