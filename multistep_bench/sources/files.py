"""Where data files are looked for, how they are fetched, and reading them whole."""

import gzip
import hashlib
import os
import socket
import tempfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from http.client import HTTPException
from pathlib import Path

from multistep_bench.errors import DataError, DataMissing

GZIP_MAGIC = b"\x1f\x8b"
DOWNLOAD_TIMEOUT = 30.0  # seconds without an answer, after which a machine counts as offline


def data_roots(data_root: Path | None) -> list[Path]:
    """The folders searched for data, in order: `data_root`, $MULTISTEP_BENCH_DATA, the user's cache."""
    named = [data_root, os.environ.get("MULTISTEP_BENCH_DATA")]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "multistep-bench"
    return list(dict.fromkeys([*(Path(root).expanduser() for root in named if root), cache]))


def find_folder(
    source: str,
    folder: str,
    names: Sequence[str],
    data_root: Path | None,
    download: Callable[[Path], None] | None,
) -> Path:
    """The first ROOT/`folder` that holds every file in `names`, each as it is or with the ending .gz.

    Where there is none, `download(into)` puts the files anywhere below a temporary folder and they are moved
    to the first root; None leaves the network alone. Raises `DataMissing` with the ways out.
    """
    roots = data_roots(data_root)
    for root in roots:
        if all(_present(root / folder, name) for name in names):
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


def _present(folder: Path, name: str) -> bool:
    return (folder / name).is_file() or (folder / f"{name}.gz").is_file()


def _install(folder: Path, names: Iterable[str], download: Callable[[Path], None]) -> None:
    """Downloads near `folder` and moves each file in one step, so no process ever sees half a file."""
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


def read_bytes(path: Path) -> bytes:
    """A file's content, gunzipped if it is gzip by its first bytes; `path` stands for itself or for path.gz.

    Raises `DataError` for a file that cannot be read or gunzipped.
    """
    path = path if path.is_file() else path.with_name(f"{path.name}.gz")
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if content.startswith(GZIP_MAGIC) else content
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{path} cannot be read ({type(error).__name__}: {error}); delete it and fetch it again"
        ) from None


def verify_sha256(path: Path, content: bytes, expected: str) -> None:
    """Raises `DataError` unless the unpacked content of `path` has this checksum."""
    actual = hashlib.sha256(content).hexdigest()
    if actual != expected:
        raise DataError(
            f"the unpacked content of {path} has SHA-256 {actual}, not the published {expected}; it is another file or"
            " a damaged one, so delete it and fetch it again"
        )
