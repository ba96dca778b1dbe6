"""Where data files are looked for, how they are fetched, and how they are read within bounds."""

import gzip
import hashlib
import os
import socket
import tempfile
import warnings
import zlib
from collections.abc import Callable, Iterable, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import TypeVar

from multistep_bench.errors import DataError, DataMissing

GZIP_MAGIC = b"\x1f\x8b"
GZIP_OVERHEAD = 1.01  # gzip of what cannot be compressed is longer than the content by less than 1 %
BLOCK = 4096  # bytes; a small file's header and name
DOWNLOAD_TIMEOUT = 30.0  # seconds without an answer, after which a machine counts as offline

C = TypeVar("C")
T = TypeVar("T")


def data_roots(data_root: Path | None) -> list[Path]:
    """The folders searched for data, in order: `data_root`, $MULTISTEP_BENCH_DATA, the user's cache."""
    named = [data_root, os.environ.get("MULTISTEP_BENCH_DATA")]
    return list(dict.fromkeys([*(Path(root).expanduser() for root in named if root), _cache()]))


def _cache() -> Path:
    """The user's cache; a folder for temporary files where there is no home, as for a user id without an account."""
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:
        folder = Path(tempfile.gettempdir())
    return folder / "multistep-bench"


def find_folder(
    source: str,
    folder: str,
    names: Sequence[str],
    data_root: Path | None,
    download: Callable[[Path], None] | None,
) -> Path:
    """The first ROOT/`folder` that holds every file in `names`, each raw or with the ending .gz, and none empty.

    If there is none, `download(into)` puts the files anywhere below a temporary folder, from which they are moved
    to the first root; with None nothing is downloaded. Raises `DataMissing`, which names the ways out.
    """
    roots = data_roots(data_root)
    for root in roots:
        if holds_all(root / folder, names):
            return root / folder
    reason = "nothing was downloaded"
    if download is not None:
        try:
            _install(roots[0] / folder, names, download)
            return roots[0] / folder
        except (OSError, RuntimeError, HTTPException) as error:  # no network, a full disk, a wrong checksum
            reason = f"the download failed ({type(error).__name__}: {error})"
    searched = ", ".join(str(root) for root in roots)
    packed = "" if any(name.endswith(".zip") for name in names) else " (raw or .gz)"
    raise DataMissing(
        f"source '{source}' needs the files {', '.join(names)}{packed} in the folder {folder} of one of"
        f" {searched}, and {reason}; name the folder that holds {folder.split('/')[0]} with --data-root or"
        f" $MULTISTEP_BENCH_DATA, or copy the files into {roots[-1] / folder}, or choose a task that needs no files,"
        " such as two_step_digits-v1 or two_step_glyphs-v1"
    )


def holds_all(folder: Path, names: Iterable[str]) -> bool:
    """Whether every file of these names is in the folder, raw or gzipped, and not empty."""
    return all(
        any(each.is_file() and each.stat().st_size > 0 for each in (folder / name, _gzipped(folder / name)))
        for name in names
    )


def _install(folder: Path, names: Iterable[str], download: Callable[[Path], None]) -> None:
    """Downloads next to `folder` and moves each file in one step, so that no process ever sees half a file."""
    near = next(parent for parent in (folder, *folder.parents) if parent.is_dir())
    patience = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT)
    try:
        with tempfile.TemporaryDirectory(dir=near) as into:
            download(Path(into))
            found = {path.name: path for path in Path(into).rglob("*") if path.is_file()}
            folder.mkdir(parents=True, exist_ok=True)
            for name in names:
                path = found[name] if name in found else found[f"{name}.gz"]
                os.replace(path, folder / path.name)
    finally:
        socket.setdefaulttimeout(patience)


def fetch(url: str, into: Path, *, name: str, md5: str) -> None:
    """Fetches a file over https into the folder `into` under `name`, and checks its MD5.

    Raises `OSError` or `RuntimeError` where it cannot be had, which `find_folder` turns into `DataMissing`.
    """
    from torchvision.datasets.utils import download_url

    if not url.startswith("https://"):
        raise OSError(f"{url} is not an https address, and nothing is fetched over another protocol")
    download_url(url, str(into), filename=name, md5=md5)


def first_whole(candidates: Sequence[C], read: Callable[[C], T], *, name: Callable[[C], str] = str) -> T:
    """What `read` makes of the first candidate that it raises no `DataError` for; a warning says what broke before.

    candidates: copies of the same data, in order of preference. If all are broken, raises the error of the first.
    """
    broken: DataError | None = None
    for candidate in candidates:
        try:
            content = read(candidate)
        except DataError as error:
            broken = broken or error
            continue
        if broken is not None:
            warnings.warn(f"{name(candidate)} is read instead of a broken copy: {broken}", stacklevel=2)
        return content
    raise broken or ValueError("no candidate to read")


def copies(path: Path) -> list[Path]:
    """The file itself and path.gz beside it, as far as they exist; else `path`, for the error to name."""
    return [each for each in (path, _gzipped(path)) if each.is_file()] or [path]


def _gzipped(path: Path) -> Path:
    return path.with_name(f"{path.name}.gz")


def read_bytes(path: Path, limit: int) -> bytes:
    """A file's content of at most `limit` bytes, gunzipped if it is gzip by its first bytes.

    No more than that is read or unpacked, whatever the file claims to hold. Raises `DataError` for a file that cannot
    be read or gunzipped, or that holds more.
    """
    try:
        with path.open("rb") as file:
            packed = file.read(len(GZIP_MAGIC)) == GZIP_MAGIC
            file.seek(0)
            size = path.stat().st_size
            if size > limit * GZIP_OVERHEAD + BLOCK:
                raise DataError(f"{path} has {size} bytes where at most {limit} belong; delete it and fetch it again")
            content = (gzip.GzipFile(fileobj=file) if packed else file).read(limit + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{path} cannot be read ({type(error).__name__}: {error}); delete it and fetch it again"
        ) from None
    if len(content) > limit:
        raise DataError(f"{path} holds more than the {limit} bytes that belong there; delete it and fetch it again")
    return content


def verify_sha256(path: Path, content: bytes, expected: str) -> None:
    """Raises `DataError` unless the unpacked content of `path` has this checksum."""
    actual = hashlib.sha256(content).hexdigest()
    if actual != expected:
        raise DataError(
            f"the unpacked content of {path} has SHA-256 {actual}, not the published {expected}; it is another file or"
            " a damaged one, so delete it and fetch it again"
        )


def verify_md5(path: Path, expected: str, limit: int) -> None:
    """Raises `DataError` unless the file at `path` has at most `limit` bytes and this published checksum."""
    size = path.stat().st_size
    if size > limit:
        raise DataError(f"{path} has {size} bytes where at most {limit} belong; delete it and fetch it again")
    with path.open("rb") as file:
        actual = hashlib.file_digest(file, "md5").hexdigest()
    if actual != expected:
        raise DataError(f"{path} has MD5 {actual}, not the published {expected}; delete it and fetch it again")
