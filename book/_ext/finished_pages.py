"""No page is rendered from a notebook that did not run to its end with its default parameters."""

from pathlib import Path

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.errors import ExtensionError

from nestbook.finished import find_fault


def refuse(app: Sphinx, env: BuildEnvironment, docnames: list[str]) -> None:
    paths = [Path(env.doc2path(name, base=False)) for name in docnames]
    told = [
        f"{path} is unfinished: {fault}. Mend that, then run: make notebooks NOTEBOOKS={path}"
        for path in paths if path.suffix == ".ipynb" and (fault := find_fault(app.srcdir / path))
    ]  # fmt: skip
    if told:
        raise ExtensionError("\n".join(told))


def setup(app: Sphinx) -> dict:
    app.connect("env-before-read-docs", refuse)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
