"""The library's reference names what is public, and its docstrings come out as they are meant."""

import importlib
import inspect
import re
import sys
from pathlib import Path

import pytest

import nestlib
import nestlib.explain
from nestlib.recipes.recipe import Recipe

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "book" / "reference.md").read_text()
LISTED = re.findall(r"^\.\. auto(?:function|class):: (\S+)$", PAGE, re.MULTILINE)


@pytest.fixture(scope="module")
def repairs():
    pytest.importorskip("sphinx", reason="needs `pip install 'nestlib[book]'`")
    sys.path.insert(0, str(ROOT / "book" / "_ext"))
    yield importlib.import_module("repairs")
    sys.path.remove(str(ROOT / "book" / "_ext"))


def listed() -> dict:
    """What the page documents, by name: the methods of its classes too."""
    found = {}
    for name in LISTED:
        module, _, attribute = name.rpartition(".")
        found[name] = thing = getattr(importlib.import_module(module), attribute)
        if inspect.isclass(thing):
            methods = inspect.getmembers(thing, inspect.isfunction)
            found |= {f"{name}.{n}": f for n, f in methods if n in vars(thing) and n[0] != "_"}
    return found


def test_what_is_listed_exists_and_has_a_docstring():
    assert len(LISTED) == len(set(LISTED)) > 30
    for name in LISTED:
        module, _, attribute = name.rpartition(".")
        assert getattr(importlib.import_module(module), attribute).__doc__, name


def test_the_table_at_the_top_leads_to_all_that_is_listed():
    top, _, _ = PAGE.partition("\n## ")
    linked = re.findall(r"\{py:(func|class)\}`(\w+) <([\w.]+)>`", top)
    assert {full for _, _, full in linked} == set(LISTED)
    for role, shown, full in linked:
        assert full.endswith(f".{shown}")
        assert f".. auto{'function' if role == 'func' else 'class'}:: {full}\n" in PAGE


@pytest.mark.parametrize("module", [nestlib, nestlib.explain])
def test_public_functions_and_classes_are_listed(module):
    public = {n for n in module.__all__ if callable(getattr(module, n))}
    assert {f"{module.__name__}.{name}" for name in public} <= set(LISTED)


def test_fields_of_classes_stand_under_attributes():
    """napoleon makes a list of them there, and running text of lines `name: what it is`."""
    for name, thing in listed().items():
        if inspect.isclass(thing):
            lines = inspect.getdoc(thing).splitlines()
            items = [line for line in lines if re.match(r"[a-z_]\w*( \(.*\).*)?: ", line)]
            assert len(items) < 2, f"{name}: put {items} under Attributes:"


def test_what_is_returned_holds_no_type():
    """Of "Returns:" napoleon takes for a type what stands before a colon in the first line."""
    for name, thing in listed().items():
        first = re.search(r"^Returns:\n(.*)", inspect.getdoc(thing) or "", re.MULTILINE)
        assert not first or ": " not in first[1], f"{name}: {first[1].strip()}"


def test_a_mixin_does_not_hide_what_nest_takes(repairs):
    signature, _ = repairs.sign(None, "class", "NesT", nestlib.NesT, None, "(*args, **kwargs)", "")
    assert signature.startswith("(img_size: int | tuple[int, int] = 224, patch_size")


def test_ranges_of_arguments_stand_in_no_signature(repairs):
    """They are checked; who reads wants the type."""
    for thing in listed().values():
        shown = str(inspect.signature(thing))
        if inspect.isclass(thing) and "Annotated" in shown:
            shown, _ = repairs.sign(None, "class", "", thing, None, shown, "")
        hints = thing.__annotations__ if inspect.isfunction(thing) else {}  # what autodoc shows
        assert "Annotated" not in f"{shown} {hints}", shown
    assert "epochs: int = 300" in repairs.sign(None, "class", "", Recipe, None, "Annotated", "")[0]
