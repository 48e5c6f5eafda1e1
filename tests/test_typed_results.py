"""No result stands on a page by hand: outputs and figures hold them, and words quote the paper.

Looked at is the prose of every page, of every notebook's text cells and of the README, not code. A
number that reads like a result must be one that the paper prints (nestbook.paper), in a paragraph
that says so, or stand in typed_numbers.yml with its exact words and where it is from.
"""

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
import yaml

from nestbook import paper

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*(ROOT / "book").glob("*.md"), *(ROOT / "experiments").glob("*.ipynb"),
                ROOT / "README.md"])  # fmt: skip
LOG = "book/tries.md"  # notes that explain a choice, as its first paragraph says
ALLOWED = yaml.safe_load((Path(__file__).parent / "typed_numbers.yml").read_text())
SOURCES = {"quoted", "setting", "test", "counted"}

NUMBER = r"\d[\d,]*(?:\.\d+)?"
LIST = rf"{NUMBER}(?:(?:\s*,\s*|\s+and\s+|\s+or\s+|\s+to\s+|\s*/\s*){NUMBER})*"
UNIT = (
    r"\s?%|\s*(?:per\s?cent|percentage points|points)\b"
    r"|\s*(?:images|samples|steps)\s?(?:/s\b|a second)"
    r"|\s+million parameters|\s?[GT]FLOPs?\b|\s*(?:x|\u00d7|times)\s+(?:as fast|faster|slower)"
)
MEASURED = (
    rf"(?<![\w.])(?<![A-Za-z]-)(?<!= )(?P<list>{LIST})(?:{UNIT})"
    rf"|(?<![\w.])(?P<spread>{NUMBER}\s*\u00b1\s*{NUMBER})"
    rf"|\b(?:FID|IS|accuracy|error|top-1|top-5|score)\s+(?:is|of|at|was|to)\s+(?P<scored>{NUMBER})"
    rf"|^\|.*?(?P<cell>\d+\.\d+)"
    rf"|(?<![\w./:-])(?P<bare>\d{{2,3}}\.\d{{1,2}})(?![\w.])"
)
RESULT = re.compile(MEASURED, re.MULTILINE)
OF_THE_PAPER = re.compile(r"\b(?:paper|prints?|printed|abstract|section|appendix)\b", re.IGNORECASE)


def collect_numbers(value) -> Iterator[float]:
    """All numbers in nested data."""
    if isinstance(value, bool):
        return
    if isinstance(value, int | float):
        yield float(value)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from collect_numbers(vars(value))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from collect_numbers([key, item])
    elif isinstance(value, list | tuple | set):
        for item in value:
            yield from collect_numbers(item)


PRINTED = {
    number
    for name, value in vars(paper).items() if name.isupper() for number in collect_numbers(value)
}  # fmt: skip


def read_prose(path: Path) -> list[str]:
    """Paragraphs without code; a line of a table is one too."""
    if path.suffix == ".ipynb":
        cells = nbformat.read(path, as_version=4).cells
        text = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    else:
        text = path.read_text()
    text = re.sub(r"<!-- results: .*?<!-- end of results -->", "", text, flags=re.DOTALL)  # written
    text = re.sub(r"^(`{3,}|~{3,}).*?^\1", "", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"(?:(?<=\n\n)|\A)(?: {4}.*\n?)+", "", text)
    text = re.sub(r"`[^`\n]+`|\]\([^)]*\)|^:(?=[\w ]+:)", " ", text, flags=re.MULTILINE)
    blocks = re.split(r"\n\s*\n|\n(?=\||[A-Z][\w ]+: )", text)
    return [block if block.startswith("|") else " ".join(block.split()) for block in blocks]


def find_results(paragraph: str) -> list[str]:
    """What reads like a result and is none of the paper's."""
    found = []
    for match in RESULT.finditer(paragraph):
        numbers = re.findall(NUMBER, next(filter(None, match.groups())))
        whole = "million" in match[0]  # the paper gives model sizes so
        quoted = OF_THE_PAPER.search(paragraph) and all(is_printed(n, whole) for n in numbers)
        if not quoted:
            found.append(match[0])
    return found


def is_printed(number: str, whole: bool) -> bool:
    """Small whole numbers are too common to tell whose they are, but where `whole` is True."""
    value = float(number.replace(",", ""))
    return value in PRINTED and (whole or "." in number or value > 100)


def take_out(paragraph: str, page: str) -> tuple[str, list[str]]:
    """The paragraph without the words that typed_numbers.yml lets stand on this page."""
    used = [entry["words"] for entry in ALLOWED.get(page, []) if entry["words"] in paragraph]
    for words in used:
        paragraph = paragraph.replace(words, " ")
    return paragraph, used


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_no_result_is_typed_by_hand(path):
    page = str(path.relative_to(ROOT))
    if page == LOG:
        assert "They are not results." in path.read_text()[:400]
        return
    typed, used = [], []
    for paragraph in read_prose(path):
        rest, words = take_out(paragraph, page)
        used += words
        typed += [f"{result!r} in: {paragraph[:300]}" for result in find_results(rest)]
    assert typed == [], "let a record's table say it, or name its source in tests/typed_numbers.yml"
    assert sorted(used) == sorted(
        entry["words"] for entry in ALLOWED.get(page, [])
    )  # none is stale


def test_each_exception_is_one_and_names_its_source():
    assert set(ALLOWED) <= {str(path.relative_to(ROOT)) for path in PAGES}
    for page, entries in ALLOWED.items():
        for entry in entries:
            assert set(entry) - {"words"} <= SOURCES and len(entry) == 2, (page, entry)
            assert find_results(entry["words"]), f"{page}: {entry['words']!r} needs no exception"
            if "test" in entry:
                file, function = entry["test"].split("::")
                assert f"\ndef {function}(" in (ROOT / file).read_text(), entry


@pytest.mark.parametrize(
    "typed",
    ["Our NesT-T reaches 95.1 %.", "It stands at 95.12 and 77.05 % here.",
     "54.3 \u00b1 0.2 at n = 3",
     "The paper prints 96.04 %, we get 95.98 %.", "It trains 130 images a second.",
     "NesT-T does 96.04 %.", "an FID of 12.3", "| NesT | 94.31 |", "5.1 times faster than Swin-B",
     "accuracy is 71", "The paper's NesT-T reaches 96.1 %.", "NesT reaches 77.63 there."],
)  # fmt: skip
def test_a_typed_result_is_found(typed):
    assert find_results(typed)


@pytest.mark.parametrize(
    "fair",
    ["The paper prints 96.04 and 78.69 % for NesT-T.", "As printed, at S = 2, 96.04 %.",
     "a weight decay of 0.05, 300 epochs",
     "(section 4.3)", "images of 224 x 224 pixels", "| 0 | 8 \u00d7 8 | (64, 16, 192) |",
     "a rate of 5e-4 for a batch of 128", "arXiv 2105.12723, torch 2.14.1, [D19](d19), CCT-7/3x1"],
)  # fmt: skip
def test_settings_and_the_papers_numbers_are_fair(fair):
    assert find_results(fair) == []
