"""Another package adds a model, a recipe and a command to nestlib by a module that it names."""

import importlib.util
import os
import subprocess
import sys
from types import ModuleType

import pytest

from nestlib import extensions as holder
from nestlib.cli.runs import describe_reached
from nestlib.extensions import extended, extensions
from nestlib.models import create_model, list_models
from nestlib.recipes.named import get_recipe, list_recipes
from nestlib.records import Store
from nestlib.runs.run import carry_out

MODULE = '''
def build(*, num_classes, img_size, drop_path_rate=0.0):
    from torch import nn

    return nn.Sequential(nn.Flatten(), nn.Linear(3 * img_size**2, num_classes))


def models():
    return {"linear": build}


def recipes():
    return {"digits/linear": ("a linear model", {"model": "linear"})}


def expected():
    return {"digits/linear": "paper 12 %"}


def greet(name: str) -> None:
    """Say a name."""
    print(f"hello {name}")


def commands():
    return {"greet": greet}
'''


@pytest.fixture
def other(tmp_path, monkeypatch):
    """A module as another package would have it, beside the installed ones; its path."""
    path = tmp_path / "other_package.py"
    path.write_text(MODULE)
    spec = importlib.util.spec_from_file_location("other_package", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    install(monkeypatch, *extensions(), module)
    return module


def install(monkeypatch, *modules):
    monkeypatch.setattr("nestlib.extensions.extensions", lambda: modules)


def test_its_model_and_recipe_are_there_beside_nestlibs(other, tmp_path):
    assert {"linear", "nest_tiny_cifar"} <= set(list_models())
    assert create_model("linear", num_classes=7, img_size=8)[1].out_features == 7
    assert {"digits/linear", "digits/nest_narrow"} <= set(list_recipes())
    recipe = get_recipe("digits/linear")
    assert recipe.batch_size == get_recipe("digits/nest_narrow").batch_size
    store = Store(tmp_path / "committed", tmp_path / "local")
    record = carry_out(recipe.at_budget("smoke"), store, device="cpu", progress_bar=False)
    assert record.recipe["model"] == "linear"
    assert describe_reached([record]).startswith("here ")


def test_a_name_stands_for_one_thing(other, monkeypatch):
    install(monkeypatch, other, other)
    with pytest.raises(ValueError, match=r"other_package adds models .* has: linear; rename"):
        list_models()
    with pytest.raises(ValueError, match="has: linear"):
        extended({"linear": None}, "models")


def test_what_an_extension_does_not_have_is_left_out(other):
    assert "linear" not in extended({}, "generators")
    assert extended({"own": 1}, "no_such_function") == {"own": 1}


def test_its_command_and_its_recipe_are_there_where_it_is_installed(tmp_path):
    """By the entry point of a package, as pip installs it; nothing of it takes torch."""
    (tmp_path / "other_package.py").write_text(MODULE)
    package = tmp_path / "other_package-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: other_package\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text("[nestlib.extensions]\nother = other_package\n")
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])

    def nest(*words):
        script = (
            f"import sys; sys.argv = ['nest', *{words}]\n"
            "from nestlib.cli.main import main\n"
            "try: main()\n"
            "finally: assert 'torch' not in sys.modules"
        )
        done = subprocess.run(
            [sys.executable, "-c", script], env=os.environ | {"PYTHONPATH": path},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        return done.stdout

    assert nest("greet", "Ada") == "hello Ada\n"
    assert "digits/linear" in nest("recipes", "linear")
    assert nest("recipes", "linear").rstrip().endswith("a linear model; paper 12 %; budget quick")


def test_an_extension_that_is_not_installed_is_registered(monkeypatch):
    module = ModuleType("beside")
    module.recipes = lambda: {"digits/beside": ("beside", {})}
    monkeypatch.setattr(holder, "_REGISTERED", [])
    try:
        holder.register(module)
        holder.register(module)  # twice is once
        assert extensions().count(module) == 1
        assert "digits/beside" in extended({}, "recipes")
    finally:
        holder._REGISTERED.clear()
        extensions.cache_clear()
