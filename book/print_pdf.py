"""Print the book's single page, which `jupyter-book build --builder singlehtml` makes, as a PDF.

    python book/print_pdf.py _build/singlehtml _build/nest.pdf

Chromium prints it, as a reader's browser would: tables, formulas and figures are the pages' own.
"""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import Error, sync_playwright

NUMBER = (
    '<p style="font-size:8px;width:100%;text-align:center"><span class="pageNumber"></span></p>'
)
MARGIN = {"top": "15mm", "right": "15mm", "bottom": "18mm", "left": "15mm"}
# Links from chapter to chapter stay inside the file; those to other files of the book, such as
# records, would lead to where it was printed, and are plain words.
KEEP_LINKS = """() => {
  document.querySelectorAll('a[href^="book/index.html#"]').forEach(
    link => link.setAttribute("href", "#" + link.getAttribute("href").split("#")[1]));
  document.querySelectorAll("a[href]").forEach(link => {
    if (link.protocol === "file:" && !link.getAttribute("href").startsWith("#"))
      link.removeAttribute("href");
  });
}"""


def print_pdf(folder: Path, pdf: Path) -> None:
    """Raises RuntimeError where there is no Chromium."""
    # Sphinx writes the page where the root stands, with addresses that hold one folder higher.
    page = shutil.copy(folder / "book" / "index.html", folder / "index.html")
    with sync_playwright() as driver:
        try:
            browser = driver.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
            )
        except Error as error:
            raise RuntimeError("no Chromium found; on Debian: apt-get install chromium") from error
        tab = browser.new_page(color_scheme="light")
        tab.goto(Path(page).resolve().as_uri(), wait_until="load")
        tab.evaluate(KEEP_LINKS)
        tab.pdf(
            path=pdf, format="A4", margin=MARGIN, print_background=True, outline=True, tagged=True,
            display_header_footer=True, header_template="<span></span>", footer_template=NUMBER,
        )  # fmt: skip
        browser.close()


if __name__ == "__main__":
    print_pdf(Path(sys.argv[1]), Path(sys.argv[2]))
    print("Wrote", sys.argv[2])
