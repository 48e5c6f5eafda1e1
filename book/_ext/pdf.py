"""The whole book as one PDF beside its pages, with a link to it, where `make pdf` has made one."""

import shutil
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


def find_pdf(app: Sphinx) -> Path | None:
    """Of the HTML pages alone: the single page that is printed as this file needs no link to it."""
    path = Path(app.outdir).parent / "nest.pdf"
    return path if app.builder.name == "html" and path.is_file() else None


class PdfLink(SphinxDirective):
    """A line that offers the PDF; nothing where there is none."""

    def run(self) -> list[nodes.Node]:
        app = self.env.app
        self.env.note_dependency(str(Path(app.outdir).parent / "nest.pdf"))
        pdf = find_pdf(app)
        if pdf is None:
            return []
        to_root = "../" * self.env.docname.count("/")
        text = f"The whole book as one PDF ({pdf.stat().st_size / 1e6:.1f} MB)"
        link = nodes.reference("", text, refuri=f"{to_root}{pdf.name}", internal=False)
        return [nodes.paragraph("", "", link)]


def copy_pdf(app: Sphinx, exception: Exception | None) -> None:
    if exception is None and (pdf := find_pdf(app)):
        shutil.copy2(pdf, app.outdir)


def setup(app: Sphinx) -> dict:
    app.add_directive("pdf-link", PdfLink)
    app.connect("build-finished", copy_pdf)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
