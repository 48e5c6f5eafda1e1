"""The book as one PDF."""

import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from browsing import NEEDS_BROWSER, ROOT
from test_book import toc_files

pypdf = pytest.importorskip("pypdf", reason="needs `pip install pypdf`")
print_pdf = pytest.importorskip("print_pdf", reason="needs `pip install playwright`")

pytestmark = NEEDS_BROWSER


def title_of(name: str) -> str:
    path = ROOT / f"{name}.md"
    if path.is_file():
        text = path.read_text()
    else:
        cells = nbformat.read(path.with_suffix(".ipynb"), as_version=4).cells
        text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    return re.search(r"^# (.+)$", text, re.MULTILINE)[1]


def plain(text: str) -> str:
    """Letters and digits alone: quotes are made curly, and lines broken anywhere."""
    return "".join(filter(str.isalnum, text))


def build(folder: Path, builder: str) -> None:
    paths = "--config", "_config.yml", "--toc", "book/_toc.yml", "--path-output", str(folder)
    command = [Path(sys.executable).parent / "jupyter-book", "build", ".", *paths]
    subprocess.run([*command, "--builder", builder], cwd=ROOT, check=True, capture_output=True)


@pytest.fixture(scope="module")
def pdf(tmp_path_factory):
    folder = tmp_path_factory.mktemp("book")
    build(folder, "singlehtml")
    print_pdf.print_pdf(folder / "_build" / "singlehtml", folder / "_build" / "nest.pdf")
    return folder / "_build" / "nest.pdf"


def test_the_pdf_holds_every_chapter_with_its_tables_and_figures(pdf):
    reader = pypdf.PdfReader(pdf)
    pages = [page.extract_text() for page in reader.pages]
    assert len(pages) > 2 * len(toc_files())
    text = plain("".join(pages))
    for name in toc_files():
        assert plain(title_of(name)) in text, name
    assert plain("Table 1, accuracy and cost as the paper prints them") in text  # a caption
    assert plain("inference images/s, relative to NesT-T") in text  # an axis of a figure
    links = [
        annotation.get_object().get("/A", {}).get("/URI", "")
        for page in reader.pages for annotation in page.get("/Annots", [])
    ]  # fmt: skip
    assert not [link for link in links if link.startswith("file:")]


def test_the_first_page_offers_the_pdf_where_there_is_one(pdf):
    hidden = pdf.rename(pdf.with_suffix(".away"))
    first = pdf.parent / "html" / "book" / "index.html"
    build(pdf.parent.parent, "html")
    assert "nest.pdf" not in first.read_text()
    hidden.rename(pdf)
    pdf.touch()  # as one just printed
    build(pdf.parent.parent, "html")
    (link,) = re.findall(r'href="([^"]*nest\.pdf)"', first.read_text())
    assert (first.parent / link).read_bytes() == pdf.read_bytes()
