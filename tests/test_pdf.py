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


def test_the_pdf_holds_every_chapter_with_its_tables_and_figures(tmp_path):
    paths = "--config", "_config.yml", "--toc", "book/_toc.yml", "--path-output", str(tmp_path)
    subprocess.run(
        [Path(sys.executable).parent / "jupyter-book", "build", ".", *paths, "--builder",
         "singlehtml"],
        cwd=ROOT, check=True, capture_output=True,
    )  # fmt: skip
    pdf = tmp_path / "nest.pdf"
    print_pdf.print_pdf(tmp_path / "_build" / "singlehtml", pdf)
    reader = pypdf.PdfReader(pdf)
    pages = [page.extract_text() for page in reader.pages]
    assert len(pages) > 2 * len(toc_files())
    text = plain("".join(pages))
    for name in toc_files():
        assert plain(title_of(name)) in text, name
    assert plain("Table 1, accuracy: top-1 on CIFAR test sets") in text  # a caption
    assert plain("inference images/s, relative to NesT-T") in text  # an axis of a figure
    links = [
        annotation.get_object().get("/A", {}).get("/URI", "")
        for page in reader.pages for annotation in page.get("/Annots", [])
    ]  # fmt: skip
    assert not [link for link in links if link.startswith("file:")]
