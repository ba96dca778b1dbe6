"""Names resolve to factories, and a wrong name or a broken plug-in is said clearly."""

import subprocess
import sys
from importlib.metadata import EntryPoint
from types import ModuleType

import pytest

from multistep_bench import registry
from multistep_bench.errors import BenchError, NotFound
from multistep_bench.registry import Registry


@pytest.fixture
def colours(monkeypatch: pytest.MonkeyPatch) -> Registry:
    """A registry with one built-in name."""
    package = ModuleType("test_colours")
    vars(package)["BUILTIN"] = {"fractions": "fractions"}
    monkeypatch.setitem(sys.modules, package.__name__, package)
    return Registry("colour", package=package.__name__, group="multistep_bench.test_colours")


def test_a_registered_factory_is_found_and_listed(colours: Registry) -> None:
    @colours.register("red")
    def red() -> str:
        return "red"

    assert colours.get("red")() == "red"
    assert colours.names() == ["fractions", "red"]


def test_a_taken_name_is_an_error(colours: Registry) -> None:
    colours.register("red")(lambda: 1)
    with pytest.raises(BenchError, match="colour 'red' is already registered"):
        colours.register("red")(dict)


def test_a_built_in_name_cannot_be_taken_before_it_is_loaded(colours: Registry) -> None:
    with pytest.raises(BenchError, match="colour 'fractions' is already registered by fractions"):
        colours.register("fractions")(dict)


def test_the_same_definition_may_be_registered_again(colours: Registry) -> None:
    """As when a worker process imports the user's script a second time."""
    colours.register("red")(dict)
    colours.register("red")(dict)
    assert colours.get("red") is dict


def test_an_unknown_name_suggests_the_closest(colours: Registry) -> None:
    colours.register("crimson")(dict)
    with pytest.raises(NotFound, match=r"no colour 'crimsn'. Did you mean 'crimson'\?"):
        colours.get("crimsn")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("user_models:linea", "has no attribute 'linea'"),
        ("no_such_module:build", "No module named 'no_such_module'"),
        ("user_models:not_callable", "is a int, not something to call"),
        ("user models:build", "is not an import path"),
    ],
)
def test_a_bad_import_path_is_one_sentence(colours: Registry, path: str, message: str) -> None:
    with pytest.raises(BenchError, match=message):
        colours.get(path)


def test_a_broken_plugin_is_reported_and_the_others_load(colours: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    points = [
        EntryPoint("good", "collections:OrderedDict", colours.group),
        EntryPoint("bad", "nowhere:x", colours.group),
    ]
    monkeypatch.setattr(registry, "entry_points", lambda group: [point for point in points if point.group == group])
    assert list(colours.broken_plugins()) == ["bad"]
    assert "nowhere" in colours.broken_plugins()["bad"]
    assert colours.get("good")() == {}
    with pytest.raises(BenchError, match="plug-in colour 'bad'"):
        colours.get("bad")


REGISTRIES = [registry.generators, registry.sources, registry.models, registry.attention_rules]


@pytest.mark.parametrize("each", REGISTRIES, ids=lambda each: each.kind)
def test_every_built_in_name_is_registered_by_its_module(each: Registry) -> None:
    for name, module in each.builtin.items():
        assert each.get(name).__module__ == module


@pytest.mark.parametrize(
    "program",
    [
        "import multistep_bench as mb; mb.list_tasks(); mb.list_models()",
        "from multistep_bench.cli import main; main(['list'])",
    ],
    ids=["python", "command line"],
)
def test_importing_and_listing_load_no_torch(program: str) -> None:
    ended = f"try:\n    {program}\nexcept SystemExit as end:\n    assert not end.code\n"
    watched = f"import sys\n{ended}sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", watched], stdout=subprocess.DEVNULL).returncode == 0


def test_the_registry_stands_on_the_ground_floor() -> None:
    """Loading it imports none of the packages whose names it holds."""
    above = [each.package for each in REGISTRIES]
    program = f"import sys, multistep_bench.registry; sys.exit(any(each in sys.modules for each in {above}))"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_every_public_name_exists() -> None:
    import multistep_bench

    for name in multistep_bench.__all__:
        assert getattr(multistep_bench, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'runn'"):
        multistep_bench.runn  # noqa: B018
