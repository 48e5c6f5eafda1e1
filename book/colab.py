"""Give every notebook the cell that installs nestlib in Colab, from the repository of _config.yml.

    python book/colab.py      # after a change of repository.url, or with a new notebook

The cell stands first among the code cells, does nothing where nestlib is there, and is left out of
the book. Notebooks are edited in place with their text twins; outputs stay.
"""

from pathlib import Path

import jupytext
import nbformat
import yaml

ROOT = Path(__file__).resolve().parents[1]
TAGS = ["colab", "remove-cell"]
SOURCE = """\
from importlib.util import find_spec

repository = "{url}"  # this project's address, as in _config.yml; Colab clones it
if find_spec("nestlib") is None and repository:
    get_ipython().system(f"git clone --depth 1 {{repository}} nest && pip install -q ./nest")
    get_ipython().run_line_magic("cd", "nest/experiments")
assert find_spec("nestlib"), "no nestlib here: clone its repository, pip install it, run this again"
"""


def read_source(config: Path = ROOT / "_config.yml") -> str:
    """The cell's text, with the address that the book's configuration names."""
    url = yaml.safe_load(config.read_text())["repository"]["url"]
    return SOURCE.format(url=url).rstrip()


def add_cell(notebook: Path, source: str) -> None:
    nb = nbformat.read(notebook, as_version=4)
    cells = [cell for cell in nb.cells if "colab" in cell.metadata.get("tags", [])]
    if cells:
        (cell,) = cells
        nb.cells.remove(cell)
    else:
        cell = nbformat.v4.new_code_cell(id="colab", metadata={"tags": TAGS})
    if cell.source != source:
        cell.update(source=source, outputs=[], execution_count=None)
    first = next(i for i, other in enumerate(nb.cells) if other.cell_type == "code")
    nb.cells.insert(first, cell)
    nbformat.write(nb, notebook)
    # The twin is held to the notebook by tests/test_notebooks.py.
    config = jupytext.config.load_jupytext_config(str(notebook))
    jupytext.write(nb, notebook.with_suffix(".py"), fmt="py:percent", config=config)


if __name__ == "__main__":
    for path in sorted((ROOT / "experiments").glob("*.ipynb")):
        add_cell(path, read_source())
        print("wrote", path.relative_to(ROOT))
