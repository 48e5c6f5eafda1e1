"""Name the repository wherever it is named, from the one setting `repository.url` of _config.yml.

    python book/colab.py      # after a change of the setting, or with a new notebook

It writes the first code cell of every notebook, which installs the project in Colab, and the
address in pyproject.toml, CITATION.cff and the README. With an empty setting no file holds an
address, and the cell does nothing. The cell is left out of the book. Notebooks are edited in place
with their text twins; outputs stay.
"""

import re
from pathlib import Path

import jupytext
import nbformat
import yaml

ROOT = Path(__file__).resolve().parents[1]
TAGS = ["colab", "remove-cell"]
# Colab starts every kernel in /content, so the cell changes folder however often it runs.
SOURCE = """\
# In Colab: clone this project, install it, work in its folder. Elsewhere: do nothing.
import os
import sys
from importlib.util import find_spec

repository = "{url}"  # from _config.yml
if repository and "google.colab" in sys.modules:
    get_ipython().system(f"test -d /content/nest || git clone {repository} /content/nest --depth 1")
    if not find_spec("nestlib"):
        get_ipython().run_line_magic("pip", "install -q /content/nest")
    os.chdir("/content/nest/experiments")
assert find_spec("nestlib"), "no nestlib here: clone its repository, pip install it, run this again"
"""
# Below which line of which file the address stands, and how.
NAMED = {
    "pyproject.toml": ("[project.urls]  # book/colab.py writes it", 'Repository = "{url}"'),
    "CITATION.cff": ("license: Apache-2.0", 'repository-code: "{url}"'),
    "README.md": ("<!-- the address: book/colab.py -->", "Code and notebooks: <{url}>"),
}


def read_url(config: Path = ROOT / "_config.yml") -> str:
    return yaml.safe_load(config.read_text())["repository"]["url"]


def write_source(url: str) -> str:
    """The cell's text for a repository at `url`."""
    return SOURCE.replace("{url}", url).rstrip()


def name_repository(text: str, anchor: str, line: str, url: str) -> str:
    """`text` with the address below its line `anchor`, or with none where `url` is empty."""
    begin = re.escape(line.partition("{url}")[0])
    text = re.sub(rf"^{begin}.*\n", "", text, flags=re.MULTILINE)
    named = f"{line.format(url=url)}\n" if url else ""
    return text.replace(f"{anchor}\n", f"{anchor}\n{named}", 1)


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
    for name, (anchor, line) in NAMED.items():
        file = ROOT / name
        before = file.read_text()
        after = name_repository(before, anchor, line, read_url())
        if after != before:  # make installs anew when pyproject.toml is touched
            file.write_text(after)
    for path in sorted((ROOT / "experiments").glob("*.ipynb")):
        add_cell(path, write_source(read_url()))
        print("wrote", path.relative_to(ROOT))
