"""CIFAR-10, on small files of its format: what is read, and how broken or false files are found."""

import hashlib
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from image_data import CIFAR_RECORDS, small_cifar, write_cifar_folder

from multistep_bench.errors import DataError, DataMissing
from multistep_bench.sources import cifar10 as cifar_module


@pytest.fixture
def records(tmp_path: Path) -> Iterator[np.ndarray]:
    """The records of a small CIFAR-10 in a folder below `tmp_path`."""
    with small_cifar():
        yield write_cifar_folder(tmp_path)


def test_cifar_is_read_from_the_binary_version(records: np.ndarray, tmp_path: Path) -> None:
    source = cifar_module.cifar10(tmp_path)
    assert source.train.images.shape == (5 * CIFAR_RECORDS, 3, 32, 32)
    assert source.eval.labels.tolist() == records[5, :, 0].tolist()
    record = records[1, 3]  # the fourth of the second file
    image = source.train.images[CIFAR_RECORDS + 3]
    assert int(image[0, 0, 1]) == record[2]  # red, first row, second column
    assert int(image[1, 0, 0]) == record[1 + 1024]  # green
    assert int(image[2, 31, 31]) == record[-1]  # blue, last row and column


def test_a_truncated_cifar_file_is_one_sentence(records: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "cifar-10-batches-bin" / "test_batch.bin"
    path.write_bytes(records[5].tobytes()[:-3073])  # one record short
    with pytest.raises(DataError, match=r"test_batch.bin holds 58387 bytes where 20 records of 3073 bytes belong"):
        cifar_module.cifar10(tmp_path)


def test_a_cifar_file_with_impossible_labels_is_refused(records: np.ndarray, tmp_path: Path) -> None:
    records[0, 7, 0] = 200
    (tmp_path / "cifar-10-batches-bin" / "data_batch_1.bin").write_bytes(records[0].tobytes())
    with pytest.raises(DataError, match="holds label 200"):
        cifar_module.cifar10(tmp_path)


def test_the_published_figures_agree_with_each_other() -> None:
    """10,000 images a file, 5,000 of each class for training."""
    counts = np.array(list(cifar_module.LABEL_COUNTS.values()))
    assert counts.sum(1).tolist() == [10_000] * 6
    assert counts[:5].sum(0).tolist() == [5_000] * 10
    assert len(cifar_module.TRAIN_FILES) == 5


def test_files_of_zeros_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    for name in cifar_module.LABEL_COUNTS:
        with (folder / name).open("wb") as file:
            file.truncate(10_000 * 3073)  # a sparse file
    with pytest.raises(DataError, match=r"data_batch_1.bin holds \[10000, 0, 0, .* images of the ten classes"):
        cifar_module.cifar10(tmp_path, download=False)


def test_right_labels_over_wrong_pixels_are_refused(records: np.ndarray, tmp_path: Path) -> None:
    records[2, 5, 1:] = 0  # one black image
    (tmp_path / "cifar-10-batches-bin" / "data_batch_3.bin").write_bytes(records[2].tobytes())
    with pytest.raises(DataError, match=r"the red pixels of data_batch_1.bin, .* have mean 0\.\d+ where"):
        cifar_module.cifar10(tmp_path)


# --- the archive


def pack(root: Path, monkeypatch: pytest.MonkeyPatch, *, leave_out: str = "") -> Path:
    """The archive of the folder below `root`, published from now on."""
    path = root / cifar_module.ARCHIVE
    with tarfile.open(path, "w:gz") as archive:
        for file in sorted((root / cifar_module.FOLDER).iterdir()):
            if file.name != leave_out:
                archive.add(file, f"{cifar_module.FOLDER}/{file.name}")
    monkeypatch.setattr(cifar_module, "MD5", hashlib.md5(path.read_bytes()).hexdigest())
    return path


@pytest.mark.parametrize("broken", ["missing", "empty", "half"])
def test_the_archive_is_read_where_the_folder_is_half_unpacked(
    records: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    archive = pack(tmp_path, monkeypatch)
    file = tmp_path / cifar_module.FOLDER / "data_batch_4.bin"
    if broken == "missing":
        file.unlink()
    else:
        file.write_bytes(b"" if broken == "empty" else records[3].tobytes()[:30_000])
    with pytest.warns(UserWarning, match=r"cifar-10-binary.tar.gz is read instead of a broken copy: .*data_batch_4"):
        source = cifar_module.cifar10(tmp_path, download=False)
    assert source.where == str(archive)
    assert source.train.labels.tolist() == records[:5, :, 0].flatten().tolist()
    assert int(source.train.images[CIFAR_RECORDS + 3, 0, 0, 1]) == records[1, 3, 2]


def test_a_half_unpacked_folder_alone_says_what_is_missing(offline: Path, records: np.ndarray, tmp_path: Path) -> None:
    (tmp_path / cifar_module.FOLDER / "data_batch_4.bin").unlink()
    with pytest.raises(DataMissing, match=r"data_batch_4\.bin"):
        cifar_module.cifar10(tmp_path)


@pytest.mark.usefixtures("records")
def test_another_archive_is_refused_by_its_checksum_and_its_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = cifar_module.MD5
    pack(tmp_path, monkeypatch, leave_out="test_batch.bin")
    shutil.rmtree(tmp_path / cifar_module.FOLDER)
    with pytest.raises(DataError, match=r"tar.gz lacks test_batch.bin"):
        cifar_module.cifar10(tmp_path, download=False)
    monkeypatch.setattr(cifar_module, "MD5", published)
    with pytest.raises(DataError, match=r"has MD5 .*, not the published c32a1d4a"):
        cifar_module.cifar10(tmp_path, download=False)


@pytest.mark.usefixtures("records")
def test_an_archive_that_unpacks_to_more_than_cifar_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / cifar_module.FOLDER
    with (folder / "extra.bin").open("wb") as file:
        file.truncate(2**24)
    pack(tmp_path, monkeypatch)
    shutil.rmtree(folder)
    with pytest.raises(DataError, match="holds more than CIFAR-10"):
        cifar_module.cifar10(tmp_path, download=False)
