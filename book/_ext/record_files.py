"""The committed records lie beside the page that lists them, so that its links open the files."""

import shutil
from pathlib import Path

from sphinx.application import Sphinx

FOLDER = "experiments/records"


def copy_records(app: Sphinx, exception: Exception | None) -> None:
    if exception is None and app.builder.format == "html":
        target = Path(app.outdir, FOLDER)
        shutil.rmtree(target, ignore_errors=True)  # no record that is gone
        shutil.copytree(Path(app.srcdir, FOLDER), target)


def setup(app: Sphinx) -> dict:
    app.connect("build-finished", copy_records)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
