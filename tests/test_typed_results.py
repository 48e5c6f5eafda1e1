"""Results on pages come from records and figure files: none is typed by hand into the text.

What looks like a result in a page's own words must be a number that the paper prints, or one quoted
from elsewhere, named here. Two pages are left out: differences.md gives evidence for each entry, by
test, and tries.md says itself that its numbers are notes and no results.
"""

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import jupytext
import pytest

import nestlib.paper

ROOT = Path(__file__).parents[1]
LEFT_OUT = {"differences.md", "tries.md"}
PAGES = [
    *(path for path in sorted((ROOT / "book").glob("*.md")) if path.name not in LEFT_OUT),
    *sorted((ROOT / "experiments").glob("*.py")),
]
QUOTED = {
    "table1.py": {94.78, 77.05, 96.53, 80.92},  # CCT's authors, then and now
    "speed.py": {1391},  # timm's published results
}
# 77.63, or a number before a unit that results have; no part of a name, path or version.
RESULT = re.compile(
    r"(?<![\w./:-])(?:\d{2,3}\.\d{1,2}|\d[\d,]*(?:\.\d+)?(?= ?(?:%|images/s|± |points)))(?![\w.\d])"
)


def numbers_in(value) -> Iterator[float]:
    """All numbers in the paper's data, whatever holds them."""
    if isinstance(value, bool):
        return
    if isinstance(value, int | float):
        yield float(value)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from numbers_in(vars(value))
    elif isinstance(value, dict):
        yield from numbers_in([*value.keys(), *value.values()])
    elif isinstance(value, list | tuple):
        for item in value:
            yield from numbers_in(item)


PRINTED = {n for name, v in vars(nestlib.paper).items() if name[0].isupper() for n in numbers_in(v)}


def own_words(path: Path) -> str:
    """A page's text, or a notebook's Markdown cells; code and included files left out."""
    text = path.read_text()
    if path.suffix == ".py":
        cells = jupytext.reads(text, "py:percent").cells
        text = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def results_in(text: str) -> set[float]:
    return {float(found.replace(",", "")) for found in RESULT.findall(text)}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_no_result_is_typed_into_a_page(path):
    typed = results_in(own_words(path)) - PRINTED - QUOTED.get(path.name, set())
    assert not typed, f"{path.name} types {typed}: include the figure's file or name the source"


@pytest.mark.parametrize(
    "text",
    ["NesT reaches 77.63 there.", "1,617 images/s", "70.6 ± 2.3", "better by 3.45 points", "41 %"],
)
def test_typed_results_would_be_found(text):
    assert results_in(text) - PRINTED


def test_names_and_versions_are_no_results():
    text = (
        "arXiv 2105.12723, torch 2.14.1, img_size=224, [D19](d19), 3x3, CCT-7/3x1, seeds: int = 3"
    )
    assert not results_in(text)
