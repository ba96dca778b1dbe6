"""The hash of a model's code: what changes it, what does not, and whose files it covers."""

import ast
import importlib
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import nn

import multistep_bench as mb
from multistep_bench.errors import ModelError
from multistep_bench.models import build as models
from multistep_bench.models import code, origin
from multistep_bench.models.code import code_sha256
from multistep_bench.models.syntax import parsed, reduced

TASK = mb.make_task("two_step_digits-v1")
COUNT = itertools.count()
NET = '''"""A net."""

import math

from torch import nn

from .layers import Scale
from . import numbers_of_mine


class Net(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.scale = Scale()
        self.act = numbers_of_mine.activation

    def forward(self, x):
        from . import late

        return late.last(self.act(self.scale(x)) + 0.25)


def build(info, width=8):
    if width < 1:
        raise ValueError(f"width {width}")
    return Net(width)
'''
LAYERS = "from torch import nn\n\n\nclass Scale(nn.Module):\n    def forward(self, x):\n        return 2 * x\n"
NUMBERS = "from math import pi\n\n\ndef activation(x):\n    return x * pi\n"
LATE = "def last(x):\n    return x - 1\n"


class Package:
    """A user's package in a folder of the tests, with the model that its builder makes."""

    def __init__(self, root: Path) -> None:
        self.name = f"nets{next(COUNT)}"
        self.folder = root / self.name
        self.folder.mkdir(parents=True)
        files = {"__init__": "VERSION = 1\n", "net": NET, "layers": LAYERS, "numbers_of_mine": NUMBERS, "late": LATE}
        for name, text in {**files, "unrelated": "X = 1\n"}.items():
            (self.folder / f"{name}.py").write_text(text)

    def sha256(self) -> str:
        self.builder = importlib.import_module(f"{self.name}.net").build
        return code_sha256(self.builder(TASK.info), self.builder)

    def change(self, name: str, old: str, new: str) -> None:
        path = self.folder / f"{name}.py"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Package:
    monkeypatch.syspath_prepend(tmp_path)
    return Package(tmp_path)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("net", '"""A net."""', '"""Another docstring."""'),
        ("net", '"""A net."""\n', ""),
        ("net", "    def forward(self, x):\n", '    def forward(self, x):\n        """x → x."""\n'),
        ("net", "self.scale = Scale()", "self.scale = (\n            Scale()  # a comment\n        )"),
        ("net", "import math\n\nfrom torch import nn\n", "from torch import nn\nimport math\n"),
        ("net", 'f"width {width}"', 'f"{width} is no width"'),
        ("layers", "2 * x", "(2   *   x)"),
        ("numbers_of_mine", "def activation(x):\n", "def activation(\n    x,\n):\n    '''Once pi.'''\n"),
        ("unrelated", "X = 1", "X = 2"),
        ("__init__", "VERSION = 1", "VERSION = 2"),
    ],
)
def test_words_and_other_files_change_nothing(package: Package, name: str, old: str, new: str) -> None:
    before = package.sha256()
    package.change(name, old, new)
    assert package.sha256() == before


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("net", "0.25", "0.26"),
        ("net", "width=8", "width=9"),
        ("net", "width < 1", "width < 2"),
        ("net", "ValueError", "TypeError"),
        ("net", "super().__init__()", "super(Net, self).__init__()"),
        ("layers", "2 * x", "x * 2"),
        ("numbers_of_mine", "x * pi", "x * pi * 2"),
        ("numbers_of_mine", "from math import pi", "from math import e as pi"),
        ("late", "x - 1", "x - 2"),
    ],
)
def test_what_a_model_computes_changes_the_hash(package: Package, name: str, old: str, new: str) -> None:
    before = package.sha256()
    package.change(name, old, new)
    assert package.sha256() != before


def test_a_helper_of_a_helper_counts_as_soon_as_it_is_imported(package: Package) -> None:
    before = package.sha256()
    package.change("layers", "from torch import nn\n", f"from torch import nn\nimport {package.name}.unrelated\n")
    imported = package.sha256()
    package.change("unrelated", "X = 1", "X = 2")
    assert len({before, imported, package.sha256()}) == 3


def test_the_folder_and_the_name_of_a_package_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packages = [Package(tmp_path / place) for place in ("here", "there")]
    for place in ("here", "there"):
        monkeypatch.syspath_prepend(tmp_path / place)
    assert packages[0].sha256() == packages[1].sha256()


def test_a_name_imported_from_the_package_itself_counts_its_init(package: Package) -> None:
    package.change("layers", "from torch import nn\n", f"from torch import nn\nfrom {package.name} import VERSION\n")
    before = package.sha256()
    package.change("__init__", "VERSION = 1", "VERSION = 2")
    assert package.sha256() != before


def test_installed_code_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path / "site-packages")
    monkeypatch.syspath_prepend(tmp_path / "mine")
    package, library = Package(tmp_path / "mine"), Package(tmp_path / "site-packages")
    package.change("net", "from .layers", f"from {library.name}.layers")
    before = package.sha256()
    library.change("layers", "2 * x", "3 * x")
    assert package.sha256() == before
    alone = library.sha256()  # an installed builder: nothing else would name the model
    library.change("net", "0.25", "0.26")
    assert library.sha256() != alone


def test_what_an_installer_lists_does_not_count_in_whatever_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "target"  # of `pip install --target`
    monkeypatch.syspath_prepend(place)
    monkeypatch.syspath_prepend(tmp_path / "mine")
    package, library = Package(tmp_path / "mine"), Package(place)
    package.change("net", "from .layers", f"from {library.name}.layers")

    def library_counts() -> bool:
        origin._installed_in.cache_clear()
        before = package.sha256()
        library.change("layers", "2 * x", "3 * x")
        after = package.sha256()
        library.change("layers", "3 * x", "2 * x")
        return before != after

    def listed(kind: str, metadata: str, files: str, text: str) -> None:
        folder = place / f"{library.name}-1.0.{kind}"
        folder.mkdir()
        (folder / metadata).write_text(f"Name: {library.name}\nVersion: 1.0\n")
        (folder / files).write_text(text)

    sources = [f"{library.name}/{path.name}" for path in library.folder.glob("*.py")]
    assert library_counts()
    listed("egg-info", "PKG-INFO", "SOURCES.txt", "\n".join(sources))  # a project that setuptools has built: the user's
    assert library_counts()
    sources.append(f"{library.name}-1.0.dist-info/RECORD")
    listed("dist-info", "METADATA", "RECORD", "".join(f"{source},,\n" for source in sources))
    assert not library_counts()


def files_of(model: str, task: Any = TASK, **config: Any) -> set[str]:
    """Stems of the files that the hash of one of our models covers."""
    read: set[str] = set()
    with pytest.MonkeyPatch.context() as patch:
        parse: Callable[[Path], Any] = code._parse
        patch.setattr(code, "_parse", lambda path: (read.add(path.stem), parse(path))[1])
        module = mb.make_model(model, task.info, **config)
        code_sha256(module, models.builder(models.resolve_model(model).model))
    return read


def test_the_files_of_our_models() -> None:
    assert files_of("vit") == {"vit", "initial", "transformer", "layout", "softmax", "dot_product"}
    assert files_of("vit_normsoftmax") == {"vit", "initial", "transformer", "layout", "normsoftmax"}
    assert files_of("vit_oracle") == {"oracle", "vit", "initial", "transformer", "layout", "softmax", "dot_product"}
    assert files_of("resnet9") == {"resnet", "layout"}
    assert files_of("timm/resnet10t") == {"external", "layout"}
    assert files_of("user_models:linear") == {"user_models"}


def test_the_attention_rule_counts_and_a_users_rule_too(package: Package) -> None:
    rule = LAYERS.replace("def forward(self, x):\n        return 2 * x", "def forward(self, q, k, v, mask=None):\n")
    (package.folder / "rule.py").write_text(rule + "        return v + 0 * q\n")

    def sha256(attention: str) -> str:
        model = mb.make_model("vit", TASK.info, attention=attention)
        return code_sha256(model, models.builder("vit"))

    mine = sha256(f"{package.name}.rule:Scale")
    assert len({mine, sha256("softmax"), sha256("heat")}) == 3
    package.change("rule", "0 * q", "0.5 * q")
    assert sha256(f"{package.name}.rule:Scale") != mine


@pytest.mark.parametrize("named", [True, False])
def test_a_model_without_a_source_file_is_refused(named: bool) -> None:
    namespace: dict[str, Any] = {"nn": nn, "__name__": __name__} if named else {"nn": nn}
    exec("class Net(nn.Module):\n    def forward(self, x):\n        return x\n", namespace)
    with pytest.raises(ModelError, match=r"the code of Net \(module .*\) is in no source file"):
        code_sha256(namespace["Net"](), models.builder("vit"))
    exec("def build(info):\n    return nn.Flatten()\n", namespace)
    with pytest.raises(ModelError, match=r"the code of build \(module .*\) is in no source file"):
        code_sha256(nn.Flatten(), namespace["build"])


def test_a_file_that_cannot_be_parsed_is_named(package: Package) -> None:
    package.sha256()
    package.change("late", "def last", "def def last")
    with pytest.raises(ModelError, match=r"late\.py is part of the model's code and cannot be read"):
        package.sha256()


def test_syntax_is_reduced_to_named_fields_without_words_and_positions() -> None:
    text = "from multistep_bench.x import f as g\nimport a\n\n'''Text.'''\nif a:\n    raise E('words') from None\n"
    assert reduced(ast.parse(text)).splitlines() == [
        "a as a",
        "multistep_bench:f as g",
        "If(body=[Raise(cause=Constant(None),exc=Name(id='E'))],test=Name(id='a'))",
    ]


def test_every_version_of_python_gives_the_same_hash() -> None:
    text = """
@d(1, *a, x="\u00e9", y=-1.5, z=None, w=b"\\x00", v=1j, u=...)
def f(p, /, q: int = 3, *, r, s=None, **t) -> None:
    with a as (x, y):
        x[1:, ::2] = {**p, "k": q}
    try:
        return f"{p!r:>{q}} and {s=}"
    except* ValueError:
        raise
    match p:
        case {"a": [1, *rest]} | None if rest:
            assert rest, "words"
"""
    assert parsed(text.encode()).sha256 == "6072a06880acd1126b47e19907ecdf28288b3890774a948856606567910e6e7d"
