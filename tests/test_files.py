"""Data files are read within bounds, from the whole one of several copies, and fetched over https alone."""

import gzip
import struct
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from multistep_bench import registry
from multistep_bench.errors import DataError, DataMissing
from multistep_bench.sources import files
from multistep_bench.sources.check import check_data
from multistep_bench.sources.files import copies, fetch, find_folder, first_whole, read_bytes
from multistep_bench.sources.mnist import read_idx

MIB = 2**20
LABELS = np.array([3, 1, 4, 1, 5])
CONTENT = struct.pack(">II", 0x0801, len(LABELS)) + LABELS.astype(np.uint8).tobytes()  # an IDX file


# --- the whole one of two copies


@pytest.mark.parametrize("broken", [b"", CONTENT[:-2], b"<html>"], ids=["empty", "half", "another file"])
def test_a_whole_archive_beside_a_broken_file_is_read_and_named(tmp_path: Path, broken: bytes) -> None:
    (tmp_path / "labels").write_bytes(broken)
    (tmp_path / "labels.gz").write_bytes(gzip.compress(CONTENT))
    with pytest.warns(UserWarning, match=rf"{tmp_path}/labels.gz is read instead of a broken copy: {tmp_path}/labels "):
        labels = read_idx(tmp_path / "labels", dimensions=1)
    np.testing.assert_array_equal(labels.numpy(), LABELS)


def test_of_broken_copies_alone_the_first_is_complained_about(tmp_path: Path) -> None:
    (tmp_path / "labels").write_bytes(CONTENT[:-2])
    (tmp_path / "labels.gz").write_bytes(b"")
    with pytest.raises(DataError, match=r"labels is truncated: 11 bytes"):
        read_idx(tmp_path / "labels", dimensions=1)
    with pytest.raises(DataError, match=r"none cannot be read \(FileNotFoundError"):
        first_whole(copies(tmp_path / "none"), lambda path: read_bytes(path, 10))


def test_empty_files_hide_no_whole_ones_in_the_next_folder(
    offline: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MULTISTEP_BENCH_DATA", str(tmp_path / "second"))
    for root, content in (("first", b""), ("second", b"whole")):
        (tmp_path / root / "set").mkdir(parents=True)
        (tmp_path / root / "set" / "file").write_bytes(content)
    assert find_folder("mine", "set", ["file"], tmp_path / "first", None) == tmp_path / "second" / "set"
    (tmp_path / "second" / "set" / "file").write_bytes(b"")
    with pytest.raises(DataMissing, match="needs the files file"):
        find_folder("mine", "set", ["file"], tmp_path / "first", None)


def test_the_check_of_data_says_which_copy_was_passed_over(
    offline: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def doubtful(data_root: Path | None, download: bool) -> object:
        return first_whole(["half", "whole"], source)

    def source(name: str) -> object:
        if name == "half":
            raise DataError("half is truncated")
        return type("Source", (), {"where": name, "summary": "5 labels"})

    monkeypatch.setitem(registry.sources._factories, "mnist", doubtful)
    found = {each.source: each for each in check_data(tmp_path)}["mnist"]
    assert (found.status, found.where) == ("ok", "whole")
    assert found.message == "5 labels; whole is read instead of a broken copy: half is truncated"


# --- bounds


def bomb(path: Path) -> None:
    """Labels as their header has it, and then zeros: 64 MiB packed into 64 KiB."""
    path.write_bytes(gzip.compress(CONTENT + bytes(64 * MIB)))


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.write(CONTENT)
        file.truncate(256 * MIB)


def sparse_gzip(path: Path) -> None:
    with path.open("wb") as file:
        file.write(gzip.compress(CONTENT))
        file.truncate(256 * MIB)


@contextmanager
def memory_below(limit: int) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("write", [bomb, sparse, sparse_gzip])
def test_no_more_is_unpacked_than_the_source_can_hold(tmp_path: Path, write: Callable[[Path], None]) -> None:
    write(tmp_path / "labels")
    with memory_below(MIB), pytest.raises(DataError, match=r"labels (has|holds) .* belong"):
        read_idx(tmp_path / "labels", dimensions=1)


def test_a_file_of_exactly_the_largest_size_is_read_to_its_checksum(tmp_path: Path) -> None:
    noise = np.random.RandomState(0).bytes(100_000)  # gzip makes it longer
    for name, content in (("raw", noise), ("packed", gzip.compress(noise))):
        (tmp_path / name).write_bytes(content)
        assert read_bytes(tmp_path / name, len(noise)) == noise
        with pytest.raises(DataError, match="belong"):
            read_bytes(tmp_path / name, len(noise) - 1)
    (tmp_path / "packed").write_bytes(gzip.compress(noise)[:-8] + bytes(8))
    with pytest.raises(DataError, match="cannot be read"):
        read_bytes(tmp_path / "packed", len(noise))


# --- downloads


def test_nothing_is_fetched_over_http(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="is not an https address"):
        fetch("http://localhost:9/file", tmp_path, name="file", md5="0" * 32)


def test_every_source_asks_https_addresses_alone(
    offline: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[str] = []

    def download_url(url: str, root: str, filename: str, md5: str) -> None:
        asked.append(url)
        (Path(root) / filename).write_bytes(b"something")

    monkeypatch.setattr("torchvision.datasets.utils.download_url", download_url)
    for name in ("mnist", "fashion_mnist", "cifar10", "omniglot", "omniglot_full", "wikitext2_small"):
        with pytest.raises(DataError):  # what was fetched is none of it
            registry.sources.get(name)(tmp_path)
    assert len(asked) == 4 + 4 + 1 + 1 + 2 + 2  # files of each
    assert all(url.startswith("https://") for url in asked)


def test_without_a_home_the_cache_is_among_temporary_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("MULTISTEP_BENCH_DATA", raising=False)

    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    assert files.data_roots(None) == [Path(tempfile.gettempdir()) / "multistep-bench"]
