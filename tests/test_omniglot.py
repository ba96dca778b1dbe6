"""Omniglot: which alphabets train, and what is said of broken, false and missing archives."""

import io
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from image_data import DATA
from PIL import Image

from multistep_bench.errors import DataError, DataMissing
from multistep_bench.sources import omniglot as module
from multistep_bench.sources.images import ImageSource, open_source
from multistep_bench.sources.omniglot import BACKGROUND, EVAL_ALPHABETS, EVALUATION, SMALL, TRAIN_ALPHABETS, omniglot

needs_omniglot = pytest.mark.skipif(
    not (DATA / "omniglot-py").is_dir(), reason="no omniglot-py in $MULTISTEP_BENCH_DATA or beside the checkout"
)
ALPHABETS = TRAIN_ALPHABETS + EVAL_ALPHABETS
MEMBER = "Greek/character02/0395_07.png"


# --- the real data


@needs_omniglot
def test_six_alphabets_train_and_two_others_are_held_out() -> None:
    source = open_source("omniglot", DATA)
    names = [source.classes[label].split("/")[0] for label in range(242)]
    train, held_out = (set(split.labels.tolist()) for split in (source.train, source.eval))
    assert {names[label] for label in train} == set(TRAIN_ALPHABETS)
    assert {names[label] for label in held_out} == set(EVAL_ALPHABETS)
    assert (len(train), len(held_out)) == (201, 41)
    assert torch.bincount(source.train.labels).tolist() == [20] * 201
    assert torch.bincount(source.eval.labels)[201:].tolist() == [20] * 41
    assert torch.cat((source.train.ids, source.eval.ids)).tolist() == list(range(4840))
    assert len(np.unique(torch.cat((source.train.images, source.eval.images)).flatten(1).numpy(), axis=0)) == 4840


@needs_omniglot
def test_ink_is_white_on_black_and_downscaling_keeps_it() -> None:
    source = open_source("omniglot", DATA)
    with zipfile.ZipFile(DATA / "omniglot-py" / f"{SMALL[0]}.zip") as archive:
        content = archive.read(f"{SMALL[0]}/{MEMBER}")
    ink = 1 - np.asarray(Image.open(io.BytesIO(content)), dtype=float)
    label = source.classes.index("Greek/character02")
    shown = source.train.images[source.train.labels == label][6, 0].double().numpy() / source.white
    assert shown.shape == (28, 28)
    assert shown.mean() == pytest.approx(ink.mean(), rel=0.02)
    for axis in (0, 1):  # the centre of the ink stays where it was
        centre = [(each.sum(1 - axis) @ (np.arange(len(each)) + 0.5)) / each.sum() / len(each) for each in (ink, shown)]
        assert centre[0] == pytest.approx(centre[1], abs=0.01)


@needs_omniglot
def test_unpacked_folders_are_read_as_the_archives_are(offline: Path, tmp_path: Path) -> None:
    for name in SMALL:
        with zipfile.ZipFile(DATA / "omniglot-py" / f"{name}.zip") as archive:
            archive.extractall(tmp_path / "omniglot-py")
    assert_same(omniglot(tmp_path), open_source("omniglot", DATA))


@needs_omniglot
def test_the_full_background_archive_gives_the_same_data(offline: Path, tmp_path: Path) -> None:
    """Its eight alphabets are those of the small archives; others are left out."""
    folder = tmp_path / "omniglot-py"
    folder.mkdir()
    with zipfile.ZipFile(folder / f"{BACKGROUND}.zip", "w") as full:
        full.writestr(f"{BACKGROUND}/Arcadian/character01/0999_01.png", png())
        for name in reversed(SMALL):
            with zipfile.ZipFile(DATA / "omniglot-py" / f"{name}.zip") as archive:
                for entry in archive.namelist():
                    member = entry.replace(name, BACKGROUND)
                    if entry.endswith(".png") and member not in full.NameToInfo:
                        full.writestr(member, archive.read(entry))
    assert_same(omniglot(tmp_path), open_source("omniglot", DATA))


def assert_same(one: ImageSource, other: ImageSource) -> None:
    assert one.classes == other.classes
    for here, there in ((one.train, other.train), (one.eval, other.eval)):
        assert torch.equal(here.images, there.images)
        assert torch.equal(here.labels, there.labels)


@needs_omniglot
def test_one_changed_pixel_is_noticed(offline: Path, tmp_path: Path) -> None:
    folder = tmp_path / "omniglot-py"
    folder.mkdir()
    shutil.copy(DATA / "omniglot-py" / f"{SMALL[1]}.zip", folder)
    with (
        zipfile.ZipFile(DATA / "omniglot-py" / f"{SMALL[0]}.zip") as archive,
        zipfile.ZipFile(folder / f"{SMALL[0]}.zip", "w") as changed,
    ):
        for entry in archive.infolist():
            content = archive.read(entry)
            if entry.filename.endswith("Balinese/character01/0108_01.png"):
                image = Image.open(io.BytesIO(content)).convert("L")
                image.putpixel((50, 50), 255 - int(np.asarray(image)[50, 50]))
                content = encoded(image)
            changed.writestr(entry.filename, content)
    with pytest.raises(DataError, match=r"have SHA-256 [0-9a-f]{64}, not dbb8ec3d") as caught:
        omniglot(tmp_path)
    assert "\n" not in str(caught.value)


# --- archives that the tests write


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind)
    return stream.getvalue()


def png(side: int = 105, seed: int = 0) -> bytes:
    """A random black-and-white image."""
    pixels = np.random.RandomState(seed).randint(0, 2, (side, side)).astype(bool)
    return encoded(Image.fromarray(pixels))


def write(root: Path, name: str, members: dict[str, bytes]) -> Path:
    path = root / "omniglot-py" / f"{name}.zip"
    path.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    return path


def write_small(root: Path, content: bytes) -> Path:
    """Both small archives, the first with this file as its only drawing."""
    write(root, SMALL[1], {})
    return write(root, SMALL[0], {f"{SMALL[0]}/{MEMBER}": content})


@pytest.fixture
def folder(offline: Path, tmp_path: Path) -> Path:
    """An empty data folder on a machine without network or cache."""
    return tmp_path


def spoiled(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """Changes the bytes of the first small archive."""

    def write_it(root: Path) -> None:
        path = write_small(root, png())
        path.write_bytes(change(path.read_bytes()))

    return write_it


def lied_about_size(content: bytes) -> bytes:
    """The size in the archive's directory and header, 10 bytes instead of what is there."""
    size = len(png()).to_bytes(4, "little")
    return content.replace(size, (10).to_bytes(4, "little"))


BROKEN = {
    "empty file": (spoiled(lambda content: b""), r"small1.zip cannot be read \(BadZipFile: "),
    "no zip": (spoiled(lambda content: b"<html>404</html>"), r"small1.zip cannot be read \(BadZipFile: "),
    "truncated": (spoiled(lambda content: content[:-100]), r"small1.zip cannot be read \(BadZipFile: "),
    "damaged": (
        spoiled(lambda content: content[:120] + bytes(40) + content[160:]),
        r"small1.zip cannot be read \((error|BadZipFile): ",
    ),
    "false size": (spoiled(lied_about_size), r"small1.zip cannot be read \((error|BadZipFile|EOFError): "),
    "encrypted": (
        spoiled(
            lambda content: content.replace(
                b"PK\x01\x02\x14\x03\x14\x00\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01\x00"
            )
        ),
        r"small1.zip cannot be read \(RuntimeError: .*encrypted",
    ),
    "no drawings": (
        lambda root: write(root, SMALL[1], {}) and write(root, SMALL[0], {}),
        "lack Balinese, Early_Aramaic",
    ),
    "drawings elsewhere": (
        lambda root: write_small(root, b"") and write(root, SMALL[0], {f"../{SMALL[0]}/{MEMBER}": png()}),
        "lack Balinese, Early_Aramaic, Greek",
    ),
    "one drawing only": (lambda root: write_small(root, png()), "lack Balinese, Early_Aramaic, Japanese"),
    "no image": (lambda root: write_small(root, b"text"), rf"{MEMBER} in .*small1.zip is no PNG image"),
    "empty image": (lambda root: write_small(root, b""), rf"{MEMBER} in .*small1.zip is no PNG image"),
    "half an image": (lambda root: write_small(root, png()[:300]), rf"{MEMBER} in .*small1.zip is no PNG image"),
    "another format": (
        lambda root: write_small(root, encoded(Image.new("L", (105, 105)), "GIF")),
        rf"{MEMBER} in .*small1.zip is no PNG image",
    ),
    "another size": (
        lambda root: write_small(root, png(28)),
        rf"{MEMBER} in .*small1.zip has 28×28 pixels, not 105×105",
    ),
    "a bomb": (
        lambda root: write_small(root, encoded(Image.new("1", (14_000, 14_000)))),
        rf"{MEMBER} in .*small1.zip (is no PNG image \(Decompression|has 14000×14000 pixels)",
    ),
}


@pytest.mark.parametrize(("write_it", "message"), BROKEN.values(), ids=BROKEN)
def test_a_broken_archive_is_one_sentence_with_its_path(
    folder: Path, write_it: Callable[[Path], object], message: str
) -> None:
    write_it(folder)
    with pytest.raises(DataError, match=message) as caught:
        omniglot(folder)
    assert not isinstance(caught.value, DataMissing)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_endless_drawing_is_not_read_to_its_end(folder: Path) -> None:
    """A small archive may unpack to gigabytes; no more than a drawing's worth of it is looked at."""
    write_small(folder, png() + bytes(200_000_000))
    with pytest.raises(DataError):
        omniglot(folder)
    member = f"{SMALL[0]}/{MEMBER}"
    ((_, content),) = module._zip_files(folder / "omniglot-py" / f"{SMALL[0]}.zip", module.re.compile(member))
    assert len(content) <= module.MAX_BYTES


def test_too_many_drawings_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_MEMBERS", 0)
    write_small(folder, png())
    with pytest.raises(DataError, match="holds 1 drawings, more than Omniglot has"):
        omniglot(folder)


# --- looking and downloading


def test_without_files_and_network_the_error_names_the_ways_out(folder: Path) -> None:
    with pytest.raises(DataMissing, match=r"'omniglot' needs the files images_background\.zip in the folder") as caught:
        omniglot(folder)
    for part in ("network is unreachable", "--data-root", "$MULTISTEP_BENCH_DATA", "omniglot-py"):
        assert part in str(caught.value)


def test_nothing_is_fetched_where_no_download_is_wanted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torchvision.datasets.utils.download_url", lambda *_, **__: pytest.fail("it was fetched"))
    with pytest.raises(DataMissing, match=r"images_background\.zip"):
        omniglot(folder, download=False)


def test_one_of_the_small_archives_is_not_enough(folder: Path) -> None:
    write(folder, SMALL[0], {})
    with pytest.raises(DataMissing):
        omniglot(folder)


def test_the_download_asks_for_torchvisions_checksum(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def download_url(url: str, root: str, filename: str, md5: str) -> None:
        asked.append((url.rpartition("/")[2], md5))
        with zipfile.ZipFile(Path(root) / filename, "w"):
            pass

    monkeypatch.setattr("torchvision.datasets.utils.download_url", download_url)
    with pytest.raises(DataError, match="lack Balinese"):
        omniglot(folder)
    assert asked == [("images_background.zip", "68d2efa1b9178cc56df9314c21c6e718")]
    assert [path.name for path in (folder / "omniglot-py").iterdir()] == ["images_background.zip"]


def full_sets(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both full archives with two and one characters, and constants to match."""
    monkeypatch.setattr(module, "CHARACTERS", {BACKGROUND: 2, EVALUATION: 1})
    for name, characters in (
        (BACKGROUND, ("Greek/character01", "Korean/character02")),
        (EVALUATION, ("Tengwar/character01",)),
    ):
        members = {f"{name}/{c}/0001_{i:02}.png": png(seed=i) for c in characters for i in range(1, 21)}
        write(root, name, members)


def test_the_full_sets_train_on_background_and_hold_out_evaluation(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full_sets(folder, monkeypatch)
    monkeypatch.setattr(module, "_verify_archive", lambda path: None)
    source = module.omniglot_full(folder)
    assert source.classes == ("Greek/character01", "Korean/character02", "Tengwar/character01")
    assert source.train.labels.tolist() == [0] * 20 + [1] * 20
    assert source.eval.labels.tolist() == [2] * 20
    assert source.eval.ids.tolist() == list(range(40, 60))
    monkeypatch.setattr(module, "CHARACTERS", {BACKGROUND: 3, EVALUATION: 1})
    with pytest.raises(DataError, match=r"images_background.zip holds 40 drawings where 60 belong"):
        module.omniglot_full(folder)


def test_full_archives_are_checked_against_the_published_md5(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full_sets(folder, monkeypatch)
    with pytest.raises(DataError, match=r"images_background.zip has MD5 .*, not the published 68d2efa1"):
        module.omniglot_full(folder)


def test_unpacked_full_sets_have_no_checksum_and_are_counted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full_sets(folder, monkeypatch)
    for name in (BACKGROUND, EVALUATION):
        archive = folder / "omniglot-py" / f"{name}.zip"
        shutil.unpack_archive(archive, archive.parent)
        archive.unlink()
    source = module.omniglot_full(folder)
    assert source.classes == ("Greek/character01", "Korean/character02", "Tengwar/character01")
    (folder / "omniglot-py" / EVALUATION / "Tengwar" / "character01" / "0001_20.png").unlink()
    with pytest.raises(DataError, match=r"images_evaluation holds 19 drawings where 20 belong"):
        module.omniglot_full(folder)


# --- several copies


@needs_omniglot
def test_a_whole_archive_beside_a_half_unpacked_folder_is_read_and_named(offline: Path, tmp_path: Path) -> None:
    folder = tmp_path / "omniglot-py"
    folder.mkdir()
    for name in SMALL:
        shutil.copy(DATA / "omniglot-py" / f"{name}.zip", folder)
    shutil.unpack_archive(folder / f"{SMALL[0]}.zip", folder)
    shutil.rmtree(folder / SMALL[0] / "Balinese")
    with pytest.warns(UserWarning, match=rf"{SMALL[0]}.zip, .* is read instead of a broken copy: .* lack Balinese"):
        source = omniglot(tmp_path, download=False)
    assert len(source.classes) == 242


def test_a_whole_archive_beside_an_empty_folder_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full_sets(folder, monkeypatch)
    monkeypatch.setattr(module, "_verify_archive", lambda path: None)
    (folder / "omniglot-py" / EVALUATION).mkdir()
    with pytest.warns(UserWarning, match=r"images_evaluation holds 0 drawings where 20 belong"):
        source = module.omniglot_full(folder)
    assert source.where.endswith("images_evaluation.zip")


def test_an_archive_longer_than_omniglot_is_not_opened(folder: Path) -> None:
    path = write_small(folder, png())
    with path.open("r+b") as file:
        file.truncate(2**34)  # a sparse file
    with pytest.raises(DataError, match=r"small1.zip has 17179869184 bytes where at most 16777216 belong"):
        omniglot(folder)
    path.rename(path.with_name(f"{BACKGROUND}.zip"))
    path.with_name(f"{EVALUATION}.zip").touch()
    with pytest.raises(DataError, match=r"images_background.zip has 17179869184 bytes"):
        module.omniglot_full(folder)
