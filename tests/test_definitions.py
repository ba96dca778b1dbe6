"""The hash of a model that a script or a notebook defines: what changes it, and what does not."""

import importlib
import itertools
import linecache
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import multistep_bench as mb
from multistep_bench.errors import ModelError
from multistep_bench.models.build import builder
from multistep_bench.models.code import code_sha256
from multistep_bench.models.local import name_of

INFO = mb.make_task("two_step_digits-v1").info
COUNT = itertools.count()
CELL = '''
import dataclasses
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

import PACKAGE
import PACKAGE.below
from PACKAGE.blocks import Block

SCALE = 2.0
UNUSED = 1
first = 3
TABLE = {"a": (1, [2.5]), "b": {"x", "y"}}
BIAS = torch.tensor([0.5, 0.25], dtype=torch.bfloat16)
square, cube = lambda x: x**2, lambda x: x**3


@dataclasses.dataclass
class Options:
    width: int = 4
    rate: float = 0.5


def helper(x):
    """Words."""
    return x * SCALE


def recursive(n):
    return 1 if n < 1 else n * recursive(n - 1)


class Base(nn.Module):
    depth = 1

    @property
    def size(self):
        return self.depth + 1

    @staticmethod
    def double(x):
        return 2 * x


class Net(Base):
    """A net."""

    options = Options()

    def __init__(self, task, width=4):
        super().__init__()
        self.block = Block()
        self.first = nn.Flatten()  # an attribute of a global's name
        self.act = square

    def forward(self, x):
        from PACKAGE import late

        x = PACKAGE.below.shift(self.block(F.relu(helper(x))))
        inner = [TABLE["a"][0] * each for each in x]
        return self.act(late.last(x)) + BIAS.float().sum() + recursive(3) + len(inner)


def build(task, **options):
    return Net(task, **options)


def closing(width, act):
    def build(task):
        return nn.Sequential(Net(task, width), Apply())

    class Apply(nn.Module):
        def forward(self, x):
            return act(x)

    return build
'''
FILES = {
    "__init__": "",
    "blocks": "from torch import nn\n\n\nclass Block(nn.Module):\n    def forward(self, x):\n        return 2 * x\n",
    "below": "from . import deeper\n\n\ndef shift(x):\n    return x + deeper.ONE\n",
    "deeper": "ONE = 1\n",
    "late": "def last(x):\n    return x - 1\n",
    "unrelated": "X = 1\n",
}


class Notebook:
    """Cells that are run as a notebook runs them, beside a package of the user's."""

    def __init__(self, root: Path) -> None:
        self.package = f"definitions{next(COUNT)}"
        self.folder = root / self.package
        self.folder.mkdir()
        for name, text in FILES.items():
            (self.folder / f"{name}.py").write_text(text)

    def run(self, text: str = CELL, *, source: bool = True) -> dict[str, Any]:
        text = text.replace("PACKAGE", self.package)
        name = f"<cell {next(COUNT)}>"
        if source:
            linecache.cache[name] = len(text), None, text.splitlines(keepends=True), name
        namespace: dict[str, Any] = {"__name__": "__main__"}
        exec(compile(text, name, "exec"), namespace)
        return namespace

    def sha256(self, text: str = CELL, model: str = "Net", *, source: bool = True) -> str:
        """Of the model that an expression gives in the cell's namespace."""
        given = eval(model, self.run(text, source=source))
        made = builder(str(name_of(given)))
        assert made is given
        return code_sha256(given(INFO), given)


@pytest.fixture
def notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Notebook:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "__main__", ModuleType("__main__"))  # a kernel's has no file, pytest's has one
    return Notebook(tmp_path)


def test_the_same_definitions_run_again_have_the_same_hash(notebook: Notebook) -> None:
    assert notebook.sha256() == notebook.sha256()
    assert notebook.sha256(model="build") == notebook.sha256(model="build") != notebook.sha256()
    assert notebook.sha256(model="closing(2, cube)") == notebook.sha256(model="closing(2, cube)")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""A net."""', '"""Another docstring."""'),
        ('    """Words."""\n', ""),
        ("UNUSED = 1", "UNUSED = 2"),
        ("first = 3", "first = 4"),
        ("    return x * SCALE", "    # scaled\n    return (x  *  SCALE)"),
        ("def closing(width, act):", "print, added = print, 3\n\n\ndef closing(width, act):"),
        ('{"x", "y"}', '{"y", "x"}'),
        ("return Net(task, **options)", "return Net(task, **options, width=5)"),  # build is no part of Net
    ],
)
def test_words_and_what_the_model_does_not_use_change_nothing(notebook: Notebook, old: str, new: str) -> None:
    assert CELL.count(old) == 1
    assert notebook.sha256(CELL.replace(old, new)) == notebook.sha256()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("SCALE = 2.0", "SCALE = 2.5"),  # a global of a function that a method calls
        ("x * SCALE", "x / SCALE"),
        ('"a": (1, [2.5])', '"a": (1, [2.6])'),
        ('{"x", "y"}', '{"x", "z"}'),
        ("[0.5, 0.25]", "[0.5, 0.125]"),
        ("dtype=torch.bfloat16)", "dtype=torch.bfloat16).view(torch.float16)"),  # the same bytes
        ("lambda x: x**2", "lambda x: x**4"),
        ("self.act = square", "self.act = cube"),
        ("width: int = 4", "width: int = 5"),
        ("options = Options()", "options = Options(rate=0.75)"),
        ("depth = 1", "depth = 2"),
        ("self.depth + 1", "self.depth + 2"),
        ("return 2 * x", "return 3 * x"),
        ("def __init__(self, task, width=4)", "def __init__(self, task, width=5)"),
        ("self.act(late.last(x))", "self.act(-late.last(x))"),
        ("n * recursive(n - 1)", "n + recursive(n - 1)"),
        ("class Net(Base)", "class Net(nn.Module)"),
        ("F.relu(", "F.gelu("),
        ("from PACKAGE.blocks import Block", "from torch.nn import Identity as Block"),
    ],
)
def test_what_the_model_does_changes_the_hash(notebook: Notebook, old: str, new: str) -> None:
    assert CELL.count(old) == 1
    assert notebook.sha256(CELL.replace(old, new)) != notebook.sha256()


def test_what_a_base_class_has_changes_the_name_too(notebook: Notebook) -> None:
    deeper = notebook.run(CELL.replace("depth = 1", "depth = 2"))
    assert name_of(notebook.run()["Net"]) == name_of(notebook.run()["Net"]) != name_of(deeper["Net"])


@pytest.mark.parametrize(
    ("model", "other"),
    [
        ("closing(2, square)", "closing(3, square)"),
        ("closing(2, square)", "closing(2, cube)"),  # two lambdas on one line
        ("partial(build, width=2)", "partial(build, width=3)"),
        ("partial(build, width=2)", "build"),
        ("lambda task: Net(task)", "lambda task: Net(task, 2)"),
    ],
)
def test_what_a_function_encloses_counts(notebook: Notebook, model: str, other: str) -> None:
    assert notebook.sha256(model=model) == notebook.sha256(model=model)
    assert notebook.sha256(model=model) != notebook.sha256(model=other)
    namespace = notebook.run()
    assert name_of(eval(model, namespace)) != name_of(eval(other, namespace))


@pytest.mark.parametrize(
    ("name", "old", "new", "counts"),
    [
        ("blocks", "2 * x", "3 * x", True),  # the class of a part
        ("below", "x + deeper", "x - deeper", True),  # reached through the package
        ("deeper", "1", "2", True),  # imported by it
        ("late", "x - 1", "x - 2", True),  # imported in a method
        ("__init__", "", "VERSION = 1\n", True),
        ("unrelated", "1", "2", False),
        ("below", "x + deeper", "(x+deeper", False),
    ],
)
def test_files_of_the_users_modules_count(notebook: Notebook, name: str, old: str, new: str, counts: bool) -> None:
    before = notebook.sha256()
    path = notebook.folder / f"{name}.py"
    text = path.read_text().replace(old, new)
    path.write_text(text if text.count("(") == text.count(")") else text.rstrip() + ")\n")
    assert (notebook.sha256() != before) is counts


def test_the_file_of_a_function_that_is_called_by_its_name_counts(notebook: Notebook) -> None:
    net = "class Net(nn.Flatten):\n    def __init__(self, task):\n        super().__init__()\n\n"
    net += "    def forward(self, x):\n        return last(x)\n"
    cell = f"from PACKAGE.late import last\nfrom torch import nn\n\n\n{net}"
    before = notebook.sha256(cell)
    assert notebook.sha256(cell) == before
    (notebook.folder / "late.py").write_text("def last(x):\n    return x - 2\n")
    assert notebook.sha256(cell) != before


def test_of_a_library_only_what_its_functions_enclose_counts(
    notebook: Notebook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "site-packages"
    place.mkdir()
    monkeypatch.syspath_prepend(place)
    name = f"library{next(COUNT)}"
    cell = f"import {name}\nact = {name}.make(2)\n\n\ndef build(task):\n    return act\n"

    def name_with(body: str, text: str = cell) -> object:
        (place / f"{name}.py").write_text(f"def make(n):\n    def f(x):\n        return {body}\n\n    return f\n")
        sys.modules.pop(name, None)
        importlib.invalidate_caches()
        return name_of(notebook.run(text)["build"])

    assert name_with("x * n") == name_with("x + n * 10")
    assert name_with("x * n") != name_with("x * n", cell.replace("make(2)", "make(3)"))


META = "class Meta(type):\n    depth = 1\n\n\nclass build(metaclass=Meta):\n    pass\n"
ATTRIBUTE = "def build(task):\n    return build.depth\n\n\nbuild.depth = 1\n"
NESTED = "build = (lambda task: (lambda task: 1))(0)\n"


@pytest.mark.parametrize(
    ("cell", "old", "new", "counts"),
    [
        (META, "depth = 1", "depth = 2", True),
        (ATTRIBUTE, "depth = 1", "depth = 2", True),
        (NESTED, "task: 1", "task: 2", True),
        (NESTED, "(lambda task: (", "(lambda task: task or (", False),  # the function around it is gone
    ],
)
def test_definitions_of_other_kinds(notebook: Notebook, cell: str, old: str, new: str, counts: bool) -> None:
    assert old in cell
    name = name_of(notebook.run(cell)["build"])
    assert name == name_of(notebook.run(cell)["build"])
    assert (name != name_of(notebook.run(cell.replace(old, new))["build"])) is counts


def test_without_a_source_the_bytecode_counts(notebook: Notebook) -> None:
    def sha256(text: str = CELL) -> str:
        return notebook.sha256(text, source=False)

    assert sha256() == sha256()
    assert sha256() != notebook.sha256()
    for old, new in (("n * recursive", "n + recursive"), ("SCALE = 2.0", "SCALE = 3.0"), ("depth + 1", "depth + 2")):
        assert sha256(CELL.replace(old, new)) != sha256()
    moved = sha256("\n\n# moved\n" + CELL.replace("UNUSED = 1", "UNUSED = 2"))
    assert moved == sha256()


def test_a_source_that_is_not_that_of_the_code_is_not_believed(notebook: Notebook) -> None:
    namespace = notebook.run()
    name = namespace["helper"].__code__.co_filename
    before = name_of(namespace["Net"])
    _, _, lines, _ = linecache.cache[name]  # type: ignore[misc]
    linecache.cache[name] = 0, None, [line.replace("def helper(x):", "def helper(y):") for line in lines], name
    assert name_of(namespace["Net"]) != before


def test_every_process_gives_the_same_hash(tmp_path: Path) -> None:
    plain = CELL.replace("import PACKAGE\nimport PACKAGE.below\nfrom PACKAGE.blocks import Block\n", "")
    plain = plain.replace("PACKAGE.below.shift(self.block(F.relu(helper(x))))", "helper(x)").replace("late.last", "")
    plain = plain.replace("self.block = Block()", "pass").replace("from PACKAGE import late", "pass")
    asked = "from multistep_bench.models.local import name_of\nprint(name_of(closing(2, cube)))\n"
    asked += "exec(\"def known(task):\\n    return task in {'a', 'b', 'c', 'd'}\\n\")\nprint(name_of(known))\n"
    (tmp_path / "script.py").write_text(plain + asked)
    said = [
        subprocess.run(
            [sys.executable, "script.py"],
            cwd=tmp_path,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert said[0] == said[1]
    assert [line.partition("@")[0] for line in said[0].splitlines()] == ["local/closing.build", "local/known"]


def test_an_object_that_no_other_process_can_have_is_named(notebook: Notebook) -> None:
    namespace = notebook.run(CELL + "\nimport threading\nTABLE['lock'] = threading.Lock()\n")
    with pytest.raises(ModelError, match=r"^\['lock'\] of 'TABLE' of 'forward' of Net is a _thread.lock,") as error:
        name_of(namespace["Net"])
    assert "make it inside Net when that is called" in str(error.value)


def test_an_object_nested_without_end_is_refused(notebook: Notebook) -> None:
    namespace = notebook.run()
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    namespace["TABLE"]["deep"] = deep
    with pytest.raises(ModelError, match="Net refers to objects nested too deep to be hashed"):
        name_of(namespace["Net"])


def test_what_a_notebook_registers_is_hashed_by_its_definitions(notebook: Notebook) -> None:
    """As a builder, whose files would be looked for, and as a part of a model that an installed builder makes."""

    def sha256(text: str = CELL, builder: str = "build") -> str:
        namespace = notebook.run(text)
        return code_sha256(namespace["Net"](INFO), eval(builder, namespace))

    changed = CELL.replace("SCALE = 2.0", "SCALE = 2.5")
    for name in ("build", "nn.Identity"):
        assert sha256(builder=name) == sha256(builder=name) != sha256(changed, name)
    assert sha256(builder="build") != sha256(builder="nn.Identity")
