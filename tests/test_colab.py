"""One setting names the repository: buttons, and the cell that installs from it."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import colab
import nbformat
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "experiments").glob("*.ipynb"))
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text())
LOCAL_EXTENSIONS = CONFIG["sphinx"]["local_extensions"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_first_code_cell_installs_what_the_book_names(path):
    first = next(c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code")
    assert first.source == colab.read_source(), "run: python book/colab.py"
    assert first.metadata["tags"] == colab.TAGS


def test_the_cell_is_added_once_and_follows_the_setting(tmp_path):
    path = tmp_path / "new.ipynb"
    cells = [nbformat.v4.new_markdown_cell("# A page"), nbformat.v4.new_code_cell("1 + 1")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    config = tmp_path / "_config.yml"
    for url in ("https://example.org/a/b", "https://example.org/c/d"):
        config.write_text(f'repository: {{url: "{url}"}}')
        colab.add_cell(path, colab.read_source(config))
        kinds = [(cell.cell_type, cell.source) for cell in nbformat.read(path, as_version=4).cells]
        assert [kind for kind, _ in kinds] == ["markdown", "code", "code"]
        assert f'repository = "{url}"' in kinds[1][1]
        assert kinds[1][1] in path.with_suffix(".py").read_text()


def run_cell(python: Path, folder: Path, repository: str) -> subprocess.CompletedProcess:
    """Run the cell, then say where nestlib is and where we are."""
    script = folder / "cell.ipy"
    cell = colab.SOURCE.format(url=repository)
    where = "import nestlib, os\nprint(nestlib.__file__, os.getcwd(), sep='\\n')"
    script.write_text(f"{cell}\n{where}")
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    return subprocess.run(
        [python, "-m", "IPython", "--no-banner", "--colors=NoColor", script], cwd=folder,
        env=environment | {"PATH": f"{python.parent}:{os.environ['PATH']}"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_the_cell_installs_nestlib_where_it_is_missing(tmp_path):
    """In a new environment that has the other packages, as Colab has many, but no nestlib."""
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    python, packages = venv / "bin" / "python", sysconfig.get_path("purelib")
    own = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    Path(own, "others.pth").write_text(f"{packages}\n")  # whose own .pth, nestlib's, is not read
    nothing = run_cell(python, tmp_path, "")
    assert "no nestlib here: clone its repository" in nothing.stdout + nothing.stderr
    done = run_cell(python, tmp_path, str(ROOT))
    where = done.stdout.splitlines()[-2:]
    assert Path(where[0]).is_relative_to(own), done.stdout + done.stderr
    assert Path(where[1]) == tmp_path / "nest" / "experiments"


@pytest.mark.slow
@pytest.mark.parametrize("url", ["", "https://github.com/owner/name"])
def test_buttons_lead_to_the_notebook_in_the_repository_that_is_named(tmp_path, url):
    config, toc = tmp_path / "_config.yml", tmp_path / "_toc.yml"
    settings = CONFIG | {"repository": CONFIG["repository"] | {"url": url}}
    extensions = {name: str(ROOT / folder) for name, folder in LOCAL_EXTENSIONS.items()}
    settings["sphinx"] = CONFIG["sphinx"] | {"local_extensions": extensions}
    config.write_text(yaml.safe_dump(settings))
    toc.write_text("format: jb-book\nroot: experiments/table_a4\n")
    subprocess.run(
        [Path(sys.executable).parent / "jupyter-book", "build", ".", "--config", config,
         "--toc", toc, "--path-output", tmp_path],
        cwd=ROOT, check=True, capture_output=True,
    )  # fmt: skip
    page = (tmp_path / "_build" / "html" / "experiments" / "table_a4.html").read_text()
    notebook = "experiments/table_a4.ipynb"
    links = [
        f"https://colab.research.google.com/github/owner/name/blob/main/{notebook}",
        f"https://mybinder.org/v2/gh/owner/name/main?urlpath=lab/tree/{notebook}",
        'href="https://github.com/owner/name"',
    ]
    assert [link in page for link in links] == [bool(url)] * 3
    assert ("btn-launch" in page or "launch-buttons" in page) == bool(url)
