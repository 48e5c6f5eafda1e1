"""The library's reference names what is public, and its docstrings come out as they are meant."""

import importlib
import re
import sys
from pathlib import Path

import pytest

import nestlib
import nestlib.explain

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "book" / "reference.md").read_text()
LISTED = re.findall(r"^\.\. auto(?:function|class):: (\S+)$", PAGE, re.MULTILINE)


@pytest.fixture(scope="module")
def docstrings():
    pytest.importorskip("sphinx", reason="needs `pip install 'nestlib[book]'`")
    sys.path.insert(0, str(ROOT / "book" / "_ext"))
    yield importlib.import_module("docstrings")
    sys.path.remove(str(ROOT / "book" / "_ext"))


def test_what_is_listed_exists_and_has_a_docstring():
    assert len(LISTED) == len(set(LISTED)) > 30
    for name in LISTED:
        module, _, attribute = name.rpartition(".")
        assert getattr(importlib.import_module(module), attribute).__doc__, name


@pytest.mark.parametrize("module", [nestlib, nestlib.explain])
def test_public_functions_and_classes_are_listed(module):
    public = {n for n in module.__all__ if callable(getattr(module, n))}
    assert {f"{module.__name__}.{name}" for name in public} <= set(LISTED)


def test_names_with_a_colon_become_items(docstrings):
    lines = [
        "What.",
        "",
        "path (B, L) int64: the child,",
        "    more of it.",
        "a, b: two",
        "",
        "End: of.",
    ]
    assert docstrings.list_items(lines) == [
        "What.", "", "- ``path`` (B, L) int64: the child,", "  more of it.", "- ``a``, ``b``: two",
        "", "End: of.",
    ]  # fmt: skip


def test_what_is_returned_holds_no_type(docstrings):
    lines = ["What.", "", "Returns:", "    {level: (B, C)},", "    more", "", "Raises:", "    x"]
    assert docstrings.mark_returns(lines) == [
        "What.", "", ":returns: {level: (B, C)},", "    more", "", "Raises:", "    x"
    ]  # fmt: skip


def test_a_mixin_does_not_hide_what_nest_takes(docstrings):
    signature, _ = docstrings.sign(
        None, "class", "NesT", nestlib.NesT, None, "(*args, **kwargs)", ""
    )
    assert signature.startswith("(img_size: int | tuple[int, int] = 224, patch_size")
