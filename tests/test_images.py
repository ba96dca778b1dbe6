"""Sources: what they hold, where they are looked for, and what is said of a broken file."""

import gzip
import struct
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from image_data import DATA

from multistep_bench.errors import DataError, DataMissing
from multistep_bench.generators.task import make_task
from multistep_bench.sources import images as images_module
from multistep_bench.sources import mnist as mnist_module
from multistep_bench.sources.check import check_data
from multistep_bench.sources.files import data_roots
from multistep_bench.sources.images import open_source
from multistep_bench.sources.mnist import read_idx

needs_mnist = pytest.mark.skipif(
    not (DATA / "MNIST/raw").is_dir() or not (DATA / "FashionMNIST/raw").is_dir(),
    reason="no MNIST and FashionMNIST in $MULTISTEP_BENCH_DATA",
)


def idx(array: np.ndarray) -> bytes:
    """The bytes of an IDX file of this uint8 array."""
    return struct.pack(f">I{array.ndim}I", 0x0800 + array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


IMAGES = np.arange(5 * 28 * 28).reshape(5, 28, 28) % 251
LABELS = np.array([3, 1, 4, 1, 5])


# --- digits


def test_digits_are_scikit_learns_split_by_class_without_overlap() -> None:
    source = open_source("digits")
    everything = torch.cat((source.train.ids, source.eval.ids))
    assert sorted(everything.tolist()) == list(range(1797))
    assert source.train.images.shape[1:] == (1, 8, 8)
    assert source.train.images.max() == source.white == 16
    for digit in range(10):
        train, held_out = (int((split.labels == digit).sum()) for split in (source.train, source.eval))
        assert train / (train + held_out) == pytest.approx(0.8, abs=0.005)


@pytest.mark.parametrize("package", [find_spec("sklearn"), None], ids=["file", "elsewhere"])
def test_digits_keep_their_pixels_and_labels(package: ModuleSpec | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read from scikit-learn's file, and through its function where a version keeps that elsewhere."""
    from sklearn.datasets import load_digits

    bunch: Any = load_digits()
    monkeypatch.setattr(images_module, "find_spec", lambda name: package)
    held_out = images_module.digits().eval
    np.testing.assert_array_equal(held_out.images.squeeze(1).numpy(), bunch["images"][held_out.ids.numpy()])
    np.testing.assert_array_equal(held_out.labels.numpy(), bunch["target"][held_out.ids.numpy()])


# --- IDX files


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["raw", "gzip"])
def test_idx_files_are_read_raw_and_gzipped(tmp_path: Path, pack) -> None:
    (tmp_path / "images").write_bytes(pack(idx(IMAGES)))
    (tmp_path / "labels.gz").write_bytes(pack(idx(LABELS)))
    np.testing.assert_array_equal(read_idx(tmp_path / "images", dimensions=3).numpy(), IMAGES)
    np.testing.assert_array_equal(read_idx(tmp_path / "labels", dimensions=1).numpy(), LABELS)


BROKEN = {
    "truncated": (idx(IMAGES)[:-1], 3, "is truncated: 3935 bytes unpacked where its header promises 3936"),
    "cut in the header": (idx(IMAGES)[:10], 3, "is truncated"),
    "too long": (idx(IMAGES) + b"!", 3, "is too long"),
    "labels for images": (
        idx(LABELS),
        3,
        r"holds labels \(1-D\) where images \(3-D\) belong; two files",
    ),
    "images for labels": (idx(IMAGES), 1, r"holds images \(3-D\) where labels \(1-D\) belong"),
    "no IDX": (b"<html>404</html>", 3, "is not an IDX file"),
    "empty": (b"", 3, "is not an IDX file"),
    "truncated gzip": (gzip.compress(idx(IMAGES))[:-20], 3, "cannot be read"),
    "damaged gzip": (gzip.compress(idx(IMAGES))[:10] + b"\xff" * 40, 3, r"cannot be read \(error: Error -3"),
    "wrong gzip checksum": (gzip.compress(idx(IMAGES))[:-8] + bytes(8), 3, "cannot be read"),
}


@pytest.mark.parametrize(("content", "dimensions", "message"), BROKEN.values(), ids=BROKEN)
def test_a_broken_idx_file_is_one_sentence_with_its_path(
    tmp_path: Path, content: bytes, dimensions: int, message: str
) -> None:
    path = tmp_path / "file.gz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_idx(path, dimensions=dimensions)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def write_mnist_folder(root: Path) -> None:
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for name in mnist_module.MNIST_FILES:
        (folder / f"{name}.gz").write_bytes(gzip.compress(idx(IMAGES if "images" in name else LABELS)))


def test_another_file_by_the_right_name_is_recognised_by_its_checksum(tmp_path: Path) -> None:
    write_mnist_folder(tmp_path)
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz has SHA-256 .*, not the published ba891046"):
        mnist_module.mnist(tmp_path)


# --- looking for files


def test_without_files_and_network_the_error_names_the_ways_out(offline: Path, tmp_path: Path) -> None:
    with pytest.raises(DataMissing) as caught:
        make_task("two_step-v1", tmp_path)
    message = str(caught.value)
    assert message.startswith("source 'mnist' needs the files train-images-idx3-ubyte,")
    for part in ("network is unreachable", "--data-root", "$MULTISTEP_BENCH_DATA", str(offline), "two_step_glyphs-v1"):
        assert part in message


def test_folders_are_searched_in_the_order_argument_environment_cache(
    offline: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MULTISTEP_BENCH_DATA", str(tmp_path / "variable"))
    assert data_roots(tmp_path / "argument") == [tmp_path / "argument", tmp_path / "variable", offline]


def test_files_in_the_cache_are_found(offline: Path) -> None:
    write_mnist_folder(offline)
    with pytest.raises(DataError, match=str(offline)):  # found there, and then refused for its checksum
        mnist_module.mnist()


def test_a_download_lands_whole_in_the_first_folder(
    offline: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fetched = []

    def download_url(url: str, root: str, filename: str, md5: str) -> None:
        fetched.append(url)
        (Path(root) / filename).write_bytes(gzip.compress(idx(IMAGES if "images" in filename else LABELS)))

    monkeypatch.setattr("torchvision.datasets.utils.download_url", download_url)
    with pytest.raises(DataError, match="SHA-256"):  # the four files are read where they were put
        mnist_module.mnist(tmp_path)
    expected = sorted(f"{name}.gz" for name in mnist_module.MNIST_FILES)
    assert sorted(path.name for path in (tmp_path / "MNIST/raw").iterdir()) == expected
    assert len(fetched) == 4


def test_an_interrupted_download_leaves_no_file_behind(
    offline: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def download_url(url: str, root: str, filename: str, md5: str) -> None:
        (Path(root) / filename).write_bytes(b"half a file")
        raise OSError("connection reset")

    monkeypatch.setattr("torchvision.datasets.utils.download_url", download_url)
    with pytest.raises(DataMissing, match="connection reset"):
        mnist_module.mnist(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_check_data_reports_every_source_without_the_network(
    offline: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def download_url(*args: object, **kwargs: object) -> None:
        pytest.fail("check_data went to the network")

    monkeypatch.setattr("torchvision.datasets.utils.download_url", download_url)
    write_mnist_folder(tmp_path)
    found = {entry.source: entry for entry in check_data(tmp_path)}
    assert found["digits"].status == found["glyphs"].status == "ok"
    assert "1438 train and 359 eval images of 8×8" in found["digits"].message
    assert found["mnist"].status == "broken"
    assert "SHA-256" in found["mnist"].message
    assert found["fashion_mnist"].status == found["cifar10"].status == "missing"


@needs_mnist
def test_real_mnist_and_fashion_mnist_pass_the_check() -> None:
    found = {entry.source: entry for entry in check_data(DATA)}
    for name in ("mnist", "fashion_mnist"):
        assert found[name].status == "ok", found[name].message
        assert found[name].message.startswith("60000 train and 10000 eval images of 28×28")
        assert str(DATA) in str(found[name].where)


@needs_mnist
def test_the_first_images_of_mnist_and_fashion_mnist_have_the_published_labels() -> None:
    assert open_source("mnist", DATA).train.labels[:8].tolist() == [5, 0, 4, 1, 9, 2, 1, 3]
    assert open_source("mnist", DATA).eval.labels[:8].tolist() == [7, 2, 1, 0, 4, 1, 4, 9]
    assert open_source("fashion_mnist", DATA).train.labels[:4].tolist() == [9, 0, 0, 3]
